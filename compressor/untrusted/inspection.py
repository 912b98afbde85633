"""What must hold of an artifact before anything of it is used: its files, its settings, its graphs, in that order."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from compressor.artifact.allowed import check_names, has_conformance
from compressor.artifact.cases import truncation_of
from compressor.artifact.folder import Artifact
from compressor.artifact.layout import CASES, GRAPH, READING
from compressor.artifact.manifest import check_links
from compressor.artifact.prompts import Prompts, kept_prompts
from compressor.core.errors import ArtifactError
from compressor.core.strict_json import JsonObject, read_json
from compressor.untrusted.inspector import Inspector
from compressor.untrusted.projection import check_projection
from compressor.untrusted.router import LISTS, check_router
from compressor.untrusted.served import check_served
from compressor.untrusted.settings import check_settings

_TOKENIZER = "tokenizer.json"
_PROJECTION = "projection.safetensors"
_REGISTER = "register.json"
_REQUEST = {
    "name", "version", "description", "function_name", "model_task_type", "model_format",
    "model_content_size_in_bytes", "model_content_hash_value", "model_config", "url",
}  # fmt: skip
_CONFIG = {
    "model_type", "embedding_dimension", "framework_type", "pooling_mode", "normalize_result", "model_max_length",
    "all_config", "query_prefix", "passage_prefix",
}  # fmt: skip
_FORMS = {"pack/tokenizer-in-graph": "text", "pack/opensearch": "pooled"}  # of the views that change what a graph takes
_LENGTHS = {"sentence_bert_config.json": "max_seq_length", READING: "max_length"}  # of a text or window, in tokens
_ROUTER = "pack/router"  # the one view without a graph
_SUFFIXES = {"pack/opensearch": ".zip", "pack/ort": ".ort"}  # and of those that hold it in another file


@dataclass(frozen=True)
class Finding:
    """One thing that was checked and holds; or that could not be checked here, or was left out, and why."""

    check: str
    found: str
    checked: bool = True

    def as_dict(self) -> JsonObject:
        return {"check": self.check, "passed": self.checked or None, "found": self.found}


def inspect(folder: Path) -> Iterator[Finding]:
    """Yield what holds of the artifact or packed view in ``folder``, check by check; ArtifactError at the first fault.

    Files first: sizes and hashes against the manifest, nothing more and nothing less than it names. Then what the
    manifest cannot vouch for, for whoever writes a folder writes its manifest too: files that this project never
    writes, settings that name code or pickles, and the graph, which is opened in a process of its own. There, too, it
    is seen whether this machine gives what the conformance set states.
    """
    with Inspector() as inspector:  # it starts while the files are hashed
        artifact = Artifact.open(folder)
        check_links(folder)
        size = sum(entry["size"] for entry in artifact.manifest["files"].values())
        yield Finding("files", f"{len(artifact.manifest['files'])} files, {size / 1e6:.1f} MB, as manifest.json says")
        if artifact.strays:
            yield Finding("strays", f"{_listed(artifact.strays)}: not named in manifest.json, and not read", False)
        graph = None if _stage(artifact) == _ROUTER else _first_graph(artifact)
        check_names(folder, artifact.manifest)
        if graph is None:
            yield from _routes(artifact)
        else:
            yield from _settings(artifact)
            yield from _graph(artifact, graph, inspector)


def check(folder: Path) -> None:
    """Hold an artifact or a packed view to all that ``inspect`` looks at; ArtifactError at the first fault."""
    for _ in inspect(folder):
        pass


def _routes(artifact: Artifact) -> Iterator[Finding]:
    """Check a view of PyTorch's modules: their lists, settings and weights, and each tokenizer in a process apart."""
    folder, files = artifact.folder, artifact.manifest["files"]
    count = check_router(folder) + check_settings(folder, [name for name in files if name not in LISTS])
    yield Finding("settings", f"{count} read; no code, no pickles")
    tokenizers = [name for name in sorted(files) if PurePosixPath(name).name == _TOKENIZER]
    for name in tokenizers:
        with Inspector() as inspector:
            inspector.ask(folder / name, {"tokenizer": _named(artifact, name)})
    yield Finding("tokenizers", f"{len(tokenizers)} opened")
    yield Finding("graph", "none: weights for PyTorch, whose vectors were compared with none", False)


