"""A recipe for a tiny teacher, with texts and an STS file, that a trade-off makes several students of."""

import random
from collections.abc import Sequence
from pathlib import Path

from builders import WORDS, sentences
from running import write_recipe

RECIPE = """
[teacher]
model = "{teacher}"
[texts]
source = "texts.txt"
heldout = 40
[distil]
epochs = 2.0
batch_size = 16
warmup_steps = 2
precision = "fp32"
[verify]
teacher_cosine_mean = 0.2
teacher_cosine_p1 = -1.0
teacher_cosine_min = -1.0
neighbours_at_10 = 0.1
int8_cosine_mean = 0.8
[bench]
sts = ["sts.csv"]
count = 64
rounds = 2
queries = 20
batch_sizes = [8]
"""


def pairs(texts: Sequence[str]) -> list[str]:
    """Return STS rows: a text, the same with words exchanged, and the share of words that stayed, times 5."""
    source, rows = random.Random(0), []
    for text in texts:
        words = text.split()
        changed = source.sample(range(len(words)), source.randint(0, len(words)))
        other = [source.choice(WORDS) if i in changed else word for i, word in enumerate(words)]
        rows.append(f'"{text}","{" ".join(other)}",{5 * (1 - len(changed) / len(words)):.2f}')
    return rows


def write_home(home: Path, teacher: Path) -> Path:
    """Write a recipe, its texts and an STS file into a folder and return the folder."""
    write_recipe(home, RECIPE, teacher, texts=300)
    (home / "sts.csv").write_text("\n".join(pairs(sentences(80))))
    return home
