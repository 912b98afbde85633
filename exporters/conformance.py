"""The conformance set of an artifact: hard texts with token ids and outputs that any runtime can be held against."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Encoding, Tokenizer

from compressor.errors import ArtifactError
from exporters.layout import CASES, GRAPH
from exporters.providers import CPU
from exporters.session import token_limit
from exporters.words import cutting_side

INT8_COSINE = 0.99
"""Asked of int8. It turns a last bit of a float that falls on the edge of a step into a whole step, and that into
others: kernels that add in another order, WebAssembly's say, come to a cosine of 0.997 on some texts (0.9999999 on half
of them), as our own do with 3e-8 of noise."""
FP16_COSINE = 0.999
"""Asked of fp16: ten bits of each number, and devices add in orders of their own."""
RUNNERS = Path(__file__).parent / "runners"
_LONG = 10_000
_MOST_TOKENS = 512  # of a case, however long the texts that a model takes: it is checked in a moment
TEXTS: dict[str, tuple[str, int]] = {
    "a sentence": ("The quick brown fox jumps over the lazy dog.", 1),
    "empty": ("", 1),
    "spaces": (" \t\n ", 1),
    "one letter": ("a", 1),
    "capitals": ("NASA LAUNCHED IT IN MAY", 1),
    "numbers": ("3.14159, 1,000,000 and 2026-02-30 at 25:61", 1),
    "accents": ("Café Ærøskøbing, naïve Straße, Ångström", 1),
    "combining accents": ("Cafe\u0301 A\u030angstro\u0308m", 1),
    "emoji": ("👩‍👩‍👧 loves 🍕 and 🏳️‍🌈", 1),
    "right to left": ("السلام عليكم، שלום עולם", 1),
    "Chinese, Japanese, Korean": ("机器学习 は 楽しい 한국어", 1),
    "control characters": ("null\x00bell\x07escape\x1b[0m zero\u200bwidth bom\ufeff", 1),
    "punctuation": ("!!!???... --- ((([[[{{{<<<@@@###$$$", 1),
    "code": ("def f(x): return x**2  # O(1)\nfor i in range(10): print(f(i))", 1),
    "unknown word": ("pneumonoultramicroscopicsilicovolcanoconiosis zzzzqqqq", 1),
    "one long word": ("ab", 500),
    "10,000 words": ("word ", _LONG),
    "10,000 Chinese characters": ("机", _LONG),
}
_QUESTION = "What is in it?"


def write_conformance(folder: Path, cosine: float | None = None) -> None:
    """Write ``conformance/`` into a finished artifact folder: the cases and a runner in Python and in JavaScript.

    Each text is computed alone by a session of default options, so the outputs do not depend on neighbours. Every
    number must be within 1e-4, or each output's ``cosine`` be reached.
    """
    (folder / CASES).parent.mkdir()
    stated = {
        "graph": GRAPH.as_posix(),
        "truncation": _truncation(folder),
        "tolerance": {"absolute": 1e-4} | ({} if cosine is None else {"cosine": cosine}),
        "cases": list(cases(folder)),
    }
    text = json.dumps(stated, separators=(",", ":"))
    (folder / CASES).write_text(text.replace('{"name"', '\n{"name"') + "\n", encoding="utf-8")
    for runner in ("run.py", "run.mjs"):
        shutil.copy(RUNNERS / runner, (folder / CASES).with_name(runner))


def _truncation(folder: Path) -> dict[str, Any]:
    if (folder / "reading.json").is_file():
        reading = json.loads((folder / "reading.json").read_text(encoding="utf-8"))
        return {"max_length": reading["max_length"], "stride": reading["stride"], "strategy": "only_second"}
    side = cutting_side(Tokenizer.from_file(str(folder / "tokenizer.json")))
    return {"max_length": min(token_limit(folder), _MOST_TOKENS)} | ({} if side == "right" else {"direction": side})


def cases(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield each text of the set with its token ids, what the graph in ``folder`` takes of them and what it gives."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    truncation = _truncation(folder)
    tokenizer.enable_truncation(**truncation)
    session = onnxruntime.InferenceSession(str(folder / GRAPH), providers=[CPU])
    inputs = [value.name for value in session.get_inputs()]
    outputs = [value.name for value in session.get_outputs() if value.name != "last_hidden_state"]
    pad = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("pad_token_id") or 0
    asks = "strategy" in truncation
    for name, (text, times) in TEXTS.items():
        texts = [(_QUESTION, 1), (text, times)] if asks else [(text, times)]
        encoding: Encoding = tokenizer.encode(*[part * count for part, count in texts])  # type: ignore[arg-type]
        feeds = _feeds(encoding, inputs, int(pad))
        made = session.run(outputs, {name: np.array([row], np.int64) for name, row in feeds.items()})
        yield {
            "name": name,
            "texts": [{"text": part, "times": count} for part, count in texts],
            "ids": encoding.ids,
            "inputs": feeds,
            "outputs": {name: _rounded(values[0]) for name, values in zip(outputs, made, strict=True)},
        }


def _feeds(encoding: Encoding, inputs: Sequence[str], pad: int) -> Mapping[str, list[int]]:
    """Return a row of each input; a text without any token is one token of padding."""
    rows = {
        "input_ids": encoding.ids or [pad],
        "attention_mask": encoding.attention_mask or [0],
        "token_type_ids": encoding.type_ids or [0],
    }
    if unknown := set(inputs) - rows.keys():
        raise ArtifactError(f"{GRAPH}: input {min(unknown)}; known: {', '.join(rows)}")
    return {name: rows[name] for name in inputs}


def _rounded(values: Any) -> list[float]:
    """Return float32 numbers with as many digits as they hold, so that the file stays small."""
    return [float(f"{value:.7g}") for value in values.tolist()]
