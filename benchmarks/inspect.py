"""What is in a folder: kind, size, inputs and outputs, operators, where it came from, whether it is whole."""

from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.quality.story import parameters
from compressor.artifact.folder import Artifact, is_artifact, size_bytes
from compressor.artifact.layout import GRAPH
from compressor.artifact.manifest import own_manifest
from compressor.core.errors import ArtifactError, RecipeError
from compressor.models.pooling import Pooling
from compressor.models.source import STATIC, config_in, layers_stated, read_config, weights_files
from compressor.untrusted.weights import read_headers, stored_in, weights_in
from exporters.foreign.adopt import examine
from exporters.foreign.describe import describe
from exporters.foreign.find import Foreign, foreign_in, own_folder
from exporters.graph.files import shape_of
from exporters.loading import is_reader, kind_of
from exporters.runtime.names import CPU

_KINDS = {"torch": "sentence-transformers model", "torch-int8": "PyTorch int8 model", "onnx": "ONNX artifact"}
_READERS = _KINDS | {"torch": "question-answering model"}


def facts(path: Path, pooling: Pooling | None = None) -> dict[str, Any]:
    """Return all that a folder says of itself; nothing of it is run but graphs of others, in a process apart.

    Raises ArtifactError when a manifest is there and a file differs from it, ModelError when the folder
    holds nothing known. ``pooling``: of a graph of others whose folder states none.
    """
    path = own_folder(path) or path
    if (foreign := foreign_in(path)) is not None:
        return _of_others(foreign, pooling)
    if pooling is not None:
        raise RecipeError(f"--pooling {pooling}: an option of graphs that others exported; {path} is none")
    if not path.is_dir():
        raise ArtifactError(f"{path}: no such folder")
    origin = _origin(path)  # hashes first: a file that was changed is not read
    kind, answers = kind_of(path), is_reader(path)
    config = config_in(path) if answers else read_config(path)
    found = {
        "path": str(path),
        "task": "question-answering" if answers else "sentence-embedding",
        "kind": (_READERS if answers else _KINDS)[kind],
        "family": config["model_type"],
        "layers": layers_stated(config),
        "parameters": parameters(path),
        "size_bytes": size_bytes(path),
        "files": {p.relative_to(path).as_posix(): p.stat().st_size for p in sorted(path.rglob("*")) if p.is_file()},
    }
    if kind == "onnx":
        found |= _graph(path / GRAPH)
    if kind == "torch":
        files = weights_in(path) if answers else weights_files(path)
        found["weights"] = stored_in(read_headers(files))
    return found | origin


def _of_others(foreign: Foreign, pooling: Pooling | None) -> dict[str, Any]:
    known = examine(foreign, pooling)
    config = dict(known.stated.config)
    return {
        "path": str(foreign.folder),
        "task": "sentence-embedding",
        "kind": "ONNX graph that others exported",
        "family": "static" if config.get("architectures") == [STATIC] else config["model_type"],
        "layers": layers_stated(config),
        **describe(foreign, known),
        "manifest": "none: nothing vouches for the files",
    }


def _graph(path: Path) -> dict[str, Any]:
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    return {
        "inputs": {value.name: shape_of(value) for value in graph.input},
        "outputs": {value.name: shape_of(value) for value in graph.output},
        "opsets": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "operators": dict(Counter(node.op_type for node in graph.node).most_common()),
        "weights": dict(
            Counter(onnx.TensorProto.DataType.Name(t.data_type).lower() for t in graph.initializer).most_common()
        ),
    }


def _origin(path: Path) -> dict[str, Any]:
    if not is_artifact(path):
        return {"manifest": "none"}
    manifest = Artifact.open(path).manifest
    found = {
        "manifest": f"whole: {len(manifest['files'])} files match their sha256",
        "stage": manifest["stage"],
        "key": manifest["key"],
        "versions": manifest["versions"],
        "figures": manifest["figures"],
    }
    own = own_manifest(path)  # of a packed view, the artifact's
    choice = own["figures"].get("choice")
    if isinstance(choice, dict):
        where = str(choice.get("cpu"))
        if (provider := str(choice.get("provider", CPU))) != CPU:
            where += f" on {provider}"
        found["form"] = _chosen(where, str(own["versions"].get("onnxruntime")))
    return found


def _chosen(where: str, version: str) -> str:
    """Say what a form was searched with, and that another ONNX Runtime, with other kernels, may run another faster."""
    own = onnxruntime.__version__
    found = f"searched for {where} with onnxruntime {version}"
    return found if version == own else f"{found}; {own} runs here: compressor optimise chooses again"


def print_facts(found: dict[str, Any], console: Console) -> None:
    """Print the facts as a two-column table, nested ones on a line each."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in found.items():
        if name in ("figures", "key"):
            continue  # long; `--json` has them
        if name == "size_bytes":
            value = f"{value / 1e6:.1f} MB"
        if name == "files":
            value = {file: f"{size:,}" for file, size in value.items()}
        if name == "parameters":
            value = f"{value:,}"
        if isinstance(value, list):
            value = ", ".join(map(str, value)) or "none"
        rows = value.items() if isinstance(value, dict) else []
        lines = [Text.assemble(f"{k}  ", (str(v), "dim")) for k, v in rows] or [Text(str(value))]
        table.add_row(Text(name.replace("_bytes", ""), "bold"), Text("\n").join(lines))
    console.print(table)
