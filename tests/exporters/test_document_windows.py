"""Texts longer than the limit, read whole: windows are pieces of the text, and their vectors what those pieces have."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import WORDS, sentences
from graphs import make_artifacts
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from compressor.core.errors import ArtifactError, RecipeError, TextError
from compressor.distil.student.static import static_student
from compressor.models.sentence_model import open_model
from compressor.vectors.codes import quantized
from exporters import session
from exporters.runtime.windows import WindowCutter, Windows, _places, _Room
from exporters.runtime.words import WordTokenizer
from exporters.session import OnnxEncoder

LONG = " ".join(sentences(60, seed=5))  # some 480 tokens, where 64 are read
LONGER = ". ".join(sentences(90, seed=6)) + " ."
FULL = "cat " * 62  # with two special tokens just the limit
TEXTS = ["the cat sleeps", LONG, "", FULL, LONGER, "a big dog ."]


@pytest.fixture(scope="module")
def fp32(artifacts: Callable[..., Path]) -> Path:
    return artifacts() / "fp32"


@pytest.fixture(scope="module")
def encoder(fp32: Path) -> OnnxEncoder:
    return OnnxEncoder(fp32, threads=2)


def pieces(windows: Windows, texts: list[str], number: int) -> list[str]:
    return [texts[number][start:end] for start, end in windows.spans[windows.texts == number]]


def by_hand(windows: Windows, model: Any, texts: list[str], number: int, prompt: str = "", unit: bool = True) -> Any:
    """Return the mean of the vectors that sentence-transformers gives a text's windows as texts of their own."""
    parts = pieces(windows, texts, number)
    tokens = np.array([len(ids) - 2 for ids in model.tokenizer(parts, truncation=False)["input_ids"]])
    vectors = model.encode([prompt + part for part in parts], prompt="")
    mean = (vectors * tokens[:, None]).sum(0) / tokens.sum()
    return mean / np.linalg.norm(mean) if unit else mean


@pytest.mark.parametrize("stride", [0, 8])
@pytest.mark.parametrize(
    "options",
    [{}, {"normalize": False}, {"dense": 16}, {"pooling": "cls", "normalize": False}, {"family": "roberta"}],
    ids=["unit", "not unit", "dense", "cls", "roberta"],
)
def test_a_text_is_the_mean_of_its_windows(
    options: dict[str, Any], stride: int, artifacts: Callable[..., Path], make_model: Callable[..., Path]
) -> None:
    home = artifacts(**options)
    model = open_model(home / "model" if "family" in options else make_model(**options))
    encoder = OnnxEncoder(home / "fp32")
    windows = encoder.document_windows(TEXTS, stride=stride)
    means = encoder.encode_document(TEXTS, windows="mean", stride=stride)
    cut = encoder.encode_document(TEXTS)
    assert means.shape == cut.shape
    assert means.dtype == np.float32
    unit = options.get("normalize", True)
    for number in (1, 4):
        wanted = by_hand(windows, model, TEXTS, number, unit=unit)
        assert np.abs(means[number] - wanted).max() < 1e-5
        assert np.abs(means[number] - cut[number]).max() > 1e-3
        assert (np.abs(np.linalg.norm(means[number]) - 1) < 1e-6) == unit
    for number in (0, 2, 3, 5):
        assert np.abs(means[number] - cut[number]).max() < 1e-5
    assert np.array_equal(encoder.encode_document(TEXTS, windows=True, stride=stride), means)


