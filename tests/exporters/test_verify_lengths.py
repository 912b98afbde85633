"""Agreement by length: means over texts of like length, and how much lower the longer ones' are."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders import sentences

from compressor.core.encoder import Vectors
from compressor.core.errors import GateError, TextError
from compressor.models.agreement import Heldout
from compressor.models.sentence_model import open_model
from exporters.verify.check import Check, gate
from exporters.verify.embedding import Verify
from exporters.verify.lengths import largest_gap, means_by_length

SHORT = sentences(30)
_JOINED = [" ".join(sentences(5, seed)) for seed in range(1, 100)]
LONG = [text for text in _JOINED if len(text.split()) > 30][:25]
"""Of the tiny model's words, a token each: 30 of 4 to 12, 25 of 31 to 60; two tokens stand around them."""
BARS = Verify(int8_cosine_mean=0.9, neighbours_at_10=0.0)


def near(vectors: Vectors, cosine: float) -> Vectors:
    """Return unit vectors that have this cosine with unit ``vectors``."""
    random = np.random.default_rng(0).standard_normal(vectors.shape).astype(np.float32)
    across = random - (random * vectors).sum(axis=1, keepdims=True) * vectors
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    return cosine * vectors + math.sqrt(1 - cosine**2) * across


@pytest.fixture(scope="module")
def heldout(tiny: Path) -> Heldout:
    """Return texts of which the tiny model has the teacher's vectors of the short ones, and others of the long ones."""
    own = open_model(tiny).encode([*SHORT, *LONG])
    assert len(own) == 55
    return Heldout([*SHORT, *LONG], np.concatenate([own[:30], near(own[30:], 0.9)]))


def by_length(checks: list[Check]) -> dict[str, Check]:
    return {check.figure: check for check in checks if check.check == "agreement by length"}


def test_means_are_of_texts_of_like_length() -> None:
    """20 texts are enough for a figure, 19 are not; a text of exactly so many tokens is the shorter bin's."""
    tokens = [0] * 10 + [32] * 10 + [33] * 20 + [65] * 19 + [129] * 15 + [256] * 10 + [300] * 20
    cosines = np.repeat(np.float32([0.75, 1, 0.5, 0.1, 0.25, 0.5, 0.125]), [10, 10, 20, 19, 15, 10, 20])
    assert means_by_length(cosines, tokens, 512) == {32: 0.875, 64: 0.5, 256: pytest.approx(0.35), 512: 0.125}
    assert means_by_length(cosines[:-20], tokens[:-20], 256) == {32: 0.875, 64: 0.5, 256: pytest.approx(0.35)}
    assert means_by_length(cosines[:20], [1] * 20, 16) == {16: 0.875}
    assert means_by_length(cosines[:19], [1] * 19, 16) == {}


def test_the_gap_is_to_the_worst_of_the_longer() -> None:
    assert largest_gap({32: 0.95, 64: 0.75, 256: 0.875}) == pytest.approx(0.2)
    assert largest_gap({32: 0.5, 64: 0.75}) == -0.25
    assert math.isnan(largest_gap({32: 0.5, 64: math.nan, 128: 0.75}))


def test_longer_texts_have_figures_of_their_own(artifacts: Callable[..., Path], tiny: Path, heldout: Heldout) -> None:
    home = artifacts()
    for name, tolerance in (("fp32", 1e-4), ("int8", 0.03)):
        found = by_length(BARS.examine(name, home / name, tiny, heldout))
        assert list(found) == ["cosine_mean_to_32", "cosine_mean_to_64", "largest_gap"]
        values = [check.value for check in found.values()]
        assert values == pytest.approx([1, 0.9, 0.1], abs=tolerance)
        assert {check.bar for check in found.values()} == {None}


def test_a_bar_on_the_gap_holds_the_longer_texts(artifacts: Callable[..., Path], tiny: Path, heldout: Heldout) -> None:
    folder = artifacts() / "fp32"
    gate(BARS.model_copy(update={"length_gap": 0.11}).examine("fp32", folder, tiny, heldout))
    checks = BARS.model_copy(update={"length_gap": 0.09}).examine("fp32", folder, tiny, heldout)
    assert [(check.check, check.figure) for check in checks if not check.passed] == [
        ("agreement by length", "largest_gap")
    ]
    bar = r"must be <= 0\.09; the bar is verify\.length_gap$"
    with pytest.raises(GateError, match=rf"^verify fp32: agreement by length: largest_gap = 0\.\d+, {bar}"):
        gate(checks)


def test_a_bar_on_the_gap_needs_two_lengths(artifacts: Callable[..., Path], tiny: Path) -> None:
    folder, texts = artifacts() / "fp32", [*SHORT, LONG[0]]
    heldout = Heldout(texts, open_model(tiny).encode(texts))
    assert list(by_length(Verify().examine("fp32", folder, tiny, heldout))) == ["cosine_mean_to_32"]
    longest = len(LONG[0].split()) + 2
    with pytest.raises(TextError) as caught:
        Verify(length_gap=0.03).examine("fp32", folder, tiny, heldout)
    assert str(caught.value) == (
        f"verify.length_gap = 0.03: of 31 held-out texts, of up to {longest} tokens, no two lengths have 20 each; "
        "give longer texts, or leave it out"
    )
