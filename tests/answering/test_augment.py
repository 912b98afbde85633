"""Copies differ from their originals and from each other, and their answers stand where they say."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import WORDS, tokenizer
from questions import questions, write_squad
from transformers import BertConfig, BertForMaskedLM
from typer.testing import CliRunner

from compressor.answering.questions.squad import Answer, Question, Questions, read_squad
from compressor.answering.training.augment import Augment, Candidates, Masked, Moves, candidates_of
from compressor.cli.app import app
from compressor.core.errors import ModelError

CONTEXT = "In 1990 the Big red House by a river ran over; THE man's dog, 7up, sees a red bird."
ASKED = Questions(
    [
        Question("q1", "?", CONTEXT, (Answer("red House", 16), Answer("river", 31))),
        Question("q2", "?", CONTEXT, (Answer("7up", 62),)),
        Question("q3", "?", "small cat runs", ()),
    ],
    "2.0",
)


def vocabulary(seed: int = 0) -> Candidates:
    words = tokenizer()
    table = np.random.default_rng(seed).normal(size=(len(words), 16)).astype(np.float32)
    return Candidates(words, table)


def copies_of(made: Questions, name: str) -> Iterator[Question]:
    return (one for one in made if one.id.startswith(f"{name}~"))


@pytest.fixture(scope="module")
def made() -> Questions:
    return Augment(factor=12).run(ASKED, vocabulary())


def test_originals_stay_first_and_copies_have_ids_of_their_own(made: Questions) -> None:
    assert made.questions[:3] == ASKED.questions
    assert len({one.id for one in made}) == len(made)
    assert made.version == "2.0"
    assert len(list(copies_of(made, "q1"))) == len(list(copies_of(made, "q2"))) == 12


def test_answers_stand_where_they_say(made: Questions) -> None:
    for one in made:
        for answer in one.answers:
            assert one.context[answer.start : answer.start + len(answer.text)] == answer.text
    moved = {one.answers[0].start for one in copies_of(made, "q1")}
    assert len(moved) > 1
    for one, other in zip(copies_of(made, "q1"), copies_of(made, "q2"), strict=True):
        assert one.context == other.context
        assert [answer.text for answer in one.answers] == ["red House", "river"]


def test_no_copy_is_there_twice(made: Questions) -> None:
    for name in ("q1", "q3"):
        contexts = [one.context for one in copies_of(made, name)]
        assert len({*contexts, CONTEXT, "small cat runs"}) == len(contexts) + 2


def test_what_is_no_word_stays_and_words_keep_their_case(made: Questions) -> None:
    gaps = re.split(r"[^\W_]+(?:['’][^\W_]+)*", CONTEXT)
    for one in copies_of(made, "q1"):
        assert re.split(r"[^\W_]+(?:['’][^\W_]+)*", one.context) == gaps
        words = re.findall(r"[^\W_]+(?:['’][^\W_]+)*", one.context)
        assert words[3][0].isupper()
        assert [words[i] for i in (0, 1, 2, 4, 5, 6, 7, 8)] == ["In", "1990", "the", "red", "House", "by", "a", "river"]
        assert "7up" in words


def test_stop_words_and_numbers_are_replaced_where_asked_for() -> None:
    made = Augment(factor=4, p=1.0, stop_words=True, numbers=True).run(ASKED, vocabulary())
    for one in copies_of(made, "q1"):
        first, number, article = one.context.split()[:3]
        assert first != "In"
        assert article != "the"
        assert number != "1990"


def test_a_word_is_replaced_by_its_neighbours() -> None:
    candidates = vocabulary()
    units = candidates.table / np.linalg.norm(candidates.table, axis=1, keepdims=True)
    known = tokenizer().get_vocab()
    near = sorted((w for w in WORDS if len(w) > 1 and w != "cat"), key=lambda w: -units[known[w]] @ units[known["cat"]])
    assert candidates.of("Cat", [(0, 3)], 4) == [near[:4]]
    pieces = tokenizer()("zo", add_special_tokens=False)["input_ids"]
    assert len(pieces) == 2
    vector = candidates.table[pieces].mean(axis=0)
    best = max((w for w in WORDS if len(w) > 1), key=lambda w: units[known[w]] @ vector)
    assert candidates.of("a zo", [(2, 4)], 1) == [[best]]


def test_the_share_replaced_and_the_seed() -> None:
    context = " ".join(["cat", "dog", "bird", "river"] * 50)
    asked = Questions([Question("q", "?", context)], "2.0")
    one, same, other = (Augment(factor=1, p=0.3, seed=s).run(asked, vocabulary())[1].context for s in (0, 0, 1))
    assert one == same != other
    changed = np.mean([a != b for a, b in zip(context.split(), one.split(), strict=True)])
    assert 0.2 < changed < 0.4


def test_where_nothing_can_be_replaced_there_is_no_copy() -> None:
    asked = Questions([Question("q", "?", "the 12 of", ()), Question("r", "?", "cat", (Answer("cat", 0),))], "2.0")
    assert Augment().run(asked, vocabulary()).questions == asked.questions


def test_an_id_that_is_taken_is_not_given_again() -> None:
    asked = Questions([Question("q", "?", "small cat"), Question("q~1", "?", "small dog")], "2.0")
    made = Augment(factor=1, p=1.0).run(asked, vocabulary())
    assert [one.id for one in made] == ["q", "q~1", "q~1~", "q~1~1"]


@pytest.mark.parametrize(("place", "moved"), [(0, 0), (2, 2), (9, 12), (14, 16), (20, 22)])
def test_moves(place: int, moved: int) -> None:
    assert Moves.of({(10, 13): "ab", (3, 6): "abcdef"}).moved(place) == moved


class Sure(torch.nn.Module):
    """A masked model that is sure of ``river``, then of ``cat``."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        self.seen.append(input_ids)
        known = tokenizer().get_vocab()
        logits = torch.zeros(*input_ids.shape, len(known))
        logits[..., known["river"]], logits[..., known["cat"]] = 9.0, 8.0
        return type("Output", (), {"logits": logits})


