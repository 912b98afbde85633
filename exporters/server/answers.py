"""Questions in, answers out: as Hugging Face's clients ask for them."""

import math
from functools import partial
from typing import Any

from compressor.answering.questions.spans import Prediction
from compressor.core.encoder import check_texts
from compressor.core.errors import TextError
from compressor.core.strict_json import JsonObject
from exporters.server.fields import Fields
from exporters.server.models import Answerer
from exporters.server.refused import Refused, too_large, wrong
from exporters.server.results import Receive
from exporters.server.service import Service

_PAIR = ("question", "context")


async def answer(service: Service, fields: Fields, receive: Receive) -> Any:
    """Answer ``POST /answer``: an answer for one question, a list for a list; ``top_k``: as many of each, best first.

    The form is that of Hugging Face's question-answering task
    (huggingface.co/docs/inference-providers/tasks/question-answering).
    """
    model = service.models.answerer(fields.text("model"))
    inputs = fields.take("inputs")
    pairs = _pairs(inputs, service.serving.request_texts)
    top = _top(fields, model)
    fields.end()
    characters = sum(len(question) + len(context) for question, context in pairs)
    found, _ = await service.compute(model, characters, partial(model.prepare, pairs), receive)
    answers = [_answers(prediction, top or 1) for prediction in found]
    shown = answers if top is not None else [own[0] for own in answers]
    return shown if isinstance(inputs, list) else shown[0]


def _pairs(inputs: Any, most: int) -> list[tuple[str, str]]:
    given = inputs if isinstance(inputs, list) else [inputs]
    if not given:
        raise wrong("inputs", inputs, "an object of question and context, or a list of such, and not empty")
    if len(given) > most:
        raise too_large("inputs", f"inputs: {len(given)} questions; a request has at most {most}")
    return [_pair(f"inputs[{row}]" if isinstance(inputs, list) else "inputs", pair) for row, pair in enumerate(given)]


def _pair(field: str, value: Any) -> tuple[str, str]:
    if not isinstance(value, dict) or set(value) != set(_PAIR) or not all(isinstance(value[n], str) for n in _PAIR):
        raise wrong(field, value, "an object of question and context, both texts")
    question, context = (value[name] for name in _PAIR)
    try:
        check_texts([question, context])
    except TextError as error:
        raise Refused(400, f"{field}: {error}", "inputs", "invalid_value") from error
    return question, context


def _top(fields: Fields, model: Answerer) -> int | None:
    """Return how many answers are asked for; None: one, and no list of it."""
    given = fields.take("parameters")
    if given is None:
        return None
    if not isinstance(given, dict):
        raise wrong("parameters", given, "an object")
    own, most = Fields(given), model.reader.reading.n_best
    top = own.whole("top_k")
    own.end()
    if top is not None and top > most:
        raise wrong("top_k", top, f"at most {most}, the spans that {model.name} keeps")
    return top


def _answers(prediction: Prediction, top: int) -> list[JsonObject]:
    """Return the best answers, "" first where the reader finds none; ``score``: a span's share of the best ones."""
    spans = [
        {"answer": span.text, "score": span.probability, "start": span.start, "end": span.end}
        for span in prediction.spans
    ]
    if not prediction.text():
        spans.insert(0, {"answer": "", "score": _share_of_none(prediction), "start": 0, "end": 0})
    return spans[:top]


def _share_of_none(prediction: Prediction) -> float:
    """Return the share of there being no answer among it and the best spans, as the softmax of their scores has it."""
    return 1 / (1 + sum(math.exp(min(span.score - prediction.null_score, 700)) for span in prediction.spans))
