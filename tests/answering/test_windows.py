"""Windows cover the context, keep each token's place, and find an answer where it stands."""

from pathlib import Path

import numpy as np
import pytest
from builders import WORDS, sentences, tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from compressor.answering.questions.squad import Answer, Question
from compressor.answering.questions.windows import Cutter, Cutting, Window, batches, labels, padded
from compressor.core.errors import ModelError, TextError

LONG = " ".join(sentences(30))


def backend() -> Tokenizer:
    return tokenizer().backend_tokenizer


def cutter(max_length: int = 24, stride: int = 6, max_question: int = 8) -> Cutter:
    return Cutter(backend(), Cutting(max_length=max_length, stride=stride, max_question=max_question))


def ask(text: str = "the cat ?", context: str = LONG, *answers: str) -> Question:
    return Question("q1", text, context, tuple(Answer(words, context.index(words)) for words in answers))


def words_of(window: Window, context: str) -> list[str]:
    return [context[start:end] for start, end in window.offsets]


def test_a_short_context_is_one_window() -> None:
    (window,) = cutter().cut([ask(context="a dog runs")])
    assert words_of(window, "a dog runs") == ["a", "dog", "runs"]
    special = backend()
    assert window.ids.tolist() == special.encode("the cat ?", "a dog runs").ids
    assert window.types.tolist() == special.encode("the cat ?", "a dog runs").type_ids
    assert window.valid.tolist() == [True, *[False] * (window.first - 1), True, True, True, False]


def test_windows_cover_the_context_and_share_the_stride() -> None:
    windows = cutter().cut([ask()])
    assert len(windows) > 5
    assert all(len(window.ids) <= 24 for window in windows)
    starts = [window.offsets[:, 0].tolist() for window in windows]
    assert sorted(set(sum(starts, []))) == [start for start, _ in backend().encode(LONG).offsets[1:-1]]
    for before, after in zip(starts, starts[1:], strict=False):
        assert before[-6:] == after[:6]


def test_windows_are_transformers_own() -> None:
    wanted = tokenizer()("the cat ?", LONG, truncation="only_second", max_length=24, stride=6,
                         return_overflowing_tokens=True)["input_ids"]  # fmt: skip
    assert [window.ids.tolist() for window in cutter().cut([ask()])] == wanted


def test_each_question_has_its_windows_in_order() -> None:
    windows = cutter().cut([ask(context="a dog"), ask(), ask(context="two birds")])
    numbers = [window.question for window in windows]
    assert numbers == sorted(numbers)
    assert set(numbers) == {0, 1, 2}


def test_a_question_too_long_is_named() -> None:
    long = Question("q7", " ".join(WORDS[:9]), "a dog")
    with pytest.raises(TextError, match=r'^question "q7": 9 tokens; at most 8 are read \(reading.max_question\)$'):
        cutter().cut([ask(), long])


def bytes_tokenizer(trimmed_twice: bool) -> Tokenizer:
    """Return a byte-level tokenizer as RoBERTa's; ``trimmed_twice`` with a space that its offsets do not know of."""
    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokens.train_from_iterator([LONG], trainer)
    tokens.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), True, not trimmed_twice)
    return tokens


def test_answers_are_what_their_tokens_read(capsys: pytest.CaptureFixture[str]) -> None:
    contexts = [f"{text} Zoë." for text in sentences(40)]
    asked = [ask("the cat ?", text, text.split()[0], "Zoë", text) for text in contexts]
    cutting = Cutting(max_length=64, stride=6, max_question=20)
    Cutter(bytes_tokenizer(False), cutting).check(asked)
    assert "inside a token" not in capsys.readouterr().err
    with pytest.raises(TextError) as caught:
        Cutter(bytes_tokenizer(True), cutting).check(asked)
    assert str(caught.value) == (
        '80 of 120 answers (66.7%) are not what their tokens read (question "q1"): the tokenizer\'s offsets are wrong; '
        "at most 1% may be"
    )
    Cutter(bytes_tokenizer(True), cutting).check([ask("the cat ?", text, "Zoë") for text in contexts])


