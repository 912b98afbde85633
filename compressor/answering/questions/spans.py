"""From the logits of windows to the best spans of each question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from compressor.answering.questions.scores import evaluate, f1, truths
from compressor.answering.questions.squad import Question
from compressor.answering.questions.windows import Window
from compressor.core.config import Config

Logits = NDArray[np.float32]


class Choosing(Config):
    """How spans are chosen."""

    n_best: Annotated[int, Field(ge=1)] = 20
    """Spans of a question that are kept, best first."""
    max_answer: Annotated[int, Field(ge=1)] = 30
    """Tokens of an answer, at most."""
    no_answer_threshold: float | None = None
    """Give no answer where that scores higher than the best span by more than this; None: answer always."""


@dataclass(frozen=True)
class Span:
    """A piece of the context; ``score`` is the sum of its start and end logits, ``probability`` its share of n-best."""

    text: str
    start: int
    end: int
    score: float
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The best spans of a question, best first, and the score of there being no answer."""

    spans: tuple[Span, ...]
    null_score: float
    threshold: float | None = None
    """The reader's own ``no_answer_threshold``."""

    @property
    def margin(self) -> float:
        """Return by how much no answer scores higher than the best span; infinite where there is no span."""
        return self.null_score - self.spans[0].score if self.spans else float("inf")

    def text(self, threshold: float | None = None) -> str:
        """Return the best span's text, "" for no answer: by ``threshold``, or where that is None by its own."""
        threshold = self.threshold if threshold is None else threshold
        if not self.spans or (threshold is not None and self.margin > threshold):
            return ""
        return self.spans[0].text


def best_spans(
    questions: Sequence[Question],
    windows: Sequence[Window],
    starts: Sequence[Logits],
    ends: Sequence[Logits],
    choosing: Choosing,
) -> list[Prediction]:
    """Return the prediction of each question; ``starts`` and ``ends``, float32 [tokens], are one a window.

    All spans within a window are weighed, not those of the best starts and ends alone. A span that several windows
    have counts once, with its best score; no answer has its least score over the windows, as BERT's own evaluation
    takes it (Devlin et al. 2019, arXiv:1810.04805).
    """
    found: list[dict[tuple[int, int], float]] = [{} for _ in questions]
    nulls = np.full(len(questions), np.inf)
    for window, start, end in zip(windows, starts, ends, strict=True):
        own = found[window.question]
        nulls[window.question] = min(nulls[window.question], float(start[0] + end[0]))
        for first, last, score in _top(start[window.tokens], end[window.tokens], choosing):
            place = (int(window.offsets[first, 0]), int(window.offsets[last, 1]))
            own[place] = max(own.get(place, -np.inf), score)
    return [
        _prediction(question.context, spans, float(null), choosing)
        for question, spans, null in zip(questions, found, nulls, strict=True)
    ]


def _top(start: Logits, end: Logits, choosing: Choosing) -> list[tuple[int, int, float]]:
    """Return the best spans of one window: first token, last token, score."""
    count, longest = len(start), min(choosing.max_answer, len(start))
    if not count:
        return []
    # scores[length - 1, first]
    scores = np.full((longest, count), -np.inf, np.float32)
    for more in range(longest):
        scores[more, : count - more] = start[: count - more] + end[more:]
    most = min(choosing.n_best, int(np.isfinite(scores).sum()))
    if not most:
        return []
    best = np.argpartition(-scores, most - 1, axis=None)[:most]
    lengths, firsts = np.unravel_index(best, scores.shape)
    return [(int(i), int(i + more), float(scores[more, i])) for more, i in zip(lengths, firsts, strict=True)]


def _prediction(context: str, spans: Mapping[tuple[int, int], float], null: float, choosing: Choosing) -> Prediction:
    # Of equal scores the earlier and shorter span: the order does not depend on the windows'.
    ranked = sorted(spans.items(), key=lambda item: (-item[1], item[0]))[: choosing.n_best]
    scores = np.array([score for _, score in ranked])
    shares = np.exp(scores - scores.max()) if len(scores) else scores
    shares = shares / shares.sum() if len(scores) else shares
    made = [
        Span(context[start:end], start, end, score, float(share))
        for ((start, end), score), share in zip(ranked, shares, strict=True)
    ]
    return Prediction(tuple(made), null, choosing.no_answer_threshold)


def measure(
    questions: Sequence[Question], predictions: Sequence[Prediction], version: str, threshold: float | None = None
) -> dict[str, float]:
    """Return SQuAD's figures of the predictions (see ``evaluate``), by ``threshold`` or by the reader's own."""
    texts = {
        question.id: prediction.text(threshold) for question, prediction in zip(questions, predictions, strict=True)
    }
    return evaluate(questions, texts, version)


def best_threshold(questions: Sequence[Question], predictions: Sequence[Prediction]) -> float:
    """Return the ``no_answer_threshold`` of the highest F1 on ``questions``, as SQuAD 2.0's evaluation looks for it.

    To be fitted on other questions than it is judged on. Of equal ones, the highest: answers rather than silence.
    """
    gains = []
    for question, prediction in zip(questions, predictions, strict=True):
        right = truths(question, "2.0")
        answered = max(f1(prediction.text(float("inf")), truth) for truth in right)
        silent = max(f1("", truth) for truth in right)
        gains.append((prediction.margin, answered - silent))
    # From the lowest margin up: a question is answered where its margin is at most the threshold.
    gains.sort(key=lambda gain: gain[0])
    margins, totals = [-np.inf, *(margin for margin, _ in gains)], np.cumsum([0.0, *(gain for _, gain in gains)])
    best = max(range(len(margins)), key=lambda i: (totals[i] if _ends(margins, i) else -np.inf, i))
    if not np.isfinite(margins[best]):
        finite = [margin for margin in margins if np.isfinite(margin)]
        return (min(finite) - 1.0 if margins[best] < 0 else max(finite)) if finite else 0.0
    return float(margins[best])


def _ends(margins: Sequence[float], index: int) -> bool:
    """Tell whether the next margin is another: questions of one margin are answered together."""
    return index + 1 == len(margins) or margins[index + 1] > margins[index]
