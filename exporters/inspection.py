"""What must hold of an artifact before anything of it is used: its files, its settings, its graphs, in that order."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.artifact import Artifact
from compressor.errors import ArtifactError
from compressor.inspector import Inspector
from compressor.manifest import check_links
from compressor.strict_json import read_json
from compressor.untrusted import check_settings
from exporters.layout import CASES, GRAPH

_TOKENIZER = "tokenizer.json"
_REGISTER = "register.json"
_FORMS = {"pack/tokenizer-in-graph": "text", "pack/opensearch": "pooled"}  # of the views that change what a graph takes
_SUFFIXES = {"pack/opensearch": ".zip", "pack/ort": ".ort"}  # and of those that hold it in another file


@dataclass(frozen=True)
class Finding:
    """One thing that was checked and holds; or that could not be checked here, or was left out, and why."""

    check: str
    found: str
    checked: bool = True

    def as_dict(self) -> dict[str, Any]:
        return {"check": self.check, "passed": self.checked or None, "found": self.found}


def inspect(folder: Path) -> Iterator[Finding]:
    """Yield what holds of the artifact or packed view in ``folder``, check by check; ArtifactError at the first fault.

    Files first: sizes and hashes against the manifest, nothing more and nothing less than it names. Then what the
    manifest cannot vouch for, for whoever writes a folder writes its manifest too: settings that name code or
    pickles, and graphs, which are opened in a process of their own. There, too, it is seen whether this machine gives
    what the conformance set states.
    """
    with Inspector() as inspector:  # it starts while the files are hashed
        artifact = Artifact.open(folder)
        check_links(folder)
        size = sum(entry["size"] for entry in artifact.manifest["files"].values())
        yield Finding("files", f"{len(artifact.manifest['files'])} files, {size / 1e6:.1f} MB, as manifest.json says")
        if artifact.strays:
            yield Finding("strays", f"{_listed(artifact.strays)}: not named in manifest.json, and not read", False)
        yield Finding("settings", f"{check_settings(folder, artifact.manifest['files'])} read; no code, no pickles")
        yield from _graphs(artifact, inspector)


def _graphs(artifact: Artifact, inspector: Inspector) -> Iterator[Finding]:
    files = artifact.manifest["files"]
    suffixes = (".onnx", _SUFFIXES.get(_stage(artifact), ".onnx"))
    names = [name for name in sorted(files, reverse=True) if name.endswith(suffixes)]
    graphs = sorted({files[name]["sha256"]: name for name in names}.values())
    if not graphs:
        raise ArtifactError(f"{artifact.folder}: no {GRAPH}; not an artifact with an ONNX graph")
    first, *others = graphs
    tokenizer = {"tokenizer": _named(artifact, _TOKENIZER)} if _TOKENIZER in files else {}
    yield from _graph(artifact, first, tokenizer, inspector)
    for name in others:
        with Inspector() as process:
            yield from _graph(artifact, name, tokenizer, process)


def _graph(artifact: Artifact, name: str, wanted: dict[str, Any], inspector: Inspector) -> Iterator[Finding]:
    if name.endswith(".zip"):
        _check_register(artifact, name)
        wanted = {"archive": _named(artifact, name)}
    else:
        wanted = wanted | {"graph": _named(artifact, name)}
    if name == GRAPH.as_posix() and CASES.as_posix() in artifact.manifest["files"]:
        wanted["cases"] = _named(artifact, CASES.as_posix())
    found = inspector.ask(artifact.folder / name, wanted, _FORMS.get(_stage(artifact), "ids"))
    yield Finding("graph", _told(name, found), "unrun" not in found)
    if "cases" in found:
        yield Finding("conformance", f"{found['cases']} texts give the stated tokens and outputs")


def _stage(artifact: Artifact) -> str:
    return str(artifact.manifest.get("stage"))


def _named(artifact: Artifact, name: str) -> dict[str, Any]:
    return {"path": str((artifact.folder / name).absolute()), **artifact.manifest["files"][name]}


def _check_register(artifact: Artifact, archive: str) -> None:
    """Refuse a request that registers another archive than the one beside it."""
    path, entry = artifact.folder / _REGISTER, artifact.manifest["files"][archive]
    try:
        said = read_json(path)
        stated = said["model_content_hash_value"], said["model_content_size_in_bytes"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ArtifactError(f"{path}: not there, or states no size and hash of {archive}") from error
    if stated != (entry["sha256"], entry["size"]):
        raise ArtifactError(f"{path}: its size and hash are not those of {archive}")


def _told(name: str, found: Mapping[str, Any]) -> str:
    known = f"{name}: {sum(found['operators'].values())} known operators"
    if "unrun" in found:
        return f"{known}; not run, {found['unrun']} (pip install 'compressor[extensions]')"
    made = f"vectors of {found['dim']}" if found["dim"] else "logits"
    used = f", {found['peak_bytes'] >> 20} MiB" if "peak_bytes" in found else ""
    bounds = "" if found["limited"] else "; memory is not bounded on this system, time is"
    return f"{known}, runs and gives {made}{used}{bounds}"


def _listed(names: tuple[str, ...]) -> str:
    """Return the names at the top, a folder once with how many files it has."""
    counts: dict[str, int] = {}
    for name in names:
        top = name.partition("/")[0]
        counts[top] = counts.get(top, 0) + 1
    return ", ".join(ascii(top)[1:-1] + (f" ({count} files)" if count > 1 else "") for top, count in counts.items())
