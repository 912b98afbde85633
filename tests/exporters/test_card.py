"""The card says what the artifact is, and its example runs as it stands."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import sentences
from graphs import draft, make_artifacts, quantize
from huggingface_hub import ModelCard

from compressor.answering.readers.reader import Reading
from compressor.artifact.folder import Draft
from compressor.artifact.layout import GRAPH, INPUTS
from compressor.artifact.licence import licence_of
from compressor.artifact.workspace import Model
from compressor.distil.student.static import static_student
from compressor.machine.describe import INT8_FEATURES, features, saturates_here
from compressor.models.agreement import Heldout
from compressor.models.projection import PROJECTION, Projection
from compressor.models.sentence_model import TorchEncoder, open_model
from compressor.vectors.codes import RANGES, Ranges, quantized
from compressor.vectors.pca import Pca
from exporters.graph.export import Export
from exporters.graph.files import run_operators
from exporters.publish.card import Publish, PublishReader
from exporters.publish.template import CONSUMERS, row
from exporters.session import OnnxEncoder
from exporters.verify.check import Check

CHECKS = [
    Check("fp32", "parity with PyTorch", "max_difference", 2.9e-7, 1e-5, "<="),
    Check("int8", "batch invariance", "cosine_min", 0.98765),
]
CONFORMANCE = ("cases.json", "run.py", "run.mjs")
PRECISIONS = {"int8": {"bytes": 32, "neighbours_at_10": 0.99, "pair_correlation": 0.999}}


def publish(
    folder: Path,
    to: Path,
    precision: Any,
    licence: str | None = None,
    projection: Projection | None = None,
    **more: Any,
) -> Draft:
    made_of = {"teacher": "org/teacher", "teacher_sha256": "abc123", "teacher_license": licence}
    stage = Publish(recipe={"name": "tiny"}, precision=precision, **made_of, **more)
    made, ranges = draft(to), draft(to.parent / f"ranges-{to.name}")
    Ranges.fit(OnnxEncoder(folder).encode(sentences(100))).save(ranges.folder)
    operators = {"operators": run_operators(folder / GRAPH)}
    stage.run(
        Model(folder, "k", operators), Model(ranges.folder, "r", {"precisions": PRECISIONS}), CHECKS, made, projection
    )
    return made


def card(made: Draft) -> str:
    return (made.folder / "README.md").read_text("utf-8")


def test_a_bar_that_no_model_misses_is_called_off() -> None:
    check = Check("int8", "agreement with the teacher", "cosine_min", 0.5, -1.0)
    assert row(check).endswith("| cosine_min | 0.5 | off (>= -1) |")
    assert row(replace(check, bar=0.4)).endswith("| cosine_min | 0.5 | >= 0.4 |")


def test_a_figure_of_anyones_collection_stays_in_its_cell() -> None:
    check = Check("int8", "retrieval", "ndcg_at_10_of_teachers, a|b [c]", 0.5)
    assert row(check) == r"| retrieval | ndcg_at_10_of_teachers, a\|b \[c\] | 0.5 |  |"


def test_a_student_of_shorter_texts_says_so(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    said = "trained on texts of at most 8 tokens; it reads 64: agreement by length says what it keeps of longer ones"
    folder = artifacts() / "fp32"
    assert "The student was" not in card(publish(folder, tmp_path / "any", "fp32"))
    text = card(publish(folder, tmp_path / "short", "fp32", trained_on=said))
    assert f"\n\nThe student was {said}.\nAgreement with the teacher is measured" in text


def test_the_card_names_what_it_is(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    text = card(publish(artifacts(dense=16) / "int8", tmp_path / "int8", "int8"))
    assert text.startswith("---\nlibrary_name: onnxruntime\n")
    assert "tags: [sentence-transformers, feature-extraction, sentence-similarity, onnx, int8]\n" in text
    assert "base_model: org/teacher\n---\n# tiny, int8\n" in text
    assert "Sentence embeddings of length 16 from texts of up to 64 tokens, int8, for ONNX Runtime." in text
    assert "Made from `org/teacher` (weights sha256 `abc123`), whose card states no licence." in text
    assert "transformer, pooling, Dense, normalization" in text
    assert "`input_ids`, `attention_mask`, `token_type_ids` [batch_size, sequence_length]" in text
    assert "[batch_size, sequence_length, 32] and `sentence_embedding` [batch_size, 16]" in text
    assert "| batch invariance | cosine_min | 0.98765 |  |" in text
    assert "max_difference" not in text  # the other artifact's
    assert "{" not in text.split("```python")[0]


@pytest.mark.parametrize(
    ("header", "licence"),
    [
        ("license: apache-2.0\ntags: [a]", "apache-2.0"),
        ("tags: [a]", None),
        ("license: Some text of many words", None),
        ("license: [mit]", None),
        ('license: "mit"  # by whom', "mit"),
        ("license:\n- mit", None),
        ("model-index:\n  license: mit", None),
        ("tags: [a]\n---\nlicense: mit", None),
        ("\xff", None),
    ],
)
def test_the_licence_is_carried_over(header: str, licence: str | None, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"---\n{header}\n---\n# A model\n", encoding="latin-1")
    assert licence_of(tmp_path) == licence
    assert licence_of(tmp_path / "nowhere") is None


def test_the_cards_header_has_the_licence(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    text = card(publish(artifacts(dense=16) / "int8", tmp_path / "int8", "int8", "apache-2.0"))
    header = ModelCard(text).data.to_dict()
    assert (header["license"], header["base_model"]) == ("apache-2.0", "org/teacher")
    assert "(weights sha256 `abc123`), under apache-2.0." in text


def test_the_card_says_how_others_load_it(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    page = CONSUMERS.read_text("utf-8")
    text = card(publish(artifacts(dense=16) / "int8", tmp_path / "int8", "int8"))
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert len(headings) >= 12
    assert re.findall(r"^### (.+)$", text, re.MULTILINE) == headings
    assert "dim=16," in text
    for block in re.findall(r"```\w+\n.*?```", page.replace("dim=256", "dim=16"), re.DOTALL):
        assert block in text
    without = card(publish(artifacts("distilbert") / "fp32", tmp_path / "fp32", "fp32"))
    assert "token_type_ids` [batch" not in without
    assert re.findall(r"^### (.+)$", without, re.MULTILINE) == [name for name in headings if name != "C"]


def test_the_other_card_names_the_other(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    text = card(publish(artifacts("roberta") / "fp32", tmp_path / "fp32", "fp32"))
    assert "tags: [sentence-transformers, feature-extraction, sentence-similarity, onnx]\n" in text
    assert "| parity with PyTorch | max_difference | 2.9e-07 | <= 1e-05 |" in text
    assert "Inputs int64 `input_ids`, `attention_mask` [batch_size" in text
    assert "Dense" not in text.split("## Loading an artifact")[0]
    assert "enable_padding(pad_id=1)" in text


@pytest.mark.parametrize(("precision", "tags"), [("fp32", "onnx"), ("int8", "onnx, int8")])
def test_a_readers_card_says_how_it_reads(precision: Any, tags: str) -> None:
    stage = PublishReader(recipe={"name": "tiny"}, precision=precision, teacher="org/teacher", teacher_sha256="abc123")
    text = stage.card(CHECKS[:1], {"inputs": INPUTS, "reading": Reading(max_length=48, stride=8, max_answer=7)})
    assert text.startswith(
        f"""---
