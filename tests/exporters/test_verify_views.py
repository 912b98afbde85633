"""Every packed view is verified as an artifact is: hashes first, then whatever graph it holds, in a process apart."""

import importlib.util
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from damage import reseal
from onnx import helper
from packed import LINEAR, MLMODEL, edit_json, seal

from compressor.artifact.folder import Artifact, sha256, writing
from compressor.artifact.layout import GRAPH
from compressor.core.errors import ArtifactError, CompressorError
from compressor.untrusted.inspection import inspect
from compressor.untrusted.served import check_served
from exporters.pack.target import Contents
from exporters.pack.tokenizer_in_graph import MODEL, TokenizerInGraph, _join, _tokenizer_graph, word_piece

HAS_EXTENSIONS = importlib.util.find_spec("onnxruntime_extensions") is not None
GRAPHS = {
    "triton": "tiny-int8/1/model.onnx",
    "kserve": "model_repository/tiny-int8/1/model.onnx",
    "ort": "model.ort",
    "javascript": "onnx/model_quantized.onnx",
    "mlflow": "model/model.onnx",
    "opensearch": "tiny-int8-1.0.0.zip",
    "token-embeddings": "onnx/model.onnx",
    "tokenizer-in-graph": "model.onnx",
    "hub": "onnx/model.onnx",
}
CHECKS = ["files", "settings"]
Break = Callable[[Path], Any]


@pytest.mark.parametrize("name", GRAPHS)
def test_every_view_passes(name: str, views: Callable[..., Path]) -> None:
    found = {one.check: one for one in inspect(views(name))}
    assert list(found) == [*CHECKS, *(["service"] if name == "kserve" else []), "graph", "conformance"]
    graph = found["graph"]
    assert graph.found.startswith(f"{GRAPHS[name]}: ")
    assert "known operators, runs and gives vectors of 16" in graph.found
    assert all(found[check].checked for check in (*CHECKS, "graph"))
    assert found["settings"].found.endswith(" read; no code, no pickles")
    assert found["conformance"].as_dict() == {
        "check": "conformance",
        "passed": None,
        "found": "no conformance/cases.json in this folder: outputs were compared with none",
    }