def _settings(artifact: Artifact) -> Iterator[Finding]:
    folder, files = artifact.folder, artifact.manifest["files"]
    served, source = check_served(folder, files)
    count = check_settings(folder, files) + served
    code = "no code but the runners as they were shipped" if has_conformance(folder, artifact.manifest) else "no code"
    yield Finding("settings", f"{count} read; {code}, no pickles")
    if source:
        yield Finding("service", f"takes its model from {source}, where it was not looked at", False)


def _graph(artifact: Artifact, name: str, inspector: Inspector) -> Iterator[Finding]:
    """Have the one graph of a folder opened, and held against the conformance set where there is one."""
    if second := next((graph for graph in _graphs(artifact) if graph != name), None):
        raise ArtifactError(f"{artifact.folder / second}: a second graph, beside {name}; a folder has one")
    files = artifact.manifest["files"]
    wanted: dict[str, Any] = {"graph": _named(artifact, name)}
    if name.endswith(".zip"):
        _check_register(artifact, name)
        wanted = {"archive": _named(artifact, name)}
    elif _TOKENIZER in files:
        wanted["tokenizer"] = _named(artifact, _TOKENIZER)
    compared = has_conformance(artifact.folder, artifact.manifest)
    if compared:
        wanted["cases"] = _named(artifact, CASES.as_posix())
    truncation = truncation_of(artifact.folder) if compared else None
    prompts = kept_prompts(artifact.folder) if compared else Prompts({})
    form, length = _FORMS.get(_stage(artifact), "ids"), _length(artifact)
    found = inspector.ask(artifact.folder / name, wanted, form, truncation, length, asdict(prompts))
    yield Finding("graph", _graph_facts(name, found), "unrun" not in found)
    if _PROJECTION in files:
        width = check_projection(artifact.folder / _PROJECTION, found["dim"], artifact.figures)
        yield Finding("projection", f"turns the teacher's vectors of {width} into ones of {found['dim']}")
    if compared:
        yield from _conformance(found["cases"], found["prompted"], prompts)
    else:
        yield Finding("conformance", f"no {CASES} in this folder: outputs were compared with none", False)


def _conformance(cases: int, prompted: int, prompts: Prompts) -> Iterator[Finding]:
    behind = f", {prompted} of them behind a prompt," if prompted else ""
    yield Finding("conformance", f"{cases} texts{behind} give the stated tokens and outputs")
    if prompts.stated and not prompted:
        stated = f"{CASES} has no text behind the model's prompts ({len(prompts.stated)}), as of earlier releases"
        yield Finding("prompts", f"{stated}: what they make was compared with nothing", False)


def _length(artifact: Artifact) -> dict[str, Any] | None:
    """Return how many tokens are read of a text, or of a window, and where that is stated; None where nothing says."""
    for name, field in _LENGTHS.items():
        if name in artifact.manifest["files"]:
            tokens = read_json(artifact.folder / name).get(field)
            return None if tokens is None else {"stated": f"{name}: {field}", "tokens": tokens}
    return None


def _graphs(artifact: Artifact) -> list[str]:
    suffixes = (".onnx", _SUFFIXES.get(_stage(artifact), ".onnx"))
    return sorted(name for name in artifact.manifest["files"] if name.endswith(suffixes))


def _first_graph(artifact: Artifact) -> str:
    if graphs := _graphs(artifact):
        return graphs[0]
    raise ArtifactError(f"{artifact.folder}: no {GRAPH}; not an artifact with an ONNX graph")


def _stage(artifact: Artifact) -> str:
    return str(artifact.manifest.get("stage"))


def _named(artifact: Artifact, name: str) -> dict[str, Any]:
    return {"path": str((artifact.folder / name).absolute()), **artifact.manifest["files"][name]}


def _check_register(artifact: Artifact, archive: str) -> None:
    """Refuse a request that registers another archive than the one beside it."""
    path, entry = artifact.folder / _REGISTER, artifact.manifest["files"][archive]
    try:
        request = read_json(path)
        stated = request["model_content_hash_value"], request["model_content_size_in_bytes"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ArtifactError(f"{path}: not there, or states no size and hash of {archive}") from error
    config = request.get("model_config")
    if foreign := request.keys() - _REQUEST or (
        config.keys() - _CONFIG if isinstance(config, dict) else {"model_config"}
    ):
        raise ArtifactError(f"{path}: {min(foreign)!a:.60}: never written there")
    if stated != (entry["sha256"], entry["size"]):
        raise ArtifactError(f"{path}: its size and hash are not those of {archive}")


def _graph_facts(name: str, found: Mapping[str, Any]) -> str:
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
