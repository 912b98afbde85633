"""Texts in, vectors out: as OpenAI's clients ask for them, and as text-embeddings-inference's do."""

from base64 import b64encode
from functools import partial
from typing import Any

import numpy as np

from compressor.core.encoder import Vectors
from compressor.core.strict_json import JsonObject
from exporters.server.fields import Fields, Item
from exporters.server.models import TYPES
from exporters.server.refused import wrong
from exporters.server.results import Receive
from exporters.server.service import Service


async def embeddings(service: Service, fields: Fields, receive: Receive) -> JsonObject:
    """Answer ``POST /v1/embeddings`` (platform.openai.com/docs/api-reference/embeddings), and an ``input_type``."""
    model = service.models.embedder(fields.text("model"))
    items = fields.items("input", service.serving.request_texts)
    form = fields.choice("encoding_format", ("float", "base64")) or "float"
    dimensions, kind = fields.whole("dimensions"), fields.choice("input_type", tuple(TYPES))
    fields.text("user")
    fields.end()
    model.check_dimensions(dimensions)
    prompt = model.prompt("input_type", model.encoder.prompts.first(TYPES[kind]) if kind else None, items)
    prepare = partial(model.prepare, "input", items, prompt)
    found, tokens = await service.compute(model, _characters(items), prepare, receive)
    vectors = model.cut(np.stack(found), dimensions, model.unit)
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(_in_base64(vectors) if form == "base64" else vectors)
        ],
        "model": model.name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


async def embed(service: Service, fields: Fields, receive: Receive) -> Any:
    """Answer ``POST /embed`` (huggingface.github.io/text-embeddings-inference): a list of vectors."""
    model = service.models.embedder(fields.text("model"))
    items = fields.items("inputs", service.serving.request_texts)
    normalise, truncate = fields.flag("normalize"), fields.flag("truncate")
    side, name = fields.text("truncation_direction"), fields.text("prompt_name")
    dimensions = fields.whole("dimensions")
    fields.end()
    if normalise is False and model.unit:
        raise wrong("normalize", False, f"true: the graph of {model.name} gives vectors of length 1")
    if side is not None and side.lower() != model.encoder.words.side:
        raise wrong("truncation_direction", side, f"'{model.encoder.words.side}', as {model.name} was trained")
    model.check_dimensions(dimensions)
    prompt = model.prompt("prompt_name", name, items)
    prepare = partial(model.prepare, "inputs", items, prompt, truncate is False)
    found, _ = await service.compute(model, _characters(items), prepare, receive)
    return list(model.cut(np.stack(found), dimensions, normalise is not False))


def _characters(items: list[Item]) -> int:
    return sum(len(item) for item in items if isinstance(item, str))


def _in_base64(vectors: Vectors) -> list[str]:
    """Return the bytes of each vector, little-endian float32."""
    return [b64encode(vector.tobytes()).decode() for vector in vectors.astype("<f4", copy=False)]
