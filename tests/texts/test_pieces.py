"""Long texts give pieces of every length, and what is measured on is part of none."""

import pytest

from compressor.texts.pieces import sentences_of, with_pieces

LONG = 'He said "No." Then he left! Was it 3 o\'clock? 今日は。明日は。 E.g. this stays.'


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ('He said "No." Then he left!', ['He said "No."', "Then he left!"]),
        ("Pay 3.50 at www.shop.com now.", ["Pay 3.50 at www.shop.com now."]),
        ("今日は。明日は。", ["今日は。", "明日は。"]),
        ("No mark at all", ["No mark at all"]),
        ("Ende. Österreich liegt dort. (Nicht hier.)", ["Ende.", "Österreich liegt dort.", "(Nicht hier.)"]),
    ],
)
def test_sentences_end_at_their_marks(text: str, sentences: list[str]) -> None:
    assert sentences_of(text) == sentences


def test_pieces_are_runs_of_sentences_one_after_the_other() -> None:
    sentences = [f"Sentence number {i} stands here." for i in range(9)]
    whole, *pieces = with_pieces([" ".join(sentences)], 3)
    assert whole == " ".join(pieces) == " ".join(sentences)
    lengths = [len(sentences_of(piece)) for piece in pieces]
    assert len(pieces) > 1
    assert max(lengths) <= 3
    assert pieces == list(with_pieces([whole], 3))[1:]


def test_a_text_of_one_sentence_has_no_pieces_and_none_is_the_whole() -> None:
    assert list(with_pieces(["One sentence.", "Two here. And there."], 1)) == [
        "One sentence.",
        "Two here. And there.",
        "Two here.",
        "And there.",
    ]
    for most in range(1, 9):
        assert list(with_pieces([LONG], most)).count(LONG) == 1