library_name: onnxruntime
pipeline_tag: question-answering
tags: [question-answering, {tags}]
base_model: org/teacher
---
# tiny, {precision}

Finds the answer to a question in a text, {precision}, for ONNX Runtime.
Made from `org/teacher` (weights sha256 `abc123`), whose card states no licence.

One graph: ids of question and context in, two logits a token out. Inputs int64 `input_ids`, `attention_mask`, \
`token_type_ids`
[batch_size, sequence_length]; outputs float32 `start_logits` and `end_logits` [batch_size, sequence_length].
A window has at most 48 tokens; windows of a longer context share 8 tokens.

## Measured
| check | figure | value | bar |
|---|---|---|---|
| parity with PyTorch | max_difference | 2.9e-07 | <= 1e-05 |

F1 and exact match"""
    )
    assert 'enable_truncation(48, stride=8, strategy="only_second")' in text
    assert "if i <= j < i + 7), key=" in text
    assert "answer = context[window.offsets[first][0] : window.offsets[last][1]]\n```\n\nWith transformers 4" in text
    assert text.endswith("and logits of hard texts in `conformance/cases.json`.\n")


def test_a_readers_card_says_when_it_gives_no_answer() -> None:
    stage = PublishReader(recipe={"name": "tiny"}, precision="fp32", teacher="org/teacher", teacher_sha256="abc123")
    text = stage.card([], {"inputs": INPUTS, "reading": Reading(no_answer_threshold=-1.23456789012)})
    assert "share 128 tokens.\nNo answer is given where the first token's logits sum to more than -1.235 above" in text
    assert '- start[0, first] - end[0, last] > -1.23456789:\n    answer = ""\n```\n' in text


def test_the_folder_is_the_artifact_with_its_figures(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    source = artifacts() / "int8"
    made = publish(source, tmp_path / "int8", "int8")
    files = {p.relative_to(source) for p in source.rglob("*") if p.is_file()}
    added = {Path("README.md"), Path(RANGES), *(Path("conformance") / name for name in CONFORMANCE)}
    assert {p.relative_to(made.folder) for p in made.folder.rglob("*") if p.is_file()} == files | added
    assert (made.folder / GRAPH).read_bytes() == (source / GRAPH).read_bytes()
    assert made.figures["checks"] == [CHECKS[1].as_dict()]
    assert made.figures["operators"]["QAttention"] == 4
    assert made.figures["output_vectors"] == PRECISIONS
    assert made.figures["needs"] == {"onnxruntime": ">=1.24", "session_options": {}, "fast_on": list(INT8_FEATURES)}
    assert made.figures["made_on"] == features()


def test_the_ranges_of_int8_vectors_come_with_it(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    made = publish(artifacts() / "int8", tmp_path / "int8", "int8")
    encoder = OnnxEncoder(made.folder)
    vectors = encoder.encode(sentences(60, seed=1))
    codes = quantized(vectors, "int8", Ranges.load(made.folder, encoder.dim)).astype(np.float32)
    # Proportional to the vectors, so that the codes rank as the vectors do.
    cosine = (codes * vectors).sum(1) / np.linalg.norm(codes, axis=1)
    assert cosine.min() > 0.9995
    assert f"`{RANGES}` holds the `ranges` of sentence-transformers' `quantize_embeddings`" in card(made)


def test_a_static_students_card_speaks_of_no_transformer(static: Path, tmp_path: Path) -> None:
    text = card(publish(static / "int8", tmp_path / "made", "int8"))
    assert "unit vectors out: one vector a token, pooling, normalization." in text
    assert "dynamic int8" not in text
    assert "| batch invariance | cosine_min | 0.98765 |  |" in text


@pytest.mark.parametrize("center", [False, True])
def test_the_cards_lines_take_the_teachers_index_along(tiny: Path, tmp_path: Path, center: bool) -> None:
    """The student is the teacher, reduced: the projected index is exactly its own, wherever its origin is."""
    teacher, texts = TorchEncoder.load(tiny), sentences(60, seed=3)
    heldout, student = Heldout(texts, teacher.encode(texts)), draft(tmp_path / "pca")
    Pca(dim=8, center=center).run(tiny, sentences(200), heldout, student)
    Export().run(student.folder, draft(tmp_path / "plain"))
    made = publish(tmp_path / "plain", tmp_path / "made", "fp32", projection=Projection.load(student.folder))
    assert (made.folder / PROJECTION).read_bytes() == (student.folder / PROJECTION).read_bytes()
    assert made.figures["teacher_dim"] == 32
    [code] = re.findall(r"## The teacher's index\n.*?```python\n(.*?)```", card(made), re.DOTALL)
    assert "float32 [n, 32]" in code
    np.save(made.folder / "index.npy", heldout.teacher)
    code += f"np.save({str(tmp_path / 'moved.npy')!r}, index)\n"
    subprocess.run([sys.executable, "-c", code], cwd=made.folder, check=True)
    moved = np.load(tmp_path / "moved.npy")
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved, TorchEncoder.load(student.folder).encode(texts), atol=1e-5)
    np.testing.assert_allclose(moved, OnnxEncoder(made.folder).encode(texts), atol=1e-5)


def test_an_index_of_the_same_space_serves_as_it_is(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    made = publish(artifacts() / "int8", tmp_path / "int8", "int8")
    assert made.figures["teacher_dim"] == 32
    assert not (made.folder / PROJECTION).exists()
    text = card(made)
    assert "An index of the teacher's vectors, of length 32 as those here, serves on as it is: queries of this" in text
    assert PROJECTION not in text


def test_a_later_stage_leaves_the_card_behind(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    made = publish(artifacts() / "fp32", tmp_path / "fp32", "fp32")
    quantize(made.folder, draft(tmp_path / "int8"))
    assert not (tmp_path / "int8" / "README.md").exists()
    assert (tmp_path / "int8" / "tokenizer.json").is_file()


def example(text: str) -> str:
    return str(re.findall(r"```python\n(.*?)```", text.split("## Loading an artifact")[0], re.DOTALL)[0])


@pytest.fixture(scope="module")
def static(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a static student's artifacts."""
    home = tmp_path_factory.mktemp("static")
    static_student(open_model(tiny), sentences(120)).save_pretrained(str(home / "student"), create_model_card=False)
    return make_artifacts(home / "student", home)


