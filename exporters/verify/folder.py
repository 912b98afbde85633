"""An artifact's folder as its consumers read it, held against the PyTorch model that it was made from.

Some take token ids from tokenizer.json and pool ``last_hidden_state`` by the modules' files, others take the vector.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling

from compressor.artifact.layout import EMBEDDING
from compressor.core.encoder import Vectors
from compressor.core.errors import ModelError, first_line
from compressor.core.strict_json import read_json
from compressor.models.sentence_model import default_prompt
from exporters.runtime.providers import CPU, computing, open_session
from exporters.session import OnnxEncoder

_TOLERANCE = 1e-4
_LONGEST = 1024  # tokens of a text that is computed whole: attention takes their square
_MOST_WORDS = 1 << 14  # of the longest text
_TEXTS = (
    "",
    "a",
    "Two dogs are running over a field, and a third one sleeps.",
    "UPPER and lower, \u00c9t\u00e9 and na\u00efve, Stra\u00dfe.",
    "\u041c\u043e\u0441\u043a\u0432\u0430, \u4e2d\u6587, \u0e44\u0e17\u0e22.",
    " two  spaces,\ta tab,\na line; it's 3.14 % of #1 \u2014 \u201cquoted\u201d \U0001f600",
    "[CLS] first [SEP] second [MASK] <s> third </s> <mask> [UNK] <unk> <pad> [PAD]",
)


def check_folder(model: Path, encoder: Any, folder: Path) -> None:
    """Refuse a folder that gives other tokens or vectors than ``encoder``, which was opened from ``model``: ModelError.

    Among the texts is one that is cut at ``max_length``, so that a length that cannot be computed shows here.
    """
    exported = OnnxEncoder(folder, threads=1)
    for text in other_tokens(exported, encoder):
        raise ModelError(f"{model}: the tokenizer.json of its tokenizer gives other tokens for {text!a:.60}")
    texts = computable(exported)
    try:
        expected, actual = encoder.encode(texts), exported.encode(texts)
    except Exception as error:  # PyTorch and ONNX Runtime raise their own kinds
        limit = f"max_seq_length = {exported.max_length}"
        raise ModelError(
            f"{model}: {limit}: a text of so many tokens cannot be computed: {first_line(error)}"
        ) from error
    sides = f"truncation_side = {encoder.tokenizer.truncation_side}, padding_side = {encoder.tokenizer.padding_side}"
    for part, vectors in (("the graph", actual), ("pooling and Dense files", by_modules(exported, texts))):
        off = float(np.abs(expected - vectors).max()) / max(1.0, float(np.abs(expected).max()))
        if not off <= _TOLERANCE:
            raise ModelError(f"{model}: {part} would give other vectors than it does, by {off:.2g} ({sides})")


def texts_for(encoder: OnnxEncoder) -> list[str]:
    """Return texts of all kinds, the last one longer than the artifact reads."""
    return [*_TEXTS, " ".join(f"word {number}" for number in range(min(encoder.max_length, _MOST_WORDS)))]


def computable(encoder: OnnxEncoder) -> list[str]:
    """Return those of ``texts_for`` that have a token, and few enough to be computed in no time."""
    texts = texts_for(encoder)
    return [text for text, ids in zip(texts, encoder.tokenize(texts), strict=True) if 0 < len(ids) <= _LONGEST]


def other_tokens(encoder: OnnxEncoder, model: Any) -> list[str]:
    """Return those of ``texts_for`` of which the folder's tokenizer gives other ids than the model's."""
    texts, differing = texts_for(encoder), []
    for text, ids in zip(texts, encoder.tokenize(texts), strict=True):
        features = model.preprocess([text], prompt=default_prompt(model) or None)
        if ids != features["input_ids"][0][features["attention_mask"][0].bool()].tolist():
            differing.append(text)
    return differing


def by_modules(encoder: OnnxEncoder, texts: Sequence[str]) -> Vectors:
    """Return float32 [texts, dim]: ``last_hidden_state``, pooled and projected as the files beside the graph say."""
    session = open_session(encoder.folder, [CPU], 1)
    modules = list(_modules(encoder.folder))
    inputs, vectors = [value.name for value in session.get_inputs()], []
    for tokens in encoder.tokenize(texts):
        ids, mask = encoder.pad([tokens])
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        with computing(encoder.folder, ids):
            [hidden] = session.run([EMBEDDING[0]], {name: feeds[name] for name in inputs})
        features: dict[str, Any] = {
            "token_embeddings": torch.from_numpy(hidden),
            "attention_mask": torch.from_numpy(mask),
        }
        with torch.inference_mode():
            for module in modules:
                features = module(features)
        vectors.append(features["sentence_embedding"].numpy())
    return np.concatenate(vectors)


def _modules(folder: Path) -> Any:
    """Yield the modules behind the transformer, opened from their files."""
    for entry in read_json(folder / "modules.json")[1:]:
        kind, path = entry["type"].rpartition(".")[2], str(folder / entry["path"])
        yield Normalize() if kind == "Normalize" else {"Pooling": Pooling, "Dense": Dense}[kind].load(path)
