"""Views of an artifact: each whole, with its own manifest, the same bytes each time, or one line that says why not."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from damage import reseal
from packed import NEEDED, contents, edit_json, options_of, seal, skip_without, view
from questions import SHAPE
from typer.testing import CliRunner

from compressor.artifact.folder import Artifact, is_artifact
from compressor.artifact.layout import GRAPH, READING
from compressor.cli.app import app, guarded
from compressor.cli.handoff import pack as pack_command  # the command joins the app
from compressor.core.errors import ArtifactError, CompressorError, DependencyError, RecipeError
from compressor.untrusted.inspection import inspect
from exporters.pack import TARGETS

ANYWHERE = ["triton", "kserve", "ort", "javascript", "hub"]
GRAPHS = [name for name in TARGETS if name != "router"]  # tests/exporters/test_pack_router.py has the one without
PINNED = {
    "triton": ["tiny-int8/1/model.onnx", "tiny-int8/config.pbtxt"],
    "kserve": [
        "inferenceservice.yaml",
        "model_repository/tiny-int8/1/model.onnx",
        "model_repository/tiny-int8/config.pbtxt",
    ],
    "ort": [
        "config.json",
        "mobile_usability.txt",
        "model.ort",
        "required_operators_and_types.config",
        "sentence_bert_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ],
    "javascript": [
        "config.json",
        "onnx/model_quantized.onnx",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ],
    "opensearch": ["register.json", "tiny-int8-1.0.0.zip"],
}


def test_the_targets_are_these() -> None:
    others = ["mlflow", "opensearch", "token-embeddings", "vocab-txt", "tokenizer-in-graph", "hub", "router"]
    assert [*TARGETS] == [*ANYWHERE[:4], *others]
    assert pack_command is not None


@pytest.mark.parametrize("name", GRAPHS)
def test_packing_twice_gives_the_same_files(
    name: str, sealed: Path, views: Callable[..., Path], tmp_path: Path
) -> None:
    first = contents(views(name))
    second = contents(view(sealed / "int8", tmp_path / "b" / "c", name, **options_of(name)))
    assert first.keys() == second.keys()
    assert [key for key in first if first[key] != second[key]] == []


def test_another_process_gives_the_same_files(sealed: Path, views: Callable[..., Path], tmp_path: Path) -> None:
    names = ("ort", "opensearch", "token-embeddings", "hub")
    code = "import sys; from pathlib import Path; from exporters.pack import TARGETS, pack\n"
    code += "for name in sys.argv[3:]: pack(Path(sys.argv[1]), TARGETS[name](), Path(sys.argv[2]) / name)"
    command = [sys.executable, "-c", code, str(sealed / "int8"), str(tmp_path), *names]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": "7"}, cwd=Path(__file__).parents[2])
    for name in names:
        assert contents(tmp_path / name) == contents(views(name)), name


@pytest.mark.parametrize("name", GRAPHS)
def test_the_manifest_names_the_artifact_and_what_the_view_needs(
    name: str, sealed: Path, views: Callable[..., Path]
) -> None:
    made = Artifact.open(views(name))
    artifact = Artifact.open(sealed / "int8")
    assert made.manifest["stage"] == f"pack/{name}"
    assert made.figures["artifact"] == {"key": artifact.key, "stage": "artifacts/int8"}
    assert made.key != artifact.key
    assert made.figures["needs"].items() >= {"onnxruntime": ">=1.24", "opset": 17}.items()
    if name in PINNED:
        assert sorted(made.manifest["files"]) == PINNED[name]


PUT_BY = {
    "opensearch": "opensearch, by content_type",
    "hub": "sentence-transformers and OnnxEncoder, elsewhere the caller",
}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_manifest_says_who_puts_prompts(
    name: str, sealed: Path, views: Callable[..., Path], tmp_path: Path
) -> None:
    skip_without(name)
    plain = Path(shutil.copytree(sealed / "int8", tmp_path / "plain"))
    edit_json(plain / "config_sentence_transformers.json", prompts={"query": "two dogs: ", "document": "", "a": "b "})
    folder = seal(plain, tmp_path / "prompted", "int8")
    figures = Artifact.open(view(folder, tmp_path / "view", name, **options_of(name))).figures
    stated = {"named": {"a": "b ", "query": "two dogs: "}, "default": "", "put_by": PUT_BY.get(name, "the caller")}
    assert figures["needs"]["prompts"] == stated
    assert "prompts" not in Artifact.open(views(name)).figures["needs"]
    assert all(one.checked or one.check in ("conformance", "service") for one in inspect(tmp_path / "view"))


def test_options_change_the_key_and_the_manifest_holds_them(sealed: Path, tmp_path: Path) -> None:
    plain = Artifact.open(view(sealed / "fp32", tmp_path / "plain", "triton"))
    other = Artifact.open(view(sealed / "fp32", tmp_path / "other", "triton", max_batch_size=8))
    assert plain.key != other.key
    assert (plain.manifest["config"]["max_batch_size"], other.manifest["config"]["max_batch_size"]) == (64, 8)


@pytest.mark.parametrize("name", ANYWHERE)
def test_a_reader_is_packed_too_and_verified(name: str, reader: Path, tmp_path: Path) -> None:
    made = view(reader / "int8", tmp_path / "view", name)
    figures = Artifact.open(made).figures
    assert figures["artifact"]["stage"] == "artifacts/int8"
    stated = json.loads((reader / "int8" / READING).read_text("utf-8"))
    assert figures["needs"]["reading"] == stated
    assert figures["needs"]["reading"].items() > SHAPE.items()
    if (made / "tokenizer.json").is_file():
        assert (made / READING).read_bytes() == (reader / "int8" / READING).read_bytes()
    *_, graph, _ = inspect(made)
    assert graph.found.split(", ")[1] == "runs and gives logits"


@pytest.mark.parametrize("name", ANYWHERE)
def test_a_reader_that_states_no_windows_is_refused(name: str, reader: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(reader / "fp32", tmp_path / "bare", ignore=shutil.ignore_patterns(READING))
    folder = seal(bare, tmp_path / "sealed", "fp32", "question-answering")
    with pytest.raises(ArtifactError) as caught:
        view(folder, tmp_path / "view", name)
    assert str(caught.value) == f"{folder}: no reading.json in its manifest; a reader states how its windows are cut"
    assert not (tmp_path / "view").exists()


@pytest.mark.parametrize("name", GRAPHS)
def test_an_encoders_view_has_no_windows(name: str, views: Callable[..., Path]) -> None:
    made = views(name)
    assert "reading" not in Artifact.open(made).figures["needs"]
    assert not list(made.rglob(READING))


@pytest.mark.parametrize("name", ["opensearch", "token-embeddings", "tokenizer-in-graph"])
def test_a_reader_is_refused_where_it_makes_no_sense(name: str, reader: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        view(reader / "fp32", tmp_path / "view", name)
    graph = reader / "fp32" / GRAPH
    assert str(caught.value) == f"{graph}: made for question-answering; {name} takes artifacts for sentence-embedding"
    assert not (tmp_path / "view").exists()


def test_a_damaged_artifact_is_refused_before_it_is_loaded(
    artifacts: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = seal(artifacts(dense=16) / "fp32", tmp_path / "artifact", "fp32")
    content = bytearray((folder / GRAPH).read_bytes())
    content[1000] ^= 1
    (folder / GRAPH).write_bytes(content)
    monkeypatch.setattr(onnx, "load", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(ArtifactError, match="sha256 differs from manifest.json"):
        view(folder, tmp_path / "view", "hub")
    assert [p.name for p in tmp_path.iterdir()] == ["artifact"]


def test_a_manifest_that_names_a_file_outside_is_refused(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    folder = seal(artifacts(dense=16) / "fp32", tmp_path / "home" / "artifact", "fp32")
    (tmp_path / "home" / "secret").write_text("s")
    manifest = json.loads((folder / "manifest.json").read_text())
    digest = "043a718774c572bd8a25adbeb1bfcd5c0256ae11cecf9f9c3f925d0e52beaf89"
    reseal(folder, files=manifest["files"] | {"../secret": {"sha256": digest, "size": 1}})
    with pytest.raises(ArtifactError, match="secret"):
        view(folder, tmp_path / "view", "hub")


def test_a_folder_without_a_graph_and_a_foreign_graph_are_refused(
    artifacts: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.txt").write_text("a")
    folder = seal(tmp_path / "none", tmp_path / "sealed", "fp32")
    with pytest.raises(ArtifactError, match=r"no onnx/model.onnx in its manifest; not an artifact with an ONNX graph"):
        view(folder, tmp_path / "view", "triton")
    foreign = tmp_path / "foreign"
    (foreign / "onnx").mkdir(parents=True)
    model = onnx.load(artifacts(dense=16) / "fp32" / GRAPH)
    del model.graph.output[1:]
    onnx.save(model, foreign / GRAPH)
    with pytest.raises(ArtifactError, match="outputs last_hidden_state; neither an encoder's nor a reader's"):
        view(seal(foreign, tmp_path / "sealed-foreign", "fp32"), tmp_path / "view", "triton")


def test_a_view_is_no_artifact_to_pack_and_stays_out_of_it(sealed: Path, tmp_path: Path) -> None:
    made = view(sealed / "fp32", tmp_path / "view", "hub")
    with pytest.raises(ArtifactError, match=r"is a packed view itself \(pack/hub\)"):
        view(made, tmp_path / "again", "triton")
    for place in (sealed / "fp32", sealed / "fp32" / "view", sealed):
        with pytest.raises(ArtifactError, match="is the artifact, in it or around it"):
            view(sealed / "fp32", place, "triton")
    assert is_artifact(sealed / "fp32")


@pytest.mark.parametrize(("name", "package"), [("mlflow", "mlflow"), ("tokenizer-in-graph", "extensions")])
def test_a_package_that_is_not_there_is_named(
    name: str, package: str, sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, NEEDED[name], None)  # what Python makes of a package that is not there
    with pytest.raises(DependencyError) as caught:
        view(sealed / "fp32", tmp_path / "view", name)
    distribution = NEEDED[name].replace("_", "-")
    assert str(caught.value) == f"{distribution}: not installed; pip install 'compressor[{package}]'"
    assert isinstance(caught.value, CompressorError)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--target", "phone"], "target = phone: not known; allowed: triton, kserve, ort, javascript, mlflow, opense"),
        (["--target", "ort", "--max-batch-size", "8"], "--max-batch-size: an option of triton, kserve; ort has none"),
        (
            ["--target", "triton", "--max-batch-size", "0"],
            "options: max_batch_size = 0: input should be greater than or equal",
        ),
        (["--target", "triton", "--name", "a/b"], 'name = "a/b": letters, digits, dots, dashes and underscores; give'),
    ],
)
def test_wrong_options_are_one_line(
    arguments: list[str], line: str, sealed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["pack", str(sealed / "fp32"), "--out", str(tmp_path / "view"), *arguments]
    assert guarded(lambda: app(words)) == 1
    assert capsys.readouterr().err.startswith(f"error: {line}")
    assert not (tmp_path / "view").exists()


def test_the_command_writes_a_view(sealed: Path, tmp_path: Path) -> None:
    words = ["pack", str(sealed / "fp32"), "--target", "triton", "--name", "mine", "--out", str(tmp_path / "view")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "view" / "mine" / "config.pbtxt").is_file()
    assert Artifact.open(tmp_path / "view").manifest["config"]["name"] == "mine"


def test_names_are_checked_in_the_configuration(sealed: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="options: name: unknown key"):
        view(sealed / "fp32", tmp_path / "view", "ort", name="x")
