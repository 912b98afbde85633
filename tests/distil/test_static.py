"""A static student: fitted to its teacher, and through the whole flow to a verified artifact."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from builders import SPECIAL, sentences, word_pieces
from graphs import batch, draft, make_artifacts
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, StaticEmbedding, Transformer
from tokenizers import Tokenizer, processors
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from benchmarks.inspect import facts
from benchmarks.quality.story import row
from benchmarks.systems import System
from compressor.artifact.folder import Draft
from compressor.artifact.layout import GRAPH
from compressor.artifact.workspace import Model
from compressor.core.encoder import Vectors
from compressor.core.errors import GateError, ModelError, RecipeError, TextError
from compressor.distil.student import static
from compressor.distil.student.static import fit_tokens, shares, static_student, static_tokenizer, token_states
from compressor.models.agreement import Heldout, cosines
from compressor.models.projection import Projection
from compressor.models.sentence_model import TorchEncoder, open_model, token_limit
from compressor.models.source import find
from compressor.models.torch_int8 import TorchInt8
from compressor.vectors.codes import Ranges
from compressor.vectors.pca import Pca, fit
from exporters.graph.export import Export
from exporters.loading import kind_of
from exporters.publish.card import Publish
from exporters.session import OnnxEncoder
from exporters.verify.check import gate
from exporters.verify.embedding import Verify

TEXTS, HELDOUT = sentences(1200)[:1000], sentences(1200)[1000:]
MIXED = [*HELDOUT[:40], "", "cat", "the cat sleeps " * 40]
LENIENT = Verify(teacher_cosine_mean=0.5, teacher_cosine_p1=-1, teacher_cosine_min=-1, neighbours_at_10=0.1)
"""Bars of agreement that a static student of a random tiny teacher clears; all others stay."""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    """Return a random teacher, 2 layers, 32 wide, whose vocabulary is large enough to count as one."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("teacher") / "raw"
    tokens = word_pieces([*SPECIAL, *(f"[unused{i}]" for i in range(1000))], "[UNK]")
    tokens.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    words = PreTrainedTokenizerFast(tokenizer_object=tokens, model_max_length=64, **names)
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 64, "max_position_embeddings": 64, "initializer_range": 0.2}
    BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)
    words.save_pretrained(folder)
    modules: list[Any] = [Transformer(str(folder), max_seq_length=64), Pooling(32, pooling_mode="mean"), Normalize()]
    return SentenceTransformer(modules=modules, device="cpu").eval()


@pytest.fixture(scope="module")
def vectors(teacher: SentenceTransformer) -> Vectors:
    return TorchEncoder(teacher).encode(TEXTS)


@pytest.fixture(scope="module")
def heldout(teacher: SentenceTransformer) -> Heldout:
    return Heldout(HELDOUT, TorchEncoder(teacher).encode(HELDOUT))


