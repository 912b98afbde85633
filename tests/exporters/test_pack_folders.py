"""What phones, browsers, OpenSearch and the hub are handed gives the artifact's own vectors."""

import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from builders import sentences
from graphs import draft
from huggingface_hub import ModelCard
from packed import edit_json, seal, view
from plain import plain_session
from questions import questions
from tokenizers import Tokenizer

from compressor.answering.readers.reader import read_reading
from compressor.artifact.layout import GRAPH, INPUTS
from compressor.core.encoder import Vectors
from compressor.core.errors import ArtifactError, RecipeError
from compressor.untrusted.inspection import inspect
from exporters.pack.ort_format import canonical
from exporters.precision.fp16 import Half
from exporters.publish.card import PublishReader
from exporters.reader import OnnxReader
from exporters.session import OnnxEncoder
from exporters.verify.conformance import write_conformance

TEXTS = [*sentences(20), "", "the", "tree " * 100, "unheard of 👍 你好"]


def run(graph: Path, feeds: dict[str, Any]) -> dict[str, Any]:
    """Return all outputs of a graph by their names."""
    return outputs(onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]), feeds)


def outputs(session: Any, feeds: dict[str, Any]) -> dict[str, Any]:
    wanted = {value.name for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, {k: v for k, v in feeds.items() if k in wanted}), strict=True))


def feeds(folder: Path) -> dict[str, Any]:
    """Return the texts above as an artifact's graph takes them."""
    encoder = OnnxEncoder(folder, threads=1)
    ids, mask = encoder.pad(encoder.tokenize(TEXTS))
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_ort_file_gives_the_artifacts_outputs_to_the_bit(precision: str, sealed: Path, tmp_path: Path) -> None:
    # To the bit: the file holds the graph as a session optimises it, and runs by the same kernels here.
    made, given = view(sealed / precision, tmp_path / "view", "ort"), feeds(sealed / precision)
    own, packed = run(sealed / precision / GRAPH, given), run(made / "model.ort", given)
    assert own.keys() == packed.keys() == {"last_hidden_state", "sentence_embedding"}
    for name, expected in own.items():
        np.testing.assert_array_equal(packed[name], expected, err_msg=name)