@pytest.mark.parametrize(
    ("options", "precision", "tolerance"),
    [({}, "fp32", 1e-6), ({"dense": 16}, "int8", 1e-4), ({"family": "roberta"}, "fp32", 1e-6)],
    ids=["fp32", "int8", "roberta"],
)
def test_the_example_runs_as_it_stands(
    options: dict[str, Any], precision: str, tolerance: float, artifacts: Callable[..., Path], tmp_path: Path
) -> None:
    made = publish(artifacts(**options) / precision, tmp_path / "made", precision)
    code = example(card(made))
    assert ("session.x64quantprecision" in card(made)) is (precision == "int8")
    if precision == "int8" and saturates_here():  # by the card's own line
        opened = (
            "options = onnxruntime.SessionOptions()\noptions.add_session_config_entry('session.x64quantprecision', '1')"
        )
        code = code.replace("session = ", f"{opened}\nsession = ").replace('model.onnx")', 'model.onnx", options)')
    code += f"np.save({str(tmp_path / 'vectors.npy')!r}, vectors)\n"
    subprocess.run([sys.executable, "-c", code], cwd=made.folder, check=True)
    expected = OnnxEncoder(made.folder).encode(["A sentence.", "Another one."])
    got = np.load(tmp_path / "vectors.npy")
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() < tolerance
    assert np.abs(got[0] - got[1]).max() > 1e-2


