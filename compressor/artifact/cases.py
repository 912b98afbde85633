"""What a conformance set must hold, whoever wrote it: the hard texts, and how near a runtime must come to them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from compressor.artifact.layout import READING
from compressor.artifact.prompts import DOCUMENT, QUERY, Prompts
from compressor.core.errors import ArtifactError
from compressor.core.strict_json import read_json

Precision = Literal["fp32", "fp16", "int8"]
"""What an artifact's weights are stored in."""
ABSOLUTE = 1e-4
"""Asked of every number of fp32."""
FP16_COSINE = 0.999
"""Asked of fp16: ten bits of each number, and devices add in orders of their own."""
INT8_COSINE = 0.99
"""Asked of int8. It turns a last bit of a float that falls on the edge of a step into a whole step, and that into
others: kernels that add in another order, WebAssembly's say, come to a cosine of 0.997 on some texts (0.9999999 on half
of them), as our own do with 3e-8 of noise."""
NORM = 0.1
"""Share by which the length of such an output may differ: a cosine alone lets any multiple of it pass."""
_COSINES: dict[str, float | None] = {"fp32": None, "fp16": FP16_COSINE, "int8": INT8_COSINE}
_MOST_TOKENS = 512
"""Of a case, however long the texts that a model takes: it is checked in a moment."""
QUESTION = "What is in it?"
"""A reader's, of each text."""
_LONG = 10_000
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

BEHIND = ("a sentence", "empty", "spaces", "10,000 words")
"""Those that stand behind the prompts of queries and documents, too: whole, without a word, and cut."""
_MOST_PROMPTS = 16
"""Of other names, that a sentence stands behind."""


@dataclass(frozen=True)
class Case:
    """A hard text, and the prompt that it stands behind."""

    name: str
    text: str
    times: int
    prompt: str = ""
    prompt_name: str | None = None
    """None of the default prompt."""

    def stated(self) -> dict[str, str]:
        """Return what a set says of the prompt: nothing where there is none."""
        if self.prompt_name is not None:
            return {"prompt_name": self.prompt_name, "prompt": self.prompt}
        return {"prompt": self.prompt} if self.prompt else {}


def cases_behind(prompts: Prompts) -> list[Case]:
    """Return each hard text behind the default prompt, as ``encode`` puts it, and some behind each other one."""
    roles = [name for name in (*QUERY, *DOCUMENT) if name in prompts.named]
    others = [name for name in prompts.stated if name not in roles][:_MOST_PROMPTS]
    behind = {name: BEHIND for name in roles} | {name: BEHIND[:1] for name in others}
    return [Case(name, *text, prompt=prompts.default) for name, text in TEXTS.items()] + [
        Case(f"{text}, prompt {name!a:.40}", *TEXTS[text], prompt=prompts.named[name], prompt_name=name)
        for name, texts in behind.items()
        if prompts.named[name] != prompts.default
        for text in texts
    ]


def tolerance(precision: str) -> dict[str, float]:
    """Return how near a runtime must come: every number within ``absolute``, or each output's ``cosine`` and ``norm``.

    The norm may differ by that share of it.
    """
    cosine = _COSINES[precision]
    return {"absolute": ABSOLUTE} | ({} if cosine is None else {"cosine": cosine, "norm": NORM})


def is_as_strict(stated: Any, precision: str) -> bool:
    """Whether a tolerance lets no more pass than the project's own for ``precision`` does."""
    own = tolerance(precision)
    numbers = isinstance(stated, dict) and all(type(value) in (int, float) for value in stated.values())
    if not numbers or not {"absolute"} <= stated.keys() <= own.keys():
        return False
    # A NaN passes none. Sets of earlier releases state no norm, and are held to it.
    near = 0 <= stated["absolute"] <= ABSOLUTE and own.get("cosine", 1) <= stated.get("cosine", 1) <= 1
    return near and 0 <= stated.get("norm", NORM) <= NORM


def truncation_of(folder: Path) -> dict[str, Any]:
    """Return how texts of the set are cut: as the artifact's own are, but for an encoder's very long ones."""
    path = folder / READING
    try:
        if path.is_file():
            reading = read_json(path)
            return {"max_length": reading["max_length"], "stride": reading["stride"], "strategy": "only_second"}
        path = folder / "sentence_bert_config.json"
        truncation = {"max_length": min(read_json(path)["max_seq_length"], _MOST_TOKENS)}
        return truncation | ({"direction": "left"} if _cuts_left(folder / "tokenizer.json") else {})
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ArtifactError(f"{path}: not there, or states no length of a text") from error


def _cuts_left(path: Path) -> bool:
    """Tell whether a tokenizer.json keeps the end of a text that is too long; ArtifactError where it is none."""
    try:
        tokenizer = read_json(path)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: not there, or not readable as JSON") from error
    if not isinstance(tokenizer, dict):
        raise ArtifactError(f"{path}: must be an object")
    truncation = tokenizer.get("truncation") or {}
    if not isinstance(truncation, dict):
        raise ArtifactError(f"{path}: truncation = {truncation!a:.40}: must be an object or null")
    side = truncation.get("direction") or "Right"
    if not isinstance(side, str) or side.lower() not in ("left", "right"):
        raise ArtifactError(f"{path}: truncation.direction = {side!a:.40}: must be Left or Right")
    return side.lower() == "left"