def test_an_ort_reader_gives_the_artifacts_logits(reader: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    ids = random.integers(1, 99, (4, 20))
    given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    packed = run(view(reader / "int8", tmp_path / "view", "ort") / "model.ort", given)
    for name, expected in run(reader / "int8" / GRAPH, given).items():
        np.testing.assert_array_equal(packed[name], expected, err_msg=name)
    assert (tmp_path / "view" / "reading.json").read_bytes() == (reader / "int8" / "reading.json").read_bytes()


def test_ort_says_what_a_reduced_build_must_hold_and_what_phones_run(sealed: Path, tmp_path: Path) -> None:
    made = view(sealed / "int8", tmp_path / "view", "ort")
    lines = (made / "required_operators_and_types.config").read_text("utf-8").splitlines()
    assert lines[0] == "# Generated from model.ort"
    operators = {op.group() for line in lines[1:] for op in re.finditer(r"\b[A-Z][A-Za-z]+", line)}
    assert operators >= {"MatMulIntegerToFloat", "LayerNormalization", "Gather"}
    assert 'Gather{"inputs"' in "".join(lines)  # with the types that it meets
    verdict = (made / "mobile_usability.txt").read_text("utf-8")
    figures = json.loads((made / "manifest.json").read_text())["figures"]["usability"]
    assert len(figures) == 6
    for key, answer in figures.items():
        assert answer in ("YES", "NO", "MAYBE")
        provider = re.sub(r" (as is|if modified to have fixed input shapes)$", "", key)
        assert f"Checking {provider}" in verdict
    assert verdict.splitlines()[-1].startswith("Advice: ")
    assert "/tmp" not in verdict + "".join(lines)


def test_an_ort_file_is_the_same_written_again_and_other_files_are_refused(sealed: Path, tmp_path: Path) -> None:
    content = (view(sealed / "fp32", tmp_path / "view", "ort") / "model.ort").read_bytes()
    assert canonical(content) == content
    with pytest.raises(ArtifactError, match="not in its own format"):
        canonical((sealed / "fp32" / GRAPH).read_bytes())


@pytest.mark.parametrize(("precision", "file", "dtype"), [("fp32", "", "fp32"), ("int8", "_quantized", "q8")])
def test_javascript_has_the_name_that_its_precision_wants(
    precision: str, file: str, dtype: str, sealed: Path, tmp_path: Path
) -> None:
    made = view(sealed / precision, tmp_path / "view", "javascript")
    assert [p.name for p in (made / "onnx").iterdir()] == [f"model{file}.onnx"]
    assert (made / "onnx" / f"model{file}.onnx").read_bytes() == (sealed / precision / GRAPH).read_bytes()
    config = json.loads((made / "config.json").read_text("utf-8"))
    assert config.pop("transformers.js_config") == {"dtype": dtype}
    assert config == json.loads((sealed / precision / "config.json").read_text("utf-8"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (made / name).read_bytes() == (sealed / precision / name).read_bytes()


def by_opensearch(graph: bytes, tokenizer: Tokenizer, text: str, request: dict[str, Any], version: str) -> Vectors:
    """Embed a text as a release of ml-commons does: it pools the first output, by its mode or always by the mean."""
    encoded = tokenizer.encode(text)
    given = {
        "input_ids": np.array([encoded.ids], np.int64),
        "attention_mask": np.array([encoded.attention_mask], np.int64),
        "token_type_ids": np.array([encoded.type_ids], np.int64),
    }
    [rows] = next(iter(outputs(plain_session(graph), given).values()))
    if version == "2.4":
        mask = given["attention_mask"][0][:, None]
        mean = (rows * mask).sum(0) / max(mask.sum(), 1e-9)
        return mean / np.linalg.norm(mean)
    assert request["pooling_mode"] == "CLS"
    vector = rows[0]
    return vector / np.linalg.norm(vector) if request["normalize_result"] else vector


@pytest.mark.parametrize(("version", "tolerance"), [("2.4", 1e-6), ("2.6", 0.0)])
def test_opensearch_pools_the_first_output_to_the_artifacts_vector(
    version: str, tolerance: float, sealed: Path, tmp_path: Path
) -> None:
    made, encoder = view(sealed / "int8", tmp_path / "view", "opensearch"), OnnxEncoder(sealed / "int8", threads=1)
    request = json.loads((made / "register.json").read_text("utf-8"))["model_config"]
    with zipfile.ZipFile(made / "tiny-int8-1.0.0.zip") as archive:
        assert archive.namelist() == ["model.onnx", "tokenizer.json"]
        graph, tokenizer = archive.read("model.onnx"), Tokenizer.from_str(archive.read("tokenizer.json").decode())
    for text in TEXTS:
        got = by_opensearch(graph, tokenizer, text, request, version)
        assert got.shape == (16,)
        np.testing.assert_allclose(got, encoder.encode([text])[0], rtol=0, atol=tolerance, err_msg=text)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    [output] = session.get_outputs()
    assert (output.name, output.shape) == ("last_hidden_state", ["batch_size", "sequence_length", 16])


def test_opensearch_is_told_what_the_archive_is(sealed: Path, tmp_path: Path) -> None:
    made = view(sealed / "fp32", tmp_path / "view", "opensearch", version="2.0", url="https://example.com/m.zip")
    archive = made / "tiny-fp32-2.0.zip"
    request = json.loads((made / "register.json").read_text("utf-8"))
    config = request.pop("model_config")
    assert request == {
        "name": "tiny-fp32",
        "version": "2.0",
        "description": "Sentence embeddings of length 16, fp32",
        "function_name": "TEXT_EMBEDDING",
        "model_task_type": "TEXT_EMBEDDING",
        "model_format": "ONNX",
        "model_content_size_in_bytes": archive.stat().st_size,
        "model_content_hash_value": hashlib.sha256(archive.read_bytes()).hexdigest(),
        "url": "https://example.com/m.zip",
    }
    assert json.loads(config.pop("all_config")) == json.loads((sealed / "fp32" / "config.json").read_text("utf-8"))
    assert config == {
        "model_type": "bert",
        "embedding_dimension": 16,
        "framework_type": "sentence_transformers",
        "pooling_mode": "CLS",
        "normalize_result": False,
        "model_max_length": 64,
    }
    with zipfile.ZipFile(archive) as opened:
        assert {entry.date_time for entry in opened.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_opensearch_feeds_a_model_without_types_none(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    folder = seal(artifacts(family="mpnet") / "fp32", tmp_path / "mpnet", "fp32")
    made = view(folder, tmp_path / "view", "opensearch")
    stated = json.loads((made / "register.json").read_text("utf-8"))["model_config"]["model_type"]
    assert stated == "mpnet"
    assert stated not in ("bert", "albert")  # these get token_type_ids


def test_opensearch_puts_no_prompt_before_texts(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    plain = seal(artifacts(dense=16) / "fp32", tmp_path / "plain", "fp32")
    usage = {"prompts": {"query": "two dogs: "}, "default_prompt_name": "query"}
    edit_json(plain / "config_sentence_transformers.json", **usage)
    with pytest.raises(ArtifactError, match="has a default prompt, which opensearch puts before no text"):
        view(seal(plain, tmp_path / "prompted", "fp32"), tmp_path / "view", "opensearch")


@pytest.mark.parametrize(
    ("prompts", "prefixes"),
    [
        ({"query": "two dogs: ", "document": "here: "}, {"query_prefix": "two dogs: ", "passage_prefix": "here: "}),
        ({"query": "two dogs: ", "other": "a "}, {"query_prefix": "two dogs: "}),
        ({"other": "a "}, {}),
    ],
)
def test_opensearch_puts_prompts_before_queries_and_passages(
    prompts: dict[str, str], prefixes: dict[str, str], artifacts: Callable[..., Path], tmp_path: Path
) -> None:
    plain = seal(artifacts(dense=16) / "fp32", tmp_path / "plain", "fp32")
    edit_json(plain / "config_sentence_transformers.json", prompts=prompts)
    made = view(seal(plain, tmp_path / "prompted", "fp32"), tmp_path / "view", "opensearch")
    config = json.loads((made / "register.json").read_text("utf-8"))["model_config"]
    assert {name: value for name, value in config.items() if name.endswith("_prefix")} == prefixes
    assert [one.check for one in inspect(made) if one.checked] == ["files", "settings", "graph"]


def test_the_hubs_card_has_a_whole_header(sealed: Path, tmp_path: Path) -> None:
    card = ModelCard.load(view(sealed / "int8", tmp_path / "view", "hub") / "README.md")
    assert card.data.to_dict() == {
        "library_name": "onnxruntime",
        "pipeline_tag": "sentence-similarity",
        "tags": ["onnx", "sentence-transformers", "feature-extraction", "sentence-similarity", "int8"],
        "base_model": "someone/something",
        "license": "mit",
        "datasets": ["some/data"],
    }
    assert card.text.strip() == '# A card\n\nint8: äöü, and "quotes".'


def test_an_fp16_artifact_is_called_so(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    Half().run(artifacts() / "fp32", draft(tmp_path / "half"))
    made = view(seal(tmp_path / "half", tmp_path / "sealed", "fp16"), tmp_path / "view", "javascript")
    assert [p.name for p in (made / "onnx").iterdir()] == ["model_fp16.onnx"]
    assert json.loads((made / "config.json").read_text("utf-8"))["transformers.js_config"] == {"dtype": "fp16"}
    assert [one.checked for one in inspect(made)][:3] == [True, True, True]
    assert (view(tmp_path / "sealed", tmp_path / "server", "triton") / "tiny-fp16" / "config.pbtxt").is_file()


def test_a_readers_card_answers_in_the_hubs_folder(
    reader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = shutil.copytree(reader / "fp32", tmp_path / "made", ignore=shutil.ignore_patterns("manifest.json"))
    stage = PublishReader(recipe={"name": "tiny"}, teacher="org/teacher", teacher_sha256="ab", precision="fp32")
    (made / "README.md").write_text(stage.card([], {"inputs": INPUTS, "reading": read_reading(made)}), "utf-8")
    write_conformance(made)
    handed_out = seal(made, tmp_path / "sealed", "fp32", "question-answering", card=None)
    folder = view(handed_out, tmp_path / "view", "hub")
    assert next(one for one in inspect(folder) if one.check == "conformance").checked
    code = (folder / "README.md").read_text("utf-8").split("```python\n")[1].split("```")[0]
    lines = [line for line in code.splitlines() if not line.startswith("question, context")]
    monkeypatch.chdir(folder)
    asked, answers = questions(8), []
    for one in asked:
        names: dict[str, Any] = {"question": one.text, "context": one.context}
        exec("\n".join(lines), names)
        answers.append(names["answer"])
    assert answers == [one.text() for one in OnnxReader(folder).read(asked)]
    assert len(set(answers)) > 1


def test_the_hub_takes_a_licence_and_has_every_file(sealed: Path, reader: Path, tmp_path: Path) -> None:
    made = view(sealed / "fp32", tmp_path / "view", "hub", license="apache-2.0", base_model="other/model")
    header = ModelCard.load(made / "README.md").data.to_dict()
    assert (header["license"], header["base_model"]) == ("apache-2.0", "other/model")
    own = {p.relative_to(sealed / "fp32").as_posix(): p for p in (sealed / "fp32").rglob("*") if p.is_file()}
    for name, path in own.items():
        if name not in ("README.md", "manifest.json"):
            assert (made / name).read_bytes() == path.read_bytes(), name
    kept = json.loads((made / "artifact.json").read_text("utf-8"))
    assert kept == json.loads((sealed / "fp32" / "manifest.json").read_text("utf-8"))
    assert (made / ".gitattributes").read_text() == (
        "*.onnx filter=lfs diff=lfs merge=lfs -text\n*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
    )
    np.testing.assert_array_equal(OnnxEncoder(made).encode(TEXTS), OnnxEncoder(sealed / "fp32").encode(TEXTS))
    answering = ModelCard.load(view(reader / "fp32", tmp_path / "reader", "hub") / "README.md").data.to_dict()
    assert (answering["pipeline_tag"], answering["tags"]) == ("question-answering", ["onnx", "question-answering"])
    with pytest.raises(RecipeError, match='license = "MIT License"'):
        view(sealed / "fp32", tmp_path / "other", "hub", license="MIT License")


def test_the_hub_gets_large_files_by_lfs_and_a_card_where_there_is_none(
    artifacts: Callable[..., Path], tmp_path: Path
) -> None:
    plain = seal(artifacts(dense=16) / "fp32", tmp_path / "plain", "fp32", card=None)
    (plain / "large words.txt").write_bytes(b"a" * 10_000_001)
    made = view(seal(plain, tmp_path / "large", "fp32", card=None), tmp_path / "view", "hub")
    assert "\nlarge[[:space:]]words.txt filter=lfs diff=lfs merge=lfs -text\n" in (made / ".gitattributes").read_text()
    card = ModelCard.load(made / "README.md")
    assert card.data.to_dict() == {
        "library_name": "onnxruntime",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "feature-extraction", "sentence-similarity", "onnx"],
    }
    assert card.text.strip() == "# tiny-fp32"


def test_a_card_that_is_no_yaml_is_refused(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    folder = seal(artifacts(dense=16) / "fp32", tmp_path / "broken", "fp32", card="---\ntags: [a\n---\n# A\n")
    with pytest.raises(ArtifactError, match=r"README.md: its header is not readable as YAML"):
        view(folder, tmp_path / "view", "hub")
