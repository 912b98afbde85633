"""A tiny foreign language: each of the tiny tokenizer's words reversed, with an x behind it."""

import random
from collections.abc import Sequence
from pathlib import Path

from builders import WORDS, sentences

FOREIGN = {word: word if word == "." else f"{word[::-1]}x" for word in WORDS}


def foreign(text: str) -> str:
    """Translate word by word."""
    return " ".join(FOREIGN[word] for word in text.split())


def sts_rows(texts: Sequence[str]) -> list[tuple[str, str, float]]:
    """Return pairs: a text, the same with words exchanged, and the share of words that stayed, times 5."""
    source, rows = random.Random(0), []
    for text in texts:
        words = text.split()
        changed = source.sample(range(len(words)), source.randint(0, len(words)))
        other = " ".join(source.choice(WORDS) if i in changed else word for i, word in enumerate(words))
        rows.append((text, other, round(5 * (1 - len(changed) / len(words)), 2)))
    return rows


def write_language(folder: Path, pairs: int = 800) -> None:
    """Write ``train.en`` and ``train.xx`` line by line, and STS files ``en.csv`` and ``xx.csv`` of the same rows."""
    texts = sentences(pairs, seed=5)
    (folder / "train.en").write_text("\n".join(texts), encoding="utf-8")
    (folder / "train.xx").write_text("\n".join(map(foreign, texts)), encoding="utf-8")
    rows = sts_rows(sentences(80, seed=6))
    (folder / "en.csv").write_text("\n".join(f"{a},{b},{score}" for a, b, score in rows), encoding="utf-8")
    (folder / "xx.csv").write_text("\n".join(f"{foreign(a)},{foreign(b)},{s}" for a, b, s in rows), encoding="utf-8")
