"""What is no text is named with its row, and texts are taken from whatever has them in an order."""

import re
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import sentences

from compressor.core.errors import RecipeError, TextError
from compressor.models.sentence_model import TorchEncoder
from exporters import session
from exporters.serving import Batcher
from exporters.session import OnnxEncoder


@pytest.fixture(scope="module")
def fp32(artifacts: Callable[..., Path]) -> Path:
    return artifacts() / "fp32"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (None, "NoneType was given where a text belongs"),
        (7, "int was given where a text belongs"),
        (b"bytes", "bytes was given where a text belongs"),
        (("a", "pair"), "tuple was given where a text belongs"),
        ("half \ud83d of it", "holds half a character (a lone surrogate), which has no UTF-8"),
    ],
)
def test_what_is_no_text_is_named_with_its_row(
    bad: Any, reason: str, fp32: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_FIRST", 4)
    encoder = OnnxEncoder(fp32, threads=2)
    few, many = ["good", bad], [*["good"] * 70, bad, None]
    calls: list[tuple[int, Callable[[], Any]]] = [
        (1, lambda: encoder.encode(few)),
        (1, lambda: encoder.encode(iter(few))),
        (70, lambda: encoder.encode(many)),
        (70, lambda: list(encoder.stream(iter(many)))),
        (1, lambda: TorchEncoder.load(tiny).encode(few)),
    ]
    for row, call in calls:
        with pytest.raises(TextError, match=f"^text {row}: {re.escape(reason)}$"):
            call()
    assert encoder.encode(["good"]).shape == (1, 32)


@pytest.mark.parametrize("texts", [b"bytes", 7, None, {"a": "text"}, {"a", "set"}, np.array("none")])
def test_what_holds_no_texts_in_an_order_is_refused(texts: Any, fp32: Path) -> None:
    encoder, given = OnnxEncoder(fp32, threads=1), type(texts).__name__
    with pytest.raises(TextError, match=f"^texts: {given} was given where a list of texts belongs$"):
        encoder.encode(texts)
    with pytest.raises(TextError, match=f"^texts: {given} was given where many belong$"):
        encoder.stream(texts)


def test_texts_are_taken_from_whatever_has_them_in_an_order(fp32: Path) -> None:
    encoder, texts = OnnxEncoder(fp32, threads=2), [*dict.fromkeys(sentences(40)), "", "nul \x00"]
    expected = encoder.encode(texts)
    for given in (tuple(texts), deque(texts), np.array(texts, object), iter(texts), dict.fromkeys(texts).keys()):
        np.testing.assert_array_equal(encoder.encode(given), expected)
    np.testing.assert_allclose(encoder.encode(np.array(texts[:-1])), expected[:-1], atol=1e-6)
    assert encoder.encode(iter(())).shape == (0, 32)


@pytest.mark.parametrize("count", [0, -1, 2.5, "8", None, True])
def test_counts_are_whole_numbers_from_1(count: Any, fp32: Path, tiny: Path) -> None:
    encoder = OnnxEncoder(fp32, threads=1)
    for call in (encoder.encode, encoder.stream, TorchEncoder.load(tiny).encode):
        with pytest.raises(RecipeError, match=f"^batch_size = {count!r}: must be a whole number from 1$"):
            call(["a"], batch_size=count)
    if count is not None:
        with pytest.raises(RecipeError, match=f"^threads = {count!r}: must be a whole number from 1$"):
            OnnxEncoder(fp32, threads=count)
        with pytest.raises(RecipeError, match=f"^most_tokens = {count!r}: must be a whole number from 1$"):
            Batcher(encoder, most_tokens=count)
    assert encoder.encode(["a"], batch_size=np.int64(1)).shape == (1, 32)
