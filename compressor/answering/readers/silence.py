"""When a reader had better give no answer."""

from pathlib import Path
from typing import Any

from compressor.answering.questions.spans import best_threshold, measure
from compressor.answering.questions.squad import THRESHOLD, Questions
from compressor.answering.readers.model import TorchReader
from compressor.answering.readers.reader import Reading, write_reading
from compressor.artifact.folder import Draft, write_json
from compressor.core.config import Config
from compressor.core.progress import say


class Threshold(Config):
    """Choose by how much no answer must score higher than the best span to be given."""

    def run(self, reader: Path, reading: Reading, tune: Questions, draft: Draft) -> None:
        """Write ``threshold.json`` into ``draft``: the ``no_answer_threshold`` of the highest F1 on ``tune``."""
        made = TorchReader.load(reader, reading).read(tune, 32)
        write_json(draft.folder / "threshold.json", {"no_answer_threshold": best_threshold(tune, made)})


def hold_out(
    reading: Reading, questions: Questions, heldout: float, seed: int, tune: Questions | None = None
) -> tuple[Questions, Questions | None]:
    """Return the questions to train on, and those that ``no_answer_threshold`` is chosen on.

    ``tune`` where it is given, else the share ``heldout`` of the contexts; None where the threshold is stated, or no
    choice is to be made: all questions have an answer, or none has.
    """
    if reading.no_answer_threshold is not None:
        return questions, None
    if tune is not None or not questions.silent:
        return questions, tune
    return questions.split(heldout, seed, THRESHOLD)


def write_chosen(reading: Reading, reader: TorchReader, tune: Questions | None, folder: Path) -> dict[str, Any]:
    """Note beside a reader how it reads, its threshold chosen on ``tune``; return the threshold and figures on it."""
    if tune is None:
        write_reading(reading, folder)
        return {}
    made = reader.read(tune, 32)
    chosen = best_threshold(tune, made)
    write_reading(reading.model_copy(update={"no_answer_threshold": chosen}), folder)
    figures = measure(tune, made, tune.version, chosen)
    say(
        f"  no answer where it scores higher than the best span by more than {chosen:.4g}, chosen on {len(tune):,} "
        f"questions not learnt from: {described(figures)}"
    )
    return {"no_answer_threshold": chosen, "chosen_on": figures}


def described(figures: dict[str, float]) -> str:
    """Say F1 and exact match, and F1 of the questions with and without an answer where there are both."""
    parts = {"F1": "f1", "EM": "exact", "HasAns F1": "HasAns_f1", "NoAns F1": "NoAns_f1"}
    return ", ".join(f"{name} {figures[key]:.2f}" for name, key in parts.items() if key in figures)