@pytest.mark.parametrize("stride", [0, 1, 8, 31])
def test_rows_are_the_pieces_of_their_texts(stride: int, encoder: OnnxEncoder, tiny: Path) -> None:
    windows = encoder.document_windows(TEXTS, stride=stride)
    model = open_model(tiny)
    parts = [TEXTS[text][start:end] for text, (start, end) in zip(windows.texts, windows.spans, strict=True)]
    assert np.abs(windows.vectors - model.encode(parts)).max() < 1e-5
    assert (windows.texts.dtype, windows.spans.dtype) == (np.int64, np.int64)
    assert sorted(set(windows.texts)) == list(range(6))
    assert (np.diff(windows.texts) >= 0).all()
    for number in (0, 2, 3, 5):
        assert pieces(windows, TEXTS, number) == [TEXTS[number]]
        assert windows.weights[windows.texts == number].tolist() == [1]
    for number in (1, 4):
        parts = pieces(windows, TEXTS, number)
        lengths = [len(ids) for ids in model.tokenizer(parts, truncation=False)["input_ids"]]
        assert max(lengths) <= 64
        assert min(lengths) > 40  # no stub at the end
        [whole] = model.tokenizer([TEXTS[number]], truncation=False)["input_ids"]
        assert len(parts) == -(-(len(whole) - 2 - stride) // (62 - stride))
        spans = windows.spans[windows.texts == number]
        assert (spans[0, 0], spans[-1, 1]) == (0, len(TEXTS[number]))
        shared = [len(TEXTS[number][b:a].split()) for a, b in zip(spans[:-1, 1], spans[1:, 0], strict=True)]
        assert all(0 <= words <= stride for words in shared)
        assert sum(shared) >= (len(parts) - 1) * stride // 2
        assert windows.weights[windows.texts == number].sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("batch_size", [3, 32, 91, 500])
def test_texts_within_the_limit_are_what_they_were(batch_size: int, fp32: Path) -> None:
    encoder, texts = OnnxEncoder(fp32, threads=2), [*sentences(90), FULL]
    plain = encoder.encode_document(texts, batch_size)
    assert np.array_equal(encoder.encode_document(texts, batch_size, windows="mean"), plain)
    windows = encoder.document_windows(iter(texts), batch_size)
    assert np.array_equal(windows.vectors, plain)
    assert windows.texts.tolist() == list(range(91))
    assert windows.spans.tolist() == [[0, len(text)] for text in texts]


@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_neighbours_and_batches_change_nothing(
    batch_size: int, encoder: OnnxEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = np.concatenate([encoder.encode_document([text], windows="mean", stride=5) for text in TEXTS * 3])
    monkeypatch.setattr(session, "_FIRST", 4)
    monkeypatch.setattr(session, "_AHEAD", 10)
    together = encoder.encode_document(TEXTS * 3, batch_size, windows="mean", stride=5)
    assert np.abs(together - alone).max() < 1e-5
    monkeypatch.setattr("exporters.runtime.windows._TEXTS", 2)
    assert np.abs(encoder.encode_document(TEXTS * 3, 7, windows="mean", stride=5) - alone).max() < 1e-5


def test_the_prompt_stands_before_every_window(fp32: Path, tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(fp32, tmp_path / "artifact"))
    usage = {"prompts": {"query": "who ? ", "document": "two red houses : ", "other": "here "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(usage))
    (folder / "manifest.json").unlink(missing_ok=True)
    encoder, model = OnnxEncoder(folder), open_model(tiny)
    for prompt, options in (
        ("two red houses : ", {}),
        ("here ", {"prompt_name": "other"}),
        ("old", {"prompt": "old"}),
        ("", {"prompt": ""}),
    ):
        windows = encoder.document_windows(["cat", LONG], **options)
        assert pieces(windows, ["cat", LONG], 0) == ["cat"]
        parts = pieces(windows, ["cat", LONG], 1)
        # "old" runs into the first word, and stands apart from the first token of later windows.
        own = [prompt + parts[0], *(prompt.strip() + " " + part for part in parts[1:])]
        tokens = model.tokenizer(own, truncation=False)["input_ids"]
        assert list(map(len, encoder._cutter.cut([LONG], prompt))) == list(map(len, tokens))
        assert max(map(len, tokens)) <= 64
        assert np.abs(windows.vectors[1:] - model.encode(own)).max() < 1e-5
        means = encoder.encode_document(["cat", LONG], windows="mean", **options)
        assert np.abs(means[0] - model.encode(prompt + "cat")).max() < 1e-5
        if prompt != "old":
            assert np.abs(means[1] - by_hand(windows, model, ["cat", LONG], 1, prompt)).max() < 1e-5
    with pytest.raises(TextError, match="^prompt_name = 'nothing': must be 'query' or 'document' or 'other'"):
        encoder.encode_document(TEXTS, windows="mean", prompt_name="nothing")


def test_codes_are_of_the_mean(encoder: OnnxEncoder) -> None:
    means = encoder.encode_document(TEXTS, windows="mean")
    codes = encoder.encode_document(TEXTS, windows="mean", precision="ubinary")
    assert np.array_equal(codes, quantized(means, "ubinary"))
    rows = encoder.document_windows(TEXTS, precision="binary")
    assert np.array_equal(rows.vectors, quantized(encoder.document_windows(TEXTS).vectors, "binary"))
    assert np.array_equal(encoder.encode_document(TEXTS, precision="binary"), encoder.encode(TEXTS, precision="binary"))


def test_nothing_and_empty_texts(encoder: OnnxEncoder) -> None:
    none = encoder.document_windows([])
    assert [part.shape for part in none] == [(0, 32), (0,), (0, 2), (0,)]
    assert encoder.encode_document([], windows="mean").shape == (0, 32)
    assert np.array_equal(encoder.encode_document([""], windows="mean"), encoder.encode_document([""]))
    blank = encoder.document_windows([" " * 5000, "\n"])
    assert blank.texts.tolist() == [0, 1]
    assert np.array_equal(blank.vectors, encoder.encode_document([" " * 5000, "\n"]))


def test_windows_are_computed_while_later_ones_are_cut(fp32: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, text, begun = OnnxEncoder(fp32, threads=1), " ".join([LONG] * 100), []
    monkeypatch.setattr(session, "_AHEAD", 10)
    real_cut, real_run, cuts = encoder._cutter.cut, encoder.run_ids, []

    def cut(*given: Any) -> Any:
        cuts.append(real_cut(*given))
        return cuts[-1]

    def run(ids: Any, mask: Any) -> Any:
        begun.append(len(cuts[0]._texts))
        return real_run(ids, mask)

    monkeypatch.setattr(encoder._cutter, "cut", cut)
    monkeypatch.setattr(encoder, "run_ids", run)
    [vector] = encoder.encode_document([text, "cat"], 1, windows="mean")[:1]
    assert len(begun) == len(cuts[0]._texts) > 700
    assert begun[0] <= 20
    assert max(noted - computed for computed, noted in enumerate(begun)) <= 30
    # A text of itself a hundred times over lies near it: windows meet its words in other places.
    assert vector @ encoder.encode_document([LONG], windows="mean")[0] > 0.9


@pytest.mark.parametrize("value", ["rows", "", 1, 0, 2.5, ["mean"]])
def test_another_pooling_is_refused(value: Any, encoder: OnnxEncoder) -> None:
    with pytest.raises(RecipeError) as caught:
        encoder.encode_document(TEXTS, windows=value)
    assert str(caught.value) == f"windows = {value!r}: must be False, True or 'mean'; document_windows gives rows"


@pytest.mark.parametrize("value", [-1, 32, True, 2.0, "8", None])
def test_another_stride_is_refused(value: Any, encoder: OnnxEncoder) -> None:
    message = f"stride = {value!r}: must be a whole number from 0 to 31, half of a window"
    for call in (
        lambda: encoder.encode_document(TEXTS, windows="mean", stride=value),
        lambda: encoder.document_windows(["cat"], stride=value),
    ):
        with pytest.raises(RecipeError) as caught:
            call()
        assert str(caught.value) == message


def test_what_else_is_refused(encoder: OnnxEncoder, fp32: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="^stride = 8: must be 0 where windows is False; only windows share tokens$"):
        encoder.encode_document(TEXTS, stride=8)
    with pytest.raises(
        TextError, match=r"^prompt = 'cat cat .*: its 62 tokens leave windows of 64 no room for a text$"
    ):
        encoder.encode_document(TEXTS, windows="mean", prompt=FULL)
    with pytest.raises(TextError, match="^text 300: int was given where a text belongs$"):
        encoder.document_windows(["cat"] * 300 + [3])  # type: ignore[list-item]
    with pytest.raises(TextError, match="^texts: one text was given where a list of texts belongs$"):
        encoder.encode_document("cat", windows="mean")
    with pytest.raises(RecipeError, match="^batch_size = 0: must be a whole number from 1$"):
        encoder.document_windows(TEXTS, 0)
    with pytest.raises(RecipeError, match="^precision = 'int4': must be one of "):
        encoder.encode_document(TEXTS, windows="mean", precision="int4")  # type: ignore[arg-type]
    folder = Path(shutil.copytree(fp32, tmp_path / "artifact"))
    (folder / "modules.json").unlink()
    assert len(OnnxEncoder(folder).document_windows(TEXTS).vectors) > 6
    with pytest.raises(ArtifactError, match=r"modules\.json: not readable, or names no modules: a mean of windows "):
        OnnxEncoder(folder).encode_document(TEXTS, windows="mean")


def test_a_static_students_windows(tiny: Path, tmp_path: Path) -> None:
    """Of tokens without special ones."""
    static_student(open_model(tiny), sentences(120)).save_pretrained(str(tmp_path / "student"))
    encoder = OnnxEncoder(make_artifacts(tmp_path / "student", tmp_path) / "fp32")
    windows = encoder.document_windows([LONG], stride=4)
    assert len(windows.vectors) > 5
    assert np.abs(windows.vectors - encoder.encode(pieces(windows, [LONG], 0))).max() < 1e-5
    mean = windows.weights @ windows.vectors
    got = encoder.encode_document([LONG], windows="mean", stride=4)
    assert np.abs(got[0] - mean / np.linalg.norm(mean)).max() < 1e-6


def spaced(pre_tokenizer: Any, processor: Any) -> WordTokenizer:
    """Return a tokenizer whose words begin with the space before them, cutting at 16 tokens."""
    tokens = Tokenizer(models.BPE(unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokens.train_from_iterator([" ".join(sentences(200)), "query: " * 20, "query: the cat"], trainer)
    tokens.post_processor = processor
    tokens.enable_truncation(16)
    return WordTokenizer(tokens, 16)


@pytest.mark.parametrize(
    ("pre_tokenizer", "processor", "around"),
    [
        (
            pre_tokenizers.ByteLevel(add_prefix_space=False),
            processors.RobertaProcessing(("</s>", 1), ("<s>", 0), True, False),
            ([0], [1]),
        ),
        (
            pre_tokenizers.Metaspace(),
            processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)]),
            ([], [1]),
        ),
    ],
    ids=["bytes", "metaspace"],
)
@pytest.mark.parametrize("prompt", ["", "query: "])
def test_words_that_begin_with_a_space(pre_tokenizer: Any, processor: Any, around: Any, prompt: str) -> None:
    cutter = WindowCutter(spaced(pre_tokenizer, processor), 16)
    before, after = around
    whole = cutter._plain.encode(prompt + LONG)
    tokens = whole.ids[len(before) : len(whole.ids) - len(after)]
    head = []
    if prompt:  # the space behind it belongs to the first word
        head = tokens[: next(i for i, (_, end) in enumerate(whole.offsets[len(before) :]) if end > len(prompt))]
        assert 1 <= len(head) <= 4
    cut = cutter.cut([LONG], prompt)
    windows = list(cut)
    assert len(windows) > 30
    assert max(map(len, windows)) <= 16
    start, stop = len(before) + len(head), -len(after)
    assert all(ids[:start] == before + head for ids in windows)
    assert all(ids[stop:] == after for ids in windows)
    assert [token for ids in windows for token in ids[start:stop]] == tokens[len(head) :]
    spans = cut.rows(np.zeros((len(windows), 1))).spans
    assert " ".join(LONG[a:b].strip() for a, b in spans) == LONG  # cut between words, nothing twice


def test_words_longer_than_a_window_are_cut(encoder: OnnxEncoder) -> None:
    word = "qz" * 49  # a token a letter
    (ids,) = encoder.tokenize([word])
    cut = encoder._cutter.cut([f"{word} cat"])
    windows = list(cut)
    assert list(map(len, windows)) == [52, 51]
    assert windows[0][1:-1] == ids[1:51]
    windows = encoder.document_windows([f"{word} cat"])
    assert windows.spans.tolist() == [[0, 50], [50, 102]]
    assert windows.weights.tolist() == pytest.approx([50 / 99, 49 / 99])


@pytest.mark.parametrize(
    ("end", "own", "stride", "words", "wanted"),
    [
        (4, 4, 0, [], [(0, 4)]),
        (10, 4, 0, [], [(0, 4), (4, 7), (7, 10)]),
        (10, 4, 0, [3, 5, 9], [(0, 3), (3, 7), (7, 10)]),  # a word of four tokens is cut where half would be empty
        (14, 6, 2, range(1, 14), [(0, 6), (4, 10), (8, 14)]),
        (14, 6, 2, [5, 9], [(0, 5), (5, 9), (9, 14)]),  # no word begins among the last two tokens but the next
        (0, 4, 0, [], [(0, 0)]),
    ],
)
def test_where_windows_begin_and_end(end: int, own: int, stride: int, words: Any, wanted: Any) -> None:
    assert list(_places(0, end, _Room(0, 0, own, stride), np.array(words, np.intp))) == wanted


def test_no_token_is_left_out_and_no_window_is_too_long() -> None:
    source = random.Random(0)
    for _ in range(2000):
        end, own = source.randint(1, 200), source.randint(1, 40)
        room = _Room(0, 0, own, source.randint(0, own // 2))
        words = np.array(sorted(source.sample(range(1, end), source.randint(0, end - 1))), np.intp)
        places = list(_places(0, end, room, words))
        assert places[0][0] == 0
        assert places[-1][1] == end
        assert all(0 < stop - start <= own for start, stop in places)
        for (start, stop), (after, further) in zip(places, places[1:], strict=False):
            assert start < after <= stop < further
            assert stop - after <= room.stride


def test_words_are_those_of_the_tiny_tokenizer() -> None:
    assert set(LONG.split()) <= set(WORDS)  # a token each, which the counts above take for granted


def test_who_opens_an_encoder_loads_nothing_of_it() -> None:
    code = "import sys, exporters.session; print([name for name in sys.modules if 'windows' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