def test_answers_that_end_inside_a_word_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    cutter().check([ask("the cat ?", "a house runs", "hou", "runs")])
    assert "1 of 2 answers (50.0%) begin or end inside a token" in capsys.readouterr().err


def test_windows_without_room_are_refused() -> None:
    with pytest.raises(TextError) as caught:
        cutter(max_length=20, stride=10, max_question=8)
    assert str(caught.value) == (
        "reading.max_length = 20: a question of 8 tokens leaves 9 for the context, of which windows share 10; "
        "at least 22 are needed"
    )
    assert Cutter(backend(), Cutting(max_length=99, stride=2, max_question=8), limit=30).max_length == 30


@pytest.mark.parametrize("answer", ["dog", "dog runs", "dog runs fast today", "today"])
def test_an_answer_is_found_where_it_stands(answer: str) -> None:
    context = f"{LONG} a dog runs fast today"
    question = Question("q", "the cat ?", context, (Answer(answer, context.rindex(answer)),))
    windows = cutter().cut([question])
    found = labels(windows, [question])
    assert (found != 0).any()
    for window, ((first, last),) in zip(windows, found, strict=True):
        if last:
            begin, end = window.offsets[first - window.first, 0], window.offsets[last - window.first, 1]
            assert context[begin:end] == answer
    assert found[0].tolist() == [[0, 0]]  # it stands at the end


def test_an_answer_at_the_border_stands_whole_in_the_next_window() -> None:
    windows = cutter().cut([ask()])
    border = windows[0].offsets[-3:, :]
    begin, end = int(border[0, 0]), int(windows[1].offsets[6, 1])
    question = Question("q", "the cat ?", LONG, (Answer(LONG[begin:end], begin),))
    found = labels(windows, [question])
    assert found[0].tolist() == [[0, 0]]
    assert found[1].tolist() != [[0, 0]]


def test_a_part_of_a_word_takes_in_the_whole_token() -> None:
    (window,) = cutter().cut([ask(context="a house runs")])
    assert window.place(3, 6) == (window.first + 1, window.first + 1)
    assert window.place(0, 12) == (window.first, window.first + 2)
    assert window.place(0, 13) == (0, 0)


def test_every_answer_that_stands_whole_is_taken_once() -> None:
    context = "a dog runs"
    several = Question("q", "?", context, (Answer("dog runs", 2), Answer("a", 0), Answer("dog runs", 2)))
    none, one = Question("r", "?", context), Question("s", "?", context, (Answer("a", 0),))
    asked = [several, none, one]
    windows = cutter().cut(asked)
    first = windows[0].first
    taken = [[first + 1, first + 2], [first, first]]
    assert labels(windows, asked).tolist() == [taken, [[0, 0], [-1, -1]], [taken[1], [-1, -1]]]
    assert labels(windows[1:2], asked).tolist() == [[[0, 0]]]


def test_batches_hold_each_window_once_and_pad_at_the_right() -> None:
    windows = cutter().cut([ask(context=text) for text in sentences(20)])
    numbers = list(batches(windows, 6))
    assert sorted(sum(numbers, [])) == list(range(20))
    lengths = [max(len(windows[i].ids) for i in batch) for batch in numbers]
    assert lengths == sorted(lengths, reverse=True)
    features = padded([windows[i] for i in numbers[0]], pad=9)
    row = windows[numbers[0][-1]]
    assert features["input_ids"].shape == features["attention_mask"].shape == (6, lengths[0])
    assert features["attention_mask"][-1].sum() == len(row.ids)
    assert np.array_equal(features["input_ids"][-1, : len(row.ids)], row.ids)
    assert set(features["input_ids"][-1, len(row.ids) :]) <= {9}
    assert features["token_type_ids"][-1].sum() == row.types.sum()


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json: no readable tokenizer of the tokenizers library$"):
        Cutter.open(tmp_path, Cutting())
