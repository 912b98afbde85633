"""Queries and documents are one corpus, each with the model's prompt, the long ones in pieces, too."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from corpora import NUMBERED, every, write

from compressor.artifact.prompts import Prompts
from compressor.core.errors import RecipeError
from compressor.texts.corpus import Corpus, Texts
from compressor.texts.pieces import sentences_of
from compressor.texts.roles import Queries, RoleTexts

PLAIN = Prompts({"query": "", "document": ""})
E5 = Prompts({"query": "query: ", "document": "text:\n"})
ALWAYS = Prompts({"query": "q: ", "document": ""}, "all: ")
UNPOOLED = Prompts({"query": "", "document": ""}, pooled=False)
ASKED = [f"Where does number {i} stand?" for i in range(300)]
PASSAGES = [f"Passage {i} begins. It goes on with {i}. Here it ends, at {i}." for i in range(400)]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESSOR_CACHE", str(tmp_path / "cache"))


def load(
    folder: Path, prompts: Prompts, texts: Sequence[str] = NUMBERED, queries: dict[str, Any] | None = None, **own: Any
) -> Corpus:
    write(folder / "texts.txt", list(texts))
    write(folder / "asked.txt", ASKED)
    chosen = None if queries is None else Queries(source="asked.txt", **queries)
    return RoleTexts(source="texts.txt", **own).load_roles(folder, prompts, chosen)


def test_texts_alone_are_what_they_were(tmp_path: Path) -> None:
    corpus = load(tmp_path, E5)
    same = Texts(source="texts.txt").load(tmp_path)
    assert corpus.fingerprint == same.fingerprint
    assert every(corpus) == every(same)


def test_each_role_has_its_prompt_in_every_part(tmp_path: Path) -> None:
    corpus = load(tmp_path, E5, queries={})
    assert sorted(every(corpus)) == sorted([*(f"text:\n{t}" for t in NUMBERED), *(f"query: {q}" for q in ASKED)])
    for part in (corpus.dev, corpus.heldout):
        assert {text.split(":")[0] for text in part} == {"text", "query"}
    assert corpus.facts()["prompts"] == ("text:\n", "query: ")
    assert corpus.facts()["per_source"] == {"texts.txt": 1000, "asked.txt": 300}


def test_another_prompt_is_another_corpus(tmp_path: Path) -> None:
    keys = {load(tmp_path, E5, queries={"prompt": prompt}).fingerprint for prompt in ("", "ask: ", "query: ")}
    assert len(keys | {load(tmp_path, PLAIN, queries={}).fingerprint, load(tmp_path, E5).fingerprint}) == 5


def test_files_that_change_places_have_the_prompt_of_their_place(tmp_path: Path) -> None:
    first = load(tmp_path, E5, queries={})
    write(tmp_path / "texts.txt", ASKED)
    write(tmp_path / "asked.txt", NUMBERED)
    swapped = RoleTexts(source="texts.txt").load_roles(tmp_path, E5, Queries(source="asked.txt"))
    assert sorted(every(swapped)) == sorted([*(f"text:\n{q}" for q in ASKED), *(f"query: {t}" for t in NUMBERED)])
    assert swapped.fingerprint != first.fingerprint


def test_what_is_kept_out_is_told_without_its_prompt(tmp_path: Path) -> None:
    plain, corpus = load(tmp_path, PLAIN, queries={}), load(tmp_path, E5, queries={})
    assert corpus.kept_out() == plain.kept_out() == [*plain.dev, *plain.heldout]
    assert list(corpus.bare(corpus.train)) == list(plain.train)
    longer = load(tmp_path, E5, queries={"prompt": "text:\n\n"})  # begins as the other prompt does
    assert longer.kept_out() == plain.kept_out()


def test_queries_are_drawn_in_their_share(tmp_path: Path) -> None:
    corpus = load(tmp_path, PLAIN, queries={"share": 0.25})
    taken = corpus.per_source
    assert taken["asked.txt"] == 300
    assert abs(taken["texts.txt"] - 900) <= 2


def test_pieces_are_of_texts_to_train_on_alone(tmp_path: Path) -> None:
    whole = load(tmp_path, E5, PASSAGES, queries={})
    corpus = load(tmp_path, E5, PASSAGES, queries={}, pieces=2)
    assert (corpus.dev, corpus.heldout) == (whole.dev, whole.heldout)
    train, measured = set(corpus.train), {*corpus.dev, *corpus.heldout}
    added = train - set(whole.train)
    assert corpus.pieces == len(added) > len(PASSAGES)
    assert all(text.startswith("text:\n") for text in added)
    numbers = {text.split()[2] for text in measured if text.startswith("text")}
    pieces = {sentence for text in added for sentence in sentences_of(text.removeprefix("text:\n"))}
    assert not {f"Passage {number} begins." for number in numbers} & pieces


def test_a_piece_that_is_measured_on_is_left_out(tmp_path: Path) -> None:
    texts = [*PASSAGES, *(f"passage {i} BEGINS" for i in range(400))]
    corpus = load(tmp_path, PLAIN, texts, pieces=1)
    begun = {text.split()[1] for text in corpus.train if text.lower().rstrip(".").endswith("begins")}
    measured = {text.split()[1] for text in (*corpus.dev, *corpus.heldout) if text.endswith("BEGINS")}
    assert measured
    assert not begun & measured


@pytest.mark.parametrize(
    ("prompts", "fields", "message"),
    [
        (E5, {"prompt_name": "passage"}, "texts.prompt_name = 'passage': must be 'query' or 'document'"),
        (
            ALWAYS,
            {"prompt": "x: "},
            "texts.prompt = 'x: ': the model always puts its default prompt first; leave it out",
        ),
        (PLAIN, {"queries": {"prompt_name": "ask"}}, "queries.prompt_name = 'ask': must be 'query' or 'document'"),
        (UNPOOLED, {"prompt": "x: "}, "texts.prompt = 'x: ': the model's pooling leaves prompts out"),
        (PLAIN, {"queries": {}, "weights": (1.0,)}, "queries.share: missing; texts.weights say"),
    ],
)
def test_a_prompt_that_cannot_be_is_refused(
    prompts: Prompts, fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError) as fault:
        load(tmp_path, prompts, **fields)
    assert str(fault.value).startswith(message)
    assert "\n" not in str(fault.value)
