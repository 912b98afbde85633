"""Items have exactly as many tokens as they are measured at."""

from pathlib import Path

import pytest
import torch
from builders import sentences
from questions import SHAPE
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from compressor.answering.readers.base import tokenizer_of
from compressor.answering.readers.model import reader_of
from compressor.answering.readers.reader import Reading
from compressor.core.errors import ProviderError, RecipeError, TextError
from exporters.tasks import ANSWERING, EMBEDDING, task_in, task_named
from exporters.tasks.base import TORCH_CUDA
from exporters.tasks.lengths import pairs_of_length, texts_of_length


def word_piece(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@pytest.mark.parametrize("tokens", [8, 16, 33, 64])
@pytest.mark.parametrize(
    "texts",
    [sentences(50), ["cat"], ["Catsanddogsandmore, unknown!", "", "🐈 the-red-cat 猫"], ["the cat " * 400]],
    ids=["sentences", "a word", "unusual", "one long text"],
)
def test_texts_have_exactly_as_many_tokens(tokens: int, texts: list[str], tiny: Path) -> None:
    tokenizer = word_piece(tiny)
    made = texts_of_length(tokenizer, texts, tokens)
    assert len(made) == 6144 // tokens  # each length has the same work
    assert {len(encoding.ids) for encoding in tokenizer.encode_batch(made)} == {tokens}


def test_texts_of_a_length_differ(tiny: Path) -> None:
    assert len(set(texts_of_length(word_piece(tiny), sentences(1000), 16))) == 384


def test_texts_of_a_length_by_bytes_and_without_special_tokens() -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(sentences(300), trainer)
    made = texts_of_length(tokenizer, sentences(50, seed=1), 33)
    assert {len(encoding.ids) for encoding in tokenizer.encode_batch(made)} == {33}


def test_texts_without_a_token_are_refused(tiny: Path) -> None:
    with pytest.raises(TextError, match=r"^2 texts without a token; none of 16 tokens can be cut from them$"):
        texts_of_length(word_piece(tiny), ["", " "], 16)


PAIRS = [(f"who is {text} ?", text) for text in sentences(50)]


@pytest.mark.parametrize("tokens", [32, 48, 128])
@pytest.mark.parametrize("pairs", [PAIRS, [("who ? ", "cat")], [("", "🐈 the-red-cat 猫"), ("cat " * 300, "a")]])
def test_pairs_have_exactly_as_many_tokens(tokens: int, pairs: list[tuple[str, str]], tiny: Path) -> None:
    tokenizer = word_piece(tiny)
    made = pairs_of_length(tokenizer, pairs, tokens)
    assert len(made) == max(32, 6144 // tokens)
    asked = [(question.strip(), context) for question, context in made]
    assert {len(encoding.ids) for encoding in tokenizer.encode_batch(asked)} == {tokens}
    assert {question for question, _ in made} <= {question for question, _ in pairs}


def test_pairs_that_cannot_be_cut_are_refused(tiny: Path) -> None:
    tokenizer = word_piece(tiny)
    with pytest.raises(TextError, match=r"^1 contexts without a token; none of 16 tokens can be cut from them$"):
        pairs_of_length(tokenizer, [("who", " ")], 16)
    with pytest.raises(TextError, match=r"^1 questions, each of more than 6 tokens: too long at 16 tokens$"):
        pairs_of_length(tokenizer, [("cat " * 7, "cat")], 16)


def test_tasks_are_known_by_name_and_by_folder(tiny: Path, tmp_path: Path) -> None:
    assert [task_named(name).unit for name in (EMBEDDING, ANSWERING)] == ["texts", "questions"]
    assert task_in(tiny).name == EMBEDDING
    (tmp_path / "reading.json").write_text("{}")
    assert task_in(tmp_path).name == ANSWERING
    with pytest.raises(RecipeError, match=r"^task = 'rerank': must be sentence-embedding or question-answering$"):
        task_named("rerank")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("name", [EMBEDDING, ANSWERING])
def test_a_card_that_is_not_there_is_refused(name: str, tiny: Path, tmp_path: Path) -> None:
    folder = tiny
    if name == ANSWERING:
        reader_of(tiny).save_pretrained(folder := tmp_path / "reader")
        tokenizer_of(tiny).save_pretrained(folder)
    with pytest.raises(
        ProviderError, match=r"^device cuda: PyTorch sees no CUDA device; install a CUDA build of torch"
    ):
        task_named(name).open(folder, "torch", TORCH_CUDA, 1, reading=Reading(**SHAPE).model_dump_json())