@pytest.fixture(scope="module")
def student(teacher: SentenceTransformer, vectors: Vectors, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("student") / "static"
    made = static_student(teacher, TEXTS, vectors=vectors.astype(np.float16))
    made.save_pretrained(str(folder), create_model_card=False)
    return folder


@pytest.fixture(scope="module")
def home(student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifacts(student, tmp_path_factory.mktemp("static"))


def agreement(model: SentenceTransformer, heldout: Heldout) -> float:
    return float(cosines(TorchEncoder(model).encode(heldout.texts), heldout.teacher).mean())


def of_table(teacher: SentenceTransformer, table: Vectors) -> SentenceTransformer:
    return SentenceTransformer(modules=[StaticEmbedding(static_tokenizer(teacher), table), Normalize()], device="cpu")


def test_the_fit_agrees_better_than_the_tokens_alone_or_in_context(
    teacher: SentenceTransformer, student: Path, heldout: Heldout
) -> None:
    one_each = [name for name, _ in sorted(teacher.tokenizer.get_vocab().items(), key=lambda item: item[1])]
    alone = TorchEncoder(teacher).encode(one_each)
    states, _ = token_states(teacher, TEXTS)
    fitted = agreement(open_model(student), heldout)
    assert fitted > agreement(of_table(teacher, states), heldout) + 0.02
    assert fitted > agreement(of_table(teacher, alone), heldout) + 0.1


def test_without_the_fit_the_start_is_left(
    teacher: SentenceTransformer, student: Path, heldout: Heldout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static, "_ITERATIONS", 0)
    unfitted = static_student(teacher, TEXTS)
    assert agreement(unfitted, heldout) < agreement(open_model(student), heldout) - 0.02
    states, _ = token_states(teacher, TEXTS)
    assert agreement(unfitted, heldout) == pytest.approx(agreement(of_table(teacher, states), heldout), abs=1e-5)


def test_the_fit_is_ridge_regression(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    ids = [random.integers(0, 12, random.integers(1, 9)).tolist() for _ in range(80)]
    target, start = (random.standard_normal(size).astype(np.float32) for size in ((80, 5), (12, 5)))
    monkeypatch.setattr(static, "_COLUMNS", 2)
    mix = shares(ids, 12).toarray()
    scale = np.vdot(mix @ start, target) / np.vdot(mix @ start, mix @ start)
    exact = np.linalg.solve(mix.T @ mix + 0.03 * np.eye(12), mix.T @ target + 0.03 * scale * start)
    np.testing.assert_allclose(fit_tokens(shares(ids, 12), target, start), exact, atol=1e-4)


def test_shares_of_a_text_sum_to_one() -> None:
    assert shares([[1, 1, 2], [], [0]], 3).toarray() == pytest.approx(
        np.array([[0, 2 / 3, 1 / 3], [0, 0, 0], [1, 0, 0]])
    )


def test_states_are_the_means_over_the_texts(teacher: SentenceTransformer) -> None:
    states, vectors = token_states(teacher, ["the cat sleeps", "cat"])
    parts = []
    for text, place in (("the cat sleeps", 2), ("cat", 1)):
        with torch.inference_mode():
            parts.append(teacher.encode(text, output_value="token_embeddings")[place].numpy())
    cat = teacher.tokenizer.convert_tokens_to_ids("cat")
    np.testing.assert_allclose(states[cat], np.mean(parts, axis=0), atol=1e-5)
    np.testing.assert_allclose(vectors, TorchEncoder(teacher).encode(["the cat sleeps", "cat"]), atol=1e-5)
    unseen = states[teacher.tokenizer.convert_tokens_to_ids("dog")]
    assert np.linalg.norm(unseen) == pytest.approx(np.linalg.norm(states[_seen(teacher)], axis=1).mean(), rel=1e-4)


def _seen(teacher: SentenceTransformer) -> list[int]:
    return [teacher.tokenizer.convert_tokens_to_ids(word) for word in ("the", "cat", "sleeps")]


def test_a_teacher_with_a_dense_layer_gives_states_of_its_width(
    make_model: Callable[..., Path], heldout: Heldout
) -> None:
    teacher = open_model(make_model(dense=16))
    own = Heldout(HELDOUT, TorchEncoder(teacher).encode(HELDOUT))
    made = static_student(teacher, TEXTS)
    assert made[0].embedding.weight.shape == (len(teacher.tokenizer), 16)
    assert agreement(made, own) > 0.7


def test_it_is_the_same_each_time(teacher: SentenceTransformer, student: Path, vectors: Vectors) -> None:
    again = static_student(teacher, TEXTS, vectors=vectors.astype(np.float16))
    assert again[0].embedding.weight.equal(open_model(student)[0].embedding.weight)


def test_a_shorter_student_lies_in_the_components_of_the_teacher(
    teacher: SentenceTransformer, vectors: Vectors, heldout: Heldout
) -> None:
    projection = fit(vectors, 8, center=False)
    expected = Heldout(HELDOUT, projection.apply(heldout.teacher))
    assert agreement(static_student(teacher, TEXTS, dim=8, vectors=vectors), expected) > 0.7
    assert agreement(static_student(teacher, TEXTS, vectors=projection.apply(vectors)), expected) > 0.7


def test_plain_sentence_transformers_loads_it(student: Path) -> None:
    plain = SentenceTransformer(str(student), device="cpu")
    assert [type(module).__name__ for module in plain] == ["StaticEmbedding", "Normalize"]
    np.testing.assert_array_equal(plain.encode(MIXED), TorchEncoder.load(student).encode(MIXED))
    assert not plain.encode([""]).any()
    tokens = Tokenizer.from_file(str(student / "tokenizer.json"))
    assert tokens.encode("the cat").tokens == ["the", "cat"]
    assert token_limit(plain) == 64


def test_a_long_text_is_cut_where_the_teacher_cuts_it(student: Path) -> None:
    long, cut = "the cat sleeps " * 40, "the cat sleeps " * 21 + "the"
    encoder = TorchEncoder.load(student)
    assert encoder.max_length == 64
    np.testing.assert_allclose(encoder.encode([long]), encoder.encode([cut]), atol=1e-6)
    short = TorchEncoder.load(student, max_length=3)
    np.testing.assert_allclose(short.encode([long]), encoder.encode(["the cat sleeps"]), atol=1e-6)


@pytest.mark.parametrize("name", ["plain", "fp32"])
def test_the_graph_equals_pytorch(name: str, home: Path, student: Path) -> None:
    encoder, model, random = OnnxEncoder(home / name, threads=1), open_model(student), np.random.default_rng(0)
    expected = model.encode(MIXED)
    assert max(np.abs(encoder.encode(MIXED, rows) - expected).max() for rows in (1, 2, 7, 64)) < 1e-5
    for rows, length in ((1, 1), (1, 64), (2, 3), (7, 17), (64, 33)):
        ids, mask = batch(random, rows, length, vocabulary=1000)
        flat, offsets = ids[mask.astype(bool)], np.concatenate([[0], np.cumsum(mask.sum(1))[:-1]])
        with torch.inference_mode():
            features = {"input_ids": torch.from_numpy(flat), "offsets": torch.from_numpy(offsets)}
            by_torch = model(features)["sentence_embedding"].numpy()
        assert np.abs(encoder.run_ids(ids, mask) - by_torch).max() < 1e-5


@pytest.mark.parametrize("name", ["plain", "fp32", "int8"])
def test_the_empty_text_is_zero_alone_and_in_a_batch(name: str, home: Path) -> None:
    encoder = OnnxEncoder(home / name, threads=1)
    assert not encoder.encode([""]).any()
    mixed = encoder.encode(["the cat", "", "a dog"])
    assert not mixed[1].any()
    np.testing.assert_allclose(np.linalg.norm(mixed[[0, 2]], axis=1), 1, atol=1e-5)
    session = onnxruntime.InferenceSession(home / name / GRAPH)
    nothing = {value.name: np.zeros((2, 0), np.int64) for value in session.get_inputs()}
    assert not session.run(["sentence_embedding"], nothing)[0].any()


def test_the_graph_keeps_the_contract(home: Path, student: Path) -> None:
    session = onnxruntime.InferenceSession(home / "fp32" / GRAPH)
    assert [value.name for value in session.get_inputs()] == ["input_ids", "attention_mask"]
    assert {value.name: value.shape[-1] for value in session.get_outputs()} == {
        "last_hidden_state": 32,
        "sentence_embedding": 32,
    }
    ids = np.array([[5, 6, 7]])
    (states,) = session.run(["last_hidden_state"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    np.testing.assert_array_equal(states[0], open_model(student)[0].embedding.weight.detach().numpy()[5:8])


def test_its_tokenizer_adds_nothing_for_any_reader(home: Path) -> None:
    tokens = Tokenizer.from_file(str(home / "int8" / "tokenizer.json"))
    assert tokens.encode("the cat").tokens == ["the", "cat"]
    assert len(AutoTokenizer.from_pretrained(home / "int8")("the cat").input_ids) == 2
    settings = json.loads((home / "int8" / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_int8_holds_the_table_in_int8(home: Path, student: Path) -> None:
    small, large = ((home / name / GRAPH).stat().st_size for name in ("int8", "fp32"))
    assert small < 0.35 * large
    exact = TorchEncoder.load(student).encode(HELDOUT)
    assert cosines(exact, OnnxEncoder(home / "int8", threads=1).encode(HELDOUT)).min() > 0.999


def test_the_gate_passes_both_artifacts(home: Path, student: Path, heldout: Heldout) -> None:
    for name in ("fp32", "int8"):
        checks = LENIENT.examine(name, home / name, student, heldout)
        gate(checks)
        assert not [check for check in checks if check.check == "fusions as run"]


def test_the_gate_refuses_a_float_table_as_int8(home: Path, student: Path, heldout: Heldout) -> None:
    checks = LENIENT.examine("int8", home / "fp32", student, heldout)
    with pytest.raises(GateError, match=r"verify int8: weights as stored: int8_share = 0, must be >= 0.5"):
        gate(checks)


@pytest.mark.parametrize(("center", "kinds"), [(False, ["StaticEmbedding", "Normalize"]), (True, None)])
def test_pca_goes_into_the_table(
    center: bool, kinds: list[str] | None, student: Path, heldout: Heldout, tmp_path: Path
) -> None:
    stage = Pca(dim=8, center=center, sample=1000)
    stage.run(student, TEXTS, heldout, draft(tmp_path / "pca"))
    reduced = open_model(tmp_path / "pca")
    assert [type(m).__name__ for m in reduced] == (kinds or ["StaticEmbedding", "Normalize", "Dense", "Normalize"])
    projection = Projection.load(tmp_path / "pca")
    assert projection is not None
    expected = projection.apply(TorchEncoder.load(student).encode(HELDOUT))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(TorchEncoder(reduced).encode(HELDOUT), expected, atol=1e-5)
    made = make_artifacts(tmp_path / "pca", tmp_path / "made")
    for name in ("fp32", "int8"):
        gate(LENIENT.examine(name, made / name, tmp_path / "pca", heldout))


def test_it_can_be_measured_and_inspected(home: Path, student: Path, heldout: Heldout) -> None:
    assert (kind_of(student), kind_of(home / "int8")) == ("torch", "onnx")
    for folder in (student, home / "int8"):
        found = facts(folder)
        assert (found["family"], found["layers"]) == ("static", 0)
        told = row("distil", Model(folder, "key"), heldout, None, [])
        assert (told["layers"], told["dim"]) == (0, 32)
    size = System("s", "s", "torch", str(student)).size_bytes
    assert size >= (student / "model.safetensors").stat().st_size


def test_the_card_says_what_it_is(home: Path, tmp_path: Path) -> None:
    stage = Publish(recipe={"name": "tiny"}, teacher="a teacher", teacher_sha256="0", precision="int8")
    ranges = draft(tmp_path / "ranges")
    Ranges.fit(OnnxEncoder(home / "int8").encode(TEXTS[:100])).save(ranges.folder)
    fitted = Model(ranges.folder, "ranges", {"precisions": {}})
    stage.run(Model(home / "int8", "key", {"operators": {}}), fitted, [], draft(tmp_path / "out"))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "One graph, text ids in and unit vectors out: one vector a token, pooling, normalization." in card
    assert "dynamic int8" not in card


def test_as_a_teacher_it_is_opened_and_cannot_lose_layers(student: Path) -> None:
    assert find(str(student)).weights_sha256
    with pytest.raises(ModelError, match="a static model has no layers: it is no transformer"):
        static_student(open_model(student), TEXTS)


def test_what_cannot_be_is_refused_in_one_line(teacher: SentenceTransformer, student: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a static model has no linear layers; leave quantize out"):
        TorchInt8().run(student, Draft(tmp_path))
    with pytest.raises(RecipeError, match=r"distil.dim = 33: must be 1 to 32, the length of the teacher's vectors"):
        static_student(teacher, TEXTS, dim=33)
    with pytest.raises(TextError, match="no texts to fit token vectors on"):
        static_student(teacher, [])
    boundless = open_model(student)
    boundless.tokenizer.no_truncation()
    boundless.save_pretrained(str(tmp_path / "boundless"), create_model_card=False)
    with pytest.raises(ModelError, match="a static model without a length limit; set truncation.max_length in its"):
        Export().run(tmp_path / "boundless", draft(tmp_path / "out"))
