"""How close a form is to fp32: the cosine of every vector, and of each window's logits as one row."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from questions import make_readers, questions

from compressor.artifact.cases import TEXTS
from compressor.core.encoder import Vectors
from exporters.reader import OnnxReader
from exporters.verify import closeness
from exporters.verify.closeness import of_cases, of_questions, of_texts, row_cosines

ROOT_HALF = 0.5**0.5
EXACT = {"one": [([1, 0], [0, 0])], "two": [([2, 0, 1], [0, 0, 2]), ([1, 1], [1, 1])]}
"""Start and end logits of each window, by question."""
REDUCED = {"one": [([1, 0], [1, 0])], "two": [([4, 0, 2], [0, 0, 4]), ([1, 1], [-1, -1])]}


class Known:
    """A reader whose logits are known."""

    def __init__(self, folder: Path) -> None:
        self.windows = {"exact": EXACT, "reduced": REDUCED}[folder.name]
        self.cutter = SimpleNamespace(cut=lambda asked: [window for name in asked for window in self.windows[name]])

    def logits(self, windows: Sequence[Any]) -> tuple[list[Vectors], list[Vectors]]:
        starts, ends = zip(*windows, strict=True)
        return [np.array(row, np.float32) for row in starts], [np.array(row, np.float32) for row in ends]


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closeness, "OnnxReader", Known)


@pytest.mark.usefixtures("known")
def test_a_windows_start_and_end_logits_are_one_row() -> None:
    asked: Any = ["one", "two"]
    found = of_questions(Path("exact"), Path("reduced"), asked)
    assert found.cosine_mean == pytest.approx((ROOT_HALF + 1 + 0) / 3)
    assert found.cosine_min == pytest.approx(0, abs=1e-7)
    assert (found.count, found.of) == (3, "windows of held-out questions")
    assert of_questions(Path("exact"), Path("exact"), asked).cosine_min == pytest.approx(1)


@pytest.mark.usefixtures("known")
def test_of_many_questions_the_first_are_compared() -> None:
    asked: Any = ["one"] * 256 + ["two"] * 40
    found = of_questions(Path("exact"), Path("reduced"), asked)
    assert (found.count, found.cosine_mean) == (256, pytest.approx(ROOT_HALF))


def test_rows_of_any_length_are_compared_and_two_of_zeros_are_alike() -> None:
    exact = [np.array(row, np.float32) for row in ([3, 4], [0, 0, 0], [1], [0, 0])]
    reduced = [np.array(row, np.float32) for row in ([4, 3], [0, 0, 0], [-2], [0, 1])]
    np.testing.assert_allclose(row_cosines(exact, reduced), [24 / 25, 1, -1, 0], atol=1e-6)


def test_texts_are_compared_in_their_order() -> None:
    class Turned:
        """Vectors on the unit circle, a text's number of letters the angle in tenths; ``by`` more."""

        dim, max_length = 2, 8

        def __init__(self, by: float) -> None:
            self.by = by

        def encode(self, texts: Sequence[str], batch_size: int = 32) -> Vectors:
            angles = np.array([len(text) / 10 * (1 + self.by) for text in texts])
            return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    texts = ["a" * (1 + number % 7) for number in range(300)]
    found = of_texts(Turned(0), Turned(0.5), texts)
    wanted = np.cos([0.05 * len(text) for text in texts[:256]])
    assert found.cosine_mean == pytest.approx(wanted.mean(), abs=1e-6)
    assert found.cosine_min == pytest.approx(np.cos(0.35), abs=1e-6)
    assert (found.count, found.of) == (256, "held-out texts")


def test_readers_are_as_close_as_their_logits(tiny: Path, tmp_path: Path) -> None:
    home, asked = make_readers(tiny, tmp_path), questions(40, seed=1)
    found = of_questions(home / "fp32", home / "int8", asked)
    rows = []
    for form in ("fp32", "int8"):
        reader = OnnxReader(home / form)
        sides = zip(*reader.logits(reader.cutter.cut(asked)), strict=True)
        rows.append([np.concatenate(pair).astype(np.float64) for pair in sides])
    near = [one @ other / np.linalg.norm(one) / np.linalg.norm(other) for one, other in zip(*rows, strict=True)]
    assert found.count == len(near) >= 40
    assert found.cosine_mean == pytest.approx(np.mean(near), abs=1e-3)
    assert found.cosine_min == pytest.approx(np.min(near), abs=1e-2)  # a batch of others moves what int8 rounds
    assert 0.8 < found.cosine_min < found.cosine_mean < 0.9999999
    assert of_questions(home / "fp32", home / "fp32", asked).cosine_min > 1 - 1e-6
    cases = of_cases(home / "fp32", home / "int8")
    assert (cases.count, cases.of) == (2 * len(TEXTS), "outputs of the conformance texts")  # start and end of each
    assert cases.cosine_min < 1
