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

from compressor.artifact import Artifact, sha256, writing
from compressor.errors import CompressorError
from exporters.inspection import inspect
from exporters.layout import GRAPH
from exporters.pack import TARGETS
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
Break = Callable[[Path], Any]


@pytest.mark.parametrize("name", TARGETS)
def test_every_view_passes(name: str, views: Callable[..., Path]) -> None:
    files, settings, graph = inspect(views(name))
    assert (files.check, settings.check, graph.check) == ("files", "settings", "graph")
    assert graph.found.startswith(f"{GRAPHS[name]}: ")
    assert "known operators, runs and gives vectors of 16" in graph.found
    assert all(one.checked for one in (files, settings, graph))


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
    *_, graph = inspect(text_view)
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
    ("hub", lambda f: (f / "pytorch_model.bin").write_bytes(b"x"), r"a \.bin file, which may run code when it is"),
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
    reseal(folder, stage="artifacts/fp32")
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
    from compressor.untrusted import check_settings

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text(MLMODEL)
    assert check_settings(tmp_path, ["model/MLmodel"]) == 1
    (tmp_path / "model" / "MLmodel").write_text(MLMODEL.replace(old, new))
    with pytest.raises(CompressorError, match=line):
        check_settings(tmp_path, ["model/MLmodel"])


def test_two_graphs_are_both_opened(views: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(views("hub"), tmp_path / "view"))
    shutil.copy(folder / GRAPH, folder / "onnx" / "model_quantized.onnx")
    reseal(folder)
    assert [one.check for one in inspect(folder)].count("graph") == 1  # the same bytes
    rewrite(folder / "onnx" / "model_quantized.onnx", lambda model: model.graph.node.pop())
    reseal(folder)
    with pytest.raises(CompressorError, match=r"model_quantized\.onnx: cannot be run"):
        list(inspect(folder))
