"""The best spans are the best of all, whatever windows they stand in."""

import math

import numpy as np
import pytest
from builders import sentences, tokenizer

from compressor.answering.questions.spans import Choosing, Prediction, Span, best_spans, best_threshold, measure
from compressor.answering.questions.squad import Answer, Question
from compressor.answering.questions.windows import Cutter, Cutting, Window

CONTEXT = " ".join(sentences(12))
QUESTION = Question("q", "the cat ?", CONTEXT)


def windows_of(*questions: Question) -> list[Window]:
    cutting = Cutting(max_length=24, stride=6, max_question=8)
    return Cutter(tokenizer().backend_tokenizer, cutting).cut(questions)


def random_logits(windows: list[Window], seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    random = np.random.default_rng(seed)
    first, second = ([random.normal(size=len(w.ids)).astype(np.float32) for w in windows] for _ in range(2))
    return first, second


def test_all_spans_are_weighed() -> None:
    """Against every pair of tokens of every window, one by one."""
    windows = windows_of(QUESTION)
    starts, ends = random_logits(windows)
    (made,) = best_spans([QUESTION], windows, starts, ends, Choosing(n_best=7, max_answer=4))
    scores: dict[tuple[int, int], float] = {}
    for window, start, end in zip(windows, starts, ends, strict=True):
        for i in range(len(window.offsets)):
            for j in range(i, min(i + 4, len(window.offsets))):
                place = int(window.offsets[i, 0]), int(window.offsets[j, 1])
                score = float(start[window.first + i] + end[window.first + j])
                scores[place] = max(scores.get(place, -math.inf), score)
    wanted = sorted(scores.items(), key=lambda item: -item[1])[:7]
    assert [(span.start, span.end) for span in made.spans] == [place for place, _ in wanted]
    assert [span.score for span in made.spans] == pytest.approx([score for _, score in wanted])
    assert all(span.text == CONTEXT[span.start : span.end] for span in made.spans)
    shares = np.exp([score for _, score in wanted])
    assert [span.probability for span in made.spans] == pytest.approx(list(shares / shares.sum()), rel=1e-5)
    assert made.null_score == pytest.approx(min(float(s[0] + e[0]) for s, e in zip(starts, ends, strict=True)))


def test_question_and_special_tokens_are_never_answers() -> None:
    windows = windows_of(QUESTION)
    starts = [np.where(window.valid, 0.0, 9.0).astype(np.float32) for window in windows]
    (made,) = best_spans([QUESTION], windows, starts, starts, Choosing())
    assert {span.score for span in made.spans} == {0.0}


def test_questions_keep_their_order_and_windows() -> None:
    questions = [QUESTION, Question("r", "the dog ?", "a red house"), QUESTION]
    windows = windows_of(*questions)
    starts, ends = random_logits(windows)
    made = best_spans(questions, windows, starts, ends, Choosing(n_best=3))
    assert [len(one.spans) for one in made] == [3, 3, 3]
    assert all(span.text in "a red house" for span in made[1].spans)


def test_silence_is_chosen_by_its_margin() -> None:
    made = Prediction((Span("red", 0, 3, 2.0, 1.0),), 2.5)
    assert made.margin == 0.5
    assert [made.text(), made.text(0.5), made.text(0.4)] == ["red", "red", ""]
    assert Prediction((), 0.0).text() == ""


def scored(margins: list[float], right: list[bool | None]) -> tuple[list[Question], list[Prediction]]:
    """Return questions and predictions; right: None where there is no answer."""
    questions = [
        Question(str(i), "?", "red house", () if ok is None else (Answer("red" if ok else "house", 0),))
        for i, ok in enumerate(right)
    ]
    return questions, [Prediction((Span("red", 0, 3, 0.0, 1.0),), margin) for margin in margins]


@pytest.mark.parametrize(
    ("margins", "right", "threshold"),
    [
        ([-2.0, -1.0, 1.0, 2.0], [True, True, None, None], -1.0),
        ([-2.0, -1.0, 1.0, 2.0], [True, True, True, True], 2.0),
        ([-2.0, -1.0], [None, None], -3.0),
        (
            [-2.0, 0.0, 0.0, 1.0],
            [True, True, None, None],
            0.0,
        ),  # one margin is answered together; silence gains nothing
    ],
)
def test_the_threshold_of_the_highest_f1(margins: list[float], right: list[bool | None], threshold: float) -> None:
    questions, predictions = scored(margins, right)
    found = best_threshold(questions, predictions)
    assert found == threshold
    best = measure(questions, predictions, "2.0", found)["f1"]
    others = [-9.0, *margins, 9.0]
    assert best == max(measure(questions, predictions, "2.0", one)["f1"] for one in others)


def test_measured_by_the_texts() -> None:
    questions, predictions = scored([-1.0, -1.0], [True, False])
    assert measure(questions, predictions, "1.1") == {"exact": 50.0, "f1": 50.0, "total": 2.0}
