"""Texts in files, for tests of where texts come from."""

from pathlib import Path

import pytest

from compressor.core.errors import TextError
from compressor.texts.corpus import Corpus, Texts

NUMBERED = [f"Sentence number {i} stands here." for i in range(1000)]


def write(path: Path, texts: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(texts), encoding="utf-8")
    return path


def every(corpus: Corpus) -> list[str]:
    return [*corpus.train, *corpus.dev, *corpus.heldout]


def fault(texts: Texts, base: Path | None = None) -> str:
    with pytest.raises(TextError) as caught:
        texts.load(base)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def files(tmp_path: Path) -> tuple[str, str]:
    """Write 1000 texts and 500 others."""
    write(tmp_path / "one.txt", NUMBERED)
    write(tmp_path / "two.txt", [f"Other text {i}." for i in range(500)])
    return ("one.txt", "two.txt")
