"""What must hold of an artifact before anything of it is used: its files, its settings, its graphs, in that order."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.artifact import Artifact
from compressor.errors import ArtifactError
from compressor.inspector import Inspector
from compressor.manifest import check_links
from compressor.untrusted import check_settings
from exporters.layout import CASES, GRAPH

_TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Finding:
    """One thing that was checked and holds."""

    check: str
    found: str

    def as_dict(self) -> dict[str, Any]:
        return {"check": self.check, "passed": True, "found": self.found}


def inspect(folder: Path) -> Iterator[Finding]:
    """Yield what holds of the artifact in ``folder``, check by check; ArtifactError at the first fault.

    Files first: sizes and hashes against the manifest, nothing more and nothing less than it names. Then what the
    manifest cannot vouch for, for whoever writes a folder writes its manifest too: settings that name code or
    pickles, and graphs, which are opened in a process of their own. Last, whether this machine gives what the
    conformance set states.
    """
    with Inspector() as inspector:  # it starts while the files are hashed
        artifact = Artifact.open(folder)
        check_links(folder)
        size = sum(entry["size"] for entry in artifact.manifest["files"].values())
        yield Finding("files", f"{len(artifact.manifest['files'])} files, {size / 1e6:.1f} MB, as manifest.json says")
        yield Finding("settings", f"{check_settings(folder, artifact.manifest['files'])} read; no code, no pickles")
        yield from _graphs(artifact, inspector)
    if CASES.as_posix() in artifact.manifest["files"]:
        from exporters.conformance import check_conformance  # brings ONNX Runtime along

        yield Finding("conformance", f"{check_conformance(folder)} texts give the stated tokens and outputs")


def _graphs(artifact: Artifact, inspector: Inspector) -> Iterator[Finding]:
    files = artifact.manifest["files"]
    graphs = {entry["sha256"]: name for name, entry in files.items() if name.endswith(".onnx")}
    if not graphs:
        raise ArtifactError(f"{artifact.folder}: no {GRAPH}; not an artifact with an ONNX graph")
    own = inspector
    for number, name in enumerate(sorted(graphs.values())):
        wanted = {"graph": _named(artifact, name)}
        if not number and _TOKENIZER in files:
            wanted["tokenizer"] = _named(artifact, _TOKENIZER)
        with own if not number else Inspector() as process:
            yield Finding("graph", _told(name, process.ask(artifact.folder / name, wanted)))


def _named(artifact: Artifact, name: str) -> dict[str, Any]:
    return {"path": str((artifact.folder / name).absolute()), **artifact.manifest["files"][name]}


def _told(name: str, found: Mapping[str, Any]) -> str:
    made = f"vectors of {found['dim']}" if found["dim"] else "logits"
    used = f", {found['peak_bytes'] >> 20} MiB" if "peak_bytes" in found else ""
    bounds = "" if found["limited"] else "; memory is not bounded on this system, time is"
    return f"{name}: {sum(found['operators'].values())} known operators, runs and gives {made}{used}{bounds}"
