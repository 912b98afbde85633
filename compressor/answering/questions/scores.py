"""Exact match and F1 as SQuAD's own evaluation scripts define them (v1.1 and v2.0)."""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

from compressor.answering.questions.squad import Question
from compressor.core.errors import TextError

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_PUNCTUATION = frozenset(string.punctuation)


def normalize(text: str) -> str:
    """Lower the case, take out ASCII punctuation, then the articles a, an and the, and even out white space."""
    lowered = "".join(ch for ch in text.lower() if ch not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", lowered).split())


def exact_match(prediction: str, truth: str) -> float:
    """Return 1.0 where both are the same normalized, else 0.0."""
    return float(normalize(prediction) == normalize(truth))


def f1(prediction: str, truth: str, version: str = "2.0") -> float:
    """Return the harmonic mean of precision and recall of the prediction's words, counted with repeats, 0 to 1.

    Where one side has no words, version 2.0 gives 1 if neither has any; 1.1 gives 0.
    """
    own, wanted = normalize(prediction).split(), normalize(truth).split()
    if version.startswith("2.") and not (own and wanted):
        return float(own == wanted)
    common = sum((Counter(own) & Counter(wanted)).values())
    if not common:
        return 0.0
    precision, recall = common / len(own), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def truths(question: Question, version: str) -> list[str]:
    """Return the texts that count as right; version 2.0 leaves out those without words, and has "" where none is."""
    texts = [answer.text for answer in question.answers]
    if version.startswith("2."):
        return [text for text in texts if normalize(text)] or [""]
    return texts


def evaluate(questions: Sequence[Question], predictions: Mapping[str, str], version: str) -> dict[str, float]:
    """Return ``exact`` and ``f1``, 0 to 100, and their ``total``: means of the best over each question's answers.

    ``predictions`` by the question's id, "" for no answer. Where some questions have no answer, also ``HasAns_`` and
    ``NoAns_`` figures, as SQuAD 2.0 names them. Raises TextError for a question without a prediction.
    """
    exact, overlap = {}, {}
    for question in questions:
        if question.id not in predictions:
            raise TextError(f'question "{question.id}": no prediction')
        prediction = predictions[question.id]
        exact[question.id] = max(exact_match(prediction, truth) for truth in truths(question, version))
        overlap[question.id] = max(f1(prediction, truth, version) for truth in truths(question, version))
    figures = _means(exact, overlap, [question.id for question in questions], "")
    without = [question.id for question in questions if not question.answers]
    if without:
        figures |= _means(exact, overlap, [question.id for question in questions if question.answers], "HasAns_")
        figures |= _means(exact, overlap, without, "NoAns_")
    return figures


def _means(exact: dict[str, float], overlap: dict[str, float], ids: list[str], prefix: str) -> dict[str, float]:
    if not ids:
        return {}
    means = {"exact": exact, "f1": overlap}
    return {f"{prefix}{name}": 100 * sum(values[i] for i in ids) / len(ids) for name, values in means.items()} | {
        f"{prefix}total": float(len(ids))
    }