@pytest.fixture(scope="module")
def text_view(artifacts: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a view whose graph takes a text, which can be written without onnxruntime-extensions."""
    home = tmp_path_factory.mktemp("text")
    contents = Contents.read(Artifact.open(seal(artifacts(**LINEAR) / "fp32", home / "fp32", "fp32")), "t")
    attributes = word_piece(contents, contents.json("tokenizer.json")) | {"max_length": 64}
    with writing(home / "view", "pack/tokenizer-in-graph", "key", TokenizerInGraph().model_dump()) as draft:
        model = _join(contents, _tokenizer_graph(attributes, "", None))
        (draft.folder / MODEL).write_bytes(model.SerializeToString())
    return home / "view"


def test_a_graph_of_texts_is_read_and_run_where_its_operators_are(text_view: Path) -> None:
    *_, graph, _ = inspect(text_view)
    assert graph.found.startswith(f"{MODEL}: ")
    assert graph.checked is HAS_EXTENSIONS
    if HAS_EXTENSIONS:
        assert "known operators, runs and gives vectors of 16" in graph.found
    else:
        end = "known operators; not run, onnxruntime-extensions is not installed (pip install 'compressor[extensions]')"
        assert graph.found.endswith(end)
        assert graph.as_dict()["passed"] is None


def rewrite(path: Path, edit: Break) -> None:
    model = onnx.load(path)
    edit(model)
    path.write_bytes(model.SerializeToString())


def zipped(path: Path, **files: bytes) -> None:
    """Change files of an archive, and register it as it then is."""
    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (held | files).items():
            archive.writestr(name, content)


def register(folder: Path) -> None:
    [path] = folder.glob("*.zip")
    stated = {"model_content_hash_value": sha256(path), "model_content_size_in_bytes": path.stat().st_size}
    edit_json(folder / "register.json", **stated)


def rezipped(folder: Path, **files: bytes) -> None:
    zipped(folder / GRAPHS["opensearch"], **files)
    register(folder)


def foreign(folder: Path) -> bytes:
    with zipfile.ZipFile(folder / GRAPHS["opensearch"]) as archive:
        model = onnx.ModelProto.FromString(archive.read("model.onnx"))
    model.graph.node.append(helper.make_node("Evil", ["input_ids"], ["evil"], domain="com.evil"))
    return model.SerializeToString()


def cut(path: Path, keep: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def renamed_operator(path: Path) -> None:
    content = path.read_bytes()
    assert content.count(b"QAttention") >= 1
    path.write_bytes(content.replace(b"QAttention", b"EvilAction"))


def lying_table(path: Path) -> None:
    """Point the first table of a flatbuffer far behind its end."""
    content = bytearray(path.read_bytes())
    content[0:4] = (len(content) * 2).to_bytes(4, "little")
    path.write_bytes(content)


def add(path: Path, line: str) -> None:
    path.write_text((path.read_text() if path.is_file() else "") + line + "\n")


JS = GRAPHS["javascript"]
BROKEN: list[tuple[str, Break, str]] = [
    ("ort", lambda f: cut(f / "model.ort", 0.5), r"model\.ort: "),
    ("ort", lambda f: (f / "model.ort").write_bytes(b"x" * 100), r"model\.ort: names no version of ONNX's operators"),
    ("ort", lambda f: lying_table(f / "model.ort"), r"model\.ort: not a whole graph in ONNX Runtime's own format"),
    ("ort", lambda f: renamed_operator(f / "model.ort"), r"operator com\.microsoft\.EvilAction: not one that is exp"),
    ("ort", lambda f: (f / "model.ort").unlink(), r"no onnx/model\.onnx; not an artifact with an ONNX graph"),
    ("opensearch", lambda f: rezipped(f, **{"evil.py": b"x"}), "must hold model.onnx and tokenizer.json, and nothing"),
    ("opensearch", lambda f: rezipped(f, **{"model.onnx": b"\0" * (64 << 20)}), "unpacks to more than 20 times its"),
    ("opensearch", lambda f: rezipped(f, **{"model.onnx": foreign(f)}), r"operator com\.evil\.Evil: not one that is"),
    ("opensearch", lambda f: rezipped(f, **{"tokenizer.json": b"{}"}), r"tokenizer\.json: cannot be read"),
    ("opensearch", lambda f: zipped(f / GRAPHS["opensearch"], x=b""), r"register\.json: its size and hash are not"),
    ("opensearch", lambda f: (f / "register.json").unlink(), r"register\.json: not there, or states no size"),
    ("opensearch", lambda f: cut(f / GRAPHS["opensearch"], 0.9) or register(f), r"\.zip: cannot be read: File is not"),
    ("hub", lambda f: (f / "pytorch_model.bin").write_bytes(b"x"), r"pytorch_model\.bin: no file of a view of hub"),
    (
        "hub",
        lambda f: shutil.copy(f / GRAPH, f / "onnx" / "model_quantized.onnx"),
        r"model_quantized\.onnx: no file",
    ),
    (
        "hub",
        lambda f: add(f / "README.md", "`python conformance/run.py`"),
        r"cases\.json: not there; what is han",
    ),
    ("hub", lambda f: add(f / ".gitattributes", "* filter=evil"), r"line 3: '\* filter=evil': never written there"),
    ("javascript", lambda f: shutil.copy(f / JS, f / "onnx/model.onnx"), r"onnx/model_quantized\.onnx: a second"),
    (
        "javascript",
        lambda f: add(f / "index.html", "<script>"),
        r"index\.html: no file of a view of javascript; ",
    ),
    ("triton", lambda f: shutil.copytree(f / "tiny-int8", f / "other"), r"a second graph, beside other/1/model\.onnx"),
    (
        "triton",
        lambda f: add(f / "tiny-int8/1/model.py", "x"),
        r"model\.py: no file of a view of triton; it may",
    ),
    (
        "kserve",
        lambda f: add(f / "pod.yaml", "x"),
        r"pod\.yaml: no file of a view of kserve; it may be code",
    ),
    (
        "opensearch",
        lambda f: edit_json(f / "register.json", script="x"),
        r"register\.json: 'script': never writ",
    ),
]


@pytest.mark.parametrize(
    ("name", "breaking", "line"), BROKEN, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(BROKEN)]
)
def test_a_view_that_was_made_on_purpose_is_refused(
    name: str, breaking: Break, line: str, views: Callable[..., Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(views(name), tmp_path / "view"))
    breaking(folder)
    with pytest.raises(CompressorError):  # before anything of it is opened
        Artifact.open(folder)
    reseal(folder)
    with pytest.raises(CompressorError, match=line):
        list(inspect(folder))


TEXTS: list[tuple[Break, str]] = [
    (
        lambda m: m.graph.node.append(helper.make_node("PyOp", ["text"], ["x"], domain="ai.onnx.contrib")),
        r"operator ai\.onnx\.contrib\.PyOp: not one that is exported",
    ),
    (lambda m: m.graph.input.append(m.graph.output[0]), "inputs text, sentence_embedding; must be text, one string"),
    (lambda m: m.graph.output[0].type.tensor_type.shape.dim.pop(), "must be float32 of rank 2, its width stated"),
]


@pytest.mark.parametrize(("edit", "line"), TEXTS)
def test_a_graph_of_texts_holds_what_pack_writes_alone(edit: Break, line: str, text_view: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(text_view, tmp_path / "view"))
    rewrite(folder / MODEL, edit)
    reseal(folder)
    with pytest.raises(CompressorError, match=line):
        list(inspect(folder))


def test_a_graph_of_texts_is_no_artifacts(text_view: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(text_view, tmp_path / "view"))
    (folder / GRAPH).parent.mkdir()
    (folder / MODEL).rename(folder / GRAPH)
    reseal(folder, stage="optimise")
    with pytest.raises(CompressorError, match=r"operators of ai\.onnx\.contrib 1; known: ai\.onnx 17 to 20, com\.mic"):
        list(inspect(folder))


CODE = "not of the onnx flavor alone, or names code of its own; code is never run"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("loader_module: mlflow.onnx", "loader_module: evil", CODE),
        ("loader_module: mlflow.onnx", "loader_module: mlflow.onnx, code: code", CODE),
        ("code: null", "code: code", CODE),
        ("model.onnx", "../model.onnx", CODE),
        ("onnx_session_options: null", "onnx_session_options: {session.load: x}", CODE),
        ("  onnx:", "  python_evil: {}\n  onnx:", CODE),
        ("flavors:", "a: &a [x]\nflavors:", "not readable as an MLflow model: has anchors"),
        ("flavors:", "flavours:", "not readable as an MLflow model: 'flavors'"),
        ("null", "!!python/object/apply:os.system [x]", "not readable as an MLflow model: could not determine"),
    ],
)
def test_an_mlflow_model_names_no_code(old: str, new: str, line: str, tmp_path: Path) -> None:
    from compressor.untrusted.settings import check_settings

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text(MLMODEL)
    assert check_settings(tmp_path, ["model/MLmodel"]) == 1
    (tmp_path / "model" / "MLmodel").write_text(MLMODEL.replace(old, new))
    with pytest.raises(CompressorError, match=line):
        check_settings(tmp_path, ["model/MLmodel"])


@pytest.mark.parametrize("name", ["triton", "kserve"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('backend: "onnxruntime"', 'backend: "python"'),
        ('backend: "onnxruntime"', 'platform: "tensorrt_plan"'),
        (
            "max_batch_size",
            'parameters { key: "EXECUTION_ENV_PATH" value: { string_value: "/x.tar.gz" } }\nmax_batch_size',
        ),
        ("max_batch_size", "model_operations { op_library_filename: 'evil.so' }\nmax_batch_size"),
        ("max_batch_size", "model_transaction_policy { decoupled: true } max_batch_size"),
        ("max_batch_size: 64", 'max_batch_size: 64 backend: "python"'),
        ("max_batch_size: 64", "max_batch_size: 64\r"),
    ],
)
def test_a_config_of_triton_is_as_it_is_written(
    name: str, old: str, new: str, views: Callable[..., Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(views(name), tmp_path / "view"))
    (config,) = folder.rglob("config.pbtxt")
    config.write_bytes(config.read_bytes().replace(old.encode(), new.encode()))
    reseal(folder)
    with pytest.raises(CompressorError, match=r"config\.pbtxt: line [23]: .*: never written there$"):
        list(inspect(folder))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    model:", "    containers: [{image: evil}]\n    model:"),
        ("        name: onnx", "        name: sklearn"),
        ("      protocolVersion: v2", "      protocolVersion: v2\n      command: [sh]"),
        ("      runtime: ", "      image: "),
        ("  predictor:", "  transformer: {}\n  predictor:"),
        ("kind: InferenceService", "kind: Pod"),
        ('"kserve-tritonserver"', '"a"\n      args: "b"'),
    ],
)
def test_a_service_is_as_it_is_written(old: str, new: str, views: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(views("kserve"), tmp_path / "view"))
    path = folder / "inferenceservice.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    reseal(folder)
    with pytest.raises(CompressorError, match=r"inferenceservice\.yaml: line [0-9]+: .*: never written there$"):
        list(inspect(folder))


def test_where_a_service_takes_its_model_from_is_stated(views: Callable[..., Path]) -> None:
    (note,) = (one for one in inspect(views("kserve")) if one.check == "service")
    assert note.as_dict()["passed"] is None
    assert note.found == 'takes its model from "pvc://models/tiny-int8", where it was not looked at'


ENVIRONMENT = {
    "requirements.txt": "mlflow==3.9.0\nonnx==1.19.0\nonnxruntime==1.24.1\nnumpy==2.3.0\n",
    "conda.yaml": "channels:\n- conda-forge\ndependencies:\n- python=3.11.7\n- pip<=23.2.1\n- pip:\n  - mlflow==3.9.0\n"
    "  - onnx==1.19.0\n  - onnxruntime==1.24.1\n  - numpy==2.3.0\nname: mlflow-env\n",
    "python_env.yaml": "python: 3.11.7\nbuild_dependencies:\n- pip==23.2.1\n- setuptools==68.0\n- wheel==0.41.0\n"
    "dependencies:\n- -r requirements.txt\n",
}


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_an_mlflow_model_brings_no_other_package(name: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    path = tmp_path / "model" / name
    path.write_text(ENVIRONMENT[name])
    assert check_served(tmp_path, {f"model/{name}": None}) == (1, "")
    for line in ("evil==1.0", "- evil==1.0", "  - evil", "--index-url http://evil", "- ./evil.whl", "x: y"):
        path.write_text(f"{ENVIRONMENT[name]}{line}\n")
        with pytest.raises(ArtifactError, match=rf"{name}: line [0-9]+: .*: never written there$"):
            check_served(tmp_path, {f"model/{name}": None})


@pytest.mark.parametrize("name", ["view", ".", "pack/evil", "pack/"])
def test_a_view_that_is_none_is_refused(name: str, views: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(views("triton"), tmp_path / "view"))
    reseal(folder, stage=name)
    words = "no view of this project" if name.startswith("pack/") else "no file of an artifact"
    with pytest.raises(ArtifactError, match=words):
        list(inspect(folder))