def test_the_example_of_windows_runs_as_it_stands(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    made = publish(artifacts() / "fp32", tmp_path / "made", "fp32")
    own = card(made).split("## Loading an artifact")[0]
    assert "Of a longer text 64 tokens are read, and the rest is left out." in own
    code = re.findall(r"```python\n(.*?)```", own, re.DOTALL)[1]
    code += "import numpy as np\nnp.savez('got.npz', *windows, pooled=vectors)\n"
    subprocess.run([sys.executable, "-c", code], cwd=made.folder, check=True)
    got, texts = np.load(made.folder / "got.npz"), ["A long text. " * 500]
    assert (len(got["arr_0"]), got["pooled"].shape) == (len(got["arr_1"]), (1, 32))
    assert len(got["arr_0"]) > 30
    assert got["arr_2"][-1, 1] == len(texts[0].rstrip())
    assert np.abs(got["pooled"] - OnnxEncoder(made.folder).encode_document(texts, windows="mean")).max() < 1e-6


def test_a_static_students_example_runs_as_it_stands(static: Path, tmp_path: Path) -> None:
    made = publish(static / "int8", tmp_path / "made", "int8")
    code = example(card(made)) + f"np.save({str(tmp_path / 'vectors.npy')!r}, vectors)\n"
    subprocess.run([sys.executable, "-c", code], cwd=made.folder, check=True)
    expected = OnnxEncoder(made.folder).encode(["A sentence.", "Another one."])
    assert np.abs(np.load(tmp_path / "vectors.npy") - expected).max() < 1e-5


def test_the_card_shows_prompts_and_its_snippet_puts_them(tiny: Path, tmp_path: Path) -> None:
    model = open_model(tiny)
    model.prompts = {"query": "two red houses : ", "passage": 'a "cat"\n', "other": "new `|"}
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    Export().run(tmp_path / "model", draft(tmp_path / "plain"))
    made = publish(tmp_path / "plain", tmp_path / "made", "fp32")
    text = card(made)
    assert (
        "\n- `encode(texts)`: nothing\n"
        '- `encode_query(texts)`: `"two red houses : "`\n'
        "- `encode_document(texts)`: nothing\n"
        '- `encode(texts, prompt_name="other")`: `` "new `|" ``\n'
        r'- `encode(texts, prompt_name="passage")`: `"a \"cat\"\n"`'
        "\n\n```python\n"
    ) in text
    [code] = [code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "encode_query" in code]
    save = f"import numpy\nnumpy.savez({str(tmp_path / 'made.npz')!r}, queries=queries, documents=documents)\n"
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code + save], cwd=made.folder, check=True, env=os.environ | path)
    got, own = np.load(tmp_path / "made.npz"), open_model(tmp_path / "model")
    assert np.abs(got["queries"] - own.encode_query(["What is it?"])).max() < 1e-5
    assert np.abs(got["queries"] - own.encode(["What is it?"])).max() > 1e-3
    assert np.abs(got["documents"] - own.encode_document(["A sentence.", "Another one."])).max() < 1e-5


def test_a_card_without_prompts_speaks_of_none(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    text = card(publish(artifacts() / "fp32", tmp_path / "made", "fp32"))
    assert "encode_query" not in text
    assert "prompt" not in text.split("## Loading an artifact")[0]


def test_the_example_puts_the_default_prompt_before_its_texts(tiny: Path, tmp_path: Path) -> None:
    model = open_model(tiny)
    model.prompts, model.default_prompt_name = {"ask": 'say "é"\n'}, "ask"
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    Export().run(tmp_path / "model", draft(tmp_path / "plain"))
    code = example(card(publish(tmp_path / "plain", tmp_path / "made", "fp32")))
    assert r'encode_batch(["say \"é\"\nA sentence.", "say \"é\"\nAnother one."])' in code