def test_a_masked_model_says_what_may_stand_there() -> None:
    sure = Sure()
    candidates = vocabulary()
    candidates.masked = Masked(sure, tokenizer())
    words = [(0, 3), (4, 9), (10, 12)]
    found = candidates.of("cat river zo", words, 2)
    assert found[0][0] == "river"
    assert found[1][0] == "cat"
    assert found[2] == vocabulary().of("zo", [(0, 2)], 2)[0]  # of two pieces: by its neighbours
    (rows,) = sure.seen
    plain = tokenizer()("cat river zo")["input_ids"]
    mask = tokenizer().mask_token_id
    assert rows.tolist() == [[plain[0], mask, *plain[2:]], [*plain[:2], mask, *plain[3:]]]


def test_a_word_far_into_a_long_context_is_masked_where_it_stands() -> None:
    sure = Sure()
    context = " ".join(WORDS * 8)
    start = context.rindex("river")
    Masked(sure, tokenizer()).of(context, [(start, start + 5)], 3)
    (rows,) = sure.seen
    assert rows.shape == (1, 130)
    place = rows[0].tolist().index(tokenizer().mask_token_id)
    known = tokenizer().get_vocab()
    before = context[:start].split()[-3:]
    assert rows[0, place - 3 : place].tolist() == [known[word] for word in before]


def test_the_command_with_a_masked_model(tiny: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    words = tokenizer()
    config = BertConfig(vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=256)  # fmt: skip
    BertForMaskedLM(config).save_pretrained(tmp_path / "masked")
    words.save_pretrained(tmp_path / "masked")
    train = write_squad(tmp_path / "train.json", questions(20))
    line = ["augment", str(train), "--out", str(tmp_path / "more.json"), "--model", str(tiny), "--factor", "2"]
    plain = CliRunner().invoke(app, line)
    assert plain.exit_code == 0, plain.output
    assert "60 questions" in plain.output
    one = read_squad(tmp_path / "more.json")
    assert CliRunner().invoke(app, [*line, "--masked", str(tmp_path / "masked")]).exit_code == 0
    other = read_squad(tmp_path / "more.json")
    assert len(one) == len(other) == 60
    assert one.key != other.key
    (tmp_path / "masked" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors: no such file"):
        candidates_of(tiny, tmp_path / "masked")
