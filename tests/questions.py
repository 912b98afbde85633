"""Questions that a tiny model learns to answer in seconds."""

import json
import random
from pathlib import Path

from compressor.answering.squad import Answer, Question, Questions

_ASKED = {
    "cat or dog or bird ?": ("cat", "dog", "bird"),
    "red or green or blue ?": ("red", "green", "blue"),
    "river or city or road ?": ("river", "city", "road"),
}
_FILLED = [
    "the",
    "a",
    "two",
    "three",
    "man",
    "woman",
    "child",
    "sleeps",
    "runs",
    "eats",
    "sees",
    "plays",
    "walks",
    "big",
    "old",
    "new",
    "today",
    "here",
    "and",
    "with",
    "under",
]


def questions(count: int, seed: int = 0, unanswerable: bool = False) -> Questions:
    """Return questions that ask which of three words the context holds; of some, maybe, it holds none."""
    source, made = random.Random(seed), []
    for number in range(count):
        words = [source.choice(_FILLED) for _ in range(source.randint(6, 14))]
        asked = source.choice(list(_ASKED))
        for text, allowed in _ASKED.items():
            if text != asked or not (unanswerable and source.random() < 0.4):
                words.insert(source.randint(0, len(words)), source.choice(allowed))
        context = " ".join(words)
        said = [word for word in words if word in _ASKED[asked]]
        answers = tuple(Answer(word, f" {context} ".index(f" {word} ")) for word in said)
        made.append(Question(f"{seed}-{number}", asked, context, answers))
    return Questions(made, "2.0" if unanswerable else "1.1")


def write_squad(path: Path, asked: Questions) -> Path:
    """Write ``asked`` as a SQuAD file."""
    path.write_text(json.dumps(asked.as_squad()), "utf-8")
    return path
