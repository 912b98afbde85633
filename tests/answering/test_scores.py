"""Exact match and F1 follow the rules of SQuAD's evaluation scripts."""

from itertools import product

import pytest

from compressor.answering.questions.scores import evaluate, exact_match, f1, normalize
from compressor.answering.questions.squad import Answer, Question
from compressor.core.errors import TextError


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Eiffel\tTower!", "eiffel tower"),
        ("an apple a day, the best", "apple day best"),
        ("THE", ""),
        ("theory of a.b.", "theory of ab"),  # punctuation goes before the articles
        ("don't", "dont"),
        ("the-end", "theend"),
        ("U.S.A.", "usa"),
        ("£5 — “quoted”", "£5 — “quoted”"),  # ASCII punctuation alone
        ("a\u00a0b", "b"),
        ("Ein Haus", "ein haus"),
        ("", ""),
    ],
)
def test_normalized(text: str, normal: str) -> None:
    assert normalize(text) == normal


@pytest.mark.parametrize(
    ("said", "truth", "score"),
    [
        ("the red house", "Red House!", 1.0),
        ("red house", "house", 2 / 3),
        ("red", "blue", 0.0),
        ("a b b c", "b b b d", 2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4)),  # "a" is an article; repeats count
    ],
)
def test_f1_counts_words_with_repeats(said: str, truth: str, score: float) -> None:
    assert f1(said, truth) == pytest.approx(score)
    assert f1(truth, said) == pytest.approx(score)
    assert exact_match(said, truth) == float(score == 1)


def test_without_words_the_versions_differ() -> None:
    assert [f1("", "", "2.0"), f1("the", "", "2.0"), f1("red", "", "2.0")] == [1.0, 1.0, 0.0]
    assert f1("the", "a", "1.1") == 0.0
    assert exact_match("the", "a") == 1.0


CONTEXT = "red house on the blue hill"
QUESTIONS = [
    Question("1", "?", CONTEXT, (Answer("red house", 0), Answer("house", 4))),
    Question("2", "?", CONTEXT, (Answer("blue hill", 17),)),
    Question("3", "?", CONTEXT),
    Question("4", "?", CONTEXT),
]


def test_the_best_of_several_answers_counts_and_means_are_in_percent() -> None:
    figures = evaluate(QUESTIONS[:2], {"1": "the house", "2": "hill"}, "1.1")
    assert figures == pytest.approx({"exact": 50.0, "f1": 100 * (1 + 2 / 3) / 2, "total": 2.0})


def test_questions_without_an_answer_want_silence() -> None:
    figures = evaluate(QUESTIONS, {"1": "red house", "2": "", "3": "", "4": "red"}, "2.0")
    assert figures == pytest.approx(
        {"exact": 50.0, "f1": 50.0, "total": 4.0, "HasAns_exact": 50.0, "HasAns_f1": 50.0, "HasAns_total": 2.0}
        | {"NoAns_exact": 50.0, "NoAns_f1": 50.0, "NoAns_total": 2.0}
    )


def test_an_answer_of_articles_alone_is_none_in_version_2() -> None:
    odd = [Question("1", "?", CONTEXT, (Answer("the", 13),))]
    assert evaluate(odd, {"1": ""}, "2.0")["exact"] == 100.0


def test_a_question_without_a_prediction_is_named() -> None:
    with pytest.raises(TextError, match='^question "2": no prediction$'):
        evaluate(QUESTIONS, {"1": "red"}, "1.1")


def test_the_figures_are_those_of_transformers_own_copy_of_the_script() -> None:
    theirs = pytest.importorskip("transformers.data.metrics.squad_metrics")
    texts = ["", "the", "Red house!", "red", "a red house on the hill", "blue hill", "hill, blue", "U.S. hill"]
    for said, truth in product(texts, texts):
        assert exact_match(said, truth) == theirs.compute_exact(truth, said)
        assert f1(said, truth) == pytest.approx(theirs.compute_f1(truth, said))
