"""Make a reader of an encoder: a question-answering head on it, trained on labelled questions."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from compressor.answering.questions.spans import best_threshold, measure
from compressor.answering.questions.squad import SETTINGS, Questions
from compressor.answering.questions.windows import Cutter, labels
from compressor.answering.readers.base import open_base, tokenizer_of
from compressor.answering.readers.model import TorchReader, position_limit
from compressor.answering.readers.reader import Reading
from compressor.answering.readers.silence import described, hold_out, write_chosen
from compressor.answering.training.lessons import WindowLessons
from compressor.answering.training.losses import PredictionLayer
from compressor.answering.training.train import ReaderLoss, ReaderTraining
from compressor.artifact.folder import Draft, write_json
from compressor.core.errors import RecipeError, TextError
from compressor.core.progress import say

Rate = Annotated[float, Field(gt=0)]
_LABELS = ReaderLoss(PredictionLayer(weight=0.0))


class Finetune(ReaderTraining, Reading):
    """Train an encoder to answer questions from labels; of several settings, the best on held-out questions."""

    learning_rate: tuple[Rate, ...] = (1e-4,)
    """Peak of the learning rate; several are tried."""
    epochs: tuple[Rate, ...] = (3.0,)
    """Passes over the questions; several are tried."""
    heldout: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the contexts, with their questions, that settings are judged on; the best is trained on all again.
    Where some questions have no answer, as many are kept out of training, to choose no_answer_threshold on."""

    def run(
        self, encoder: Path, questions: Questions, checkpoints: Path, draft: Draft, tune: Questions | None = None
    ) -> None:
        """Write the reader into ``draft``: a Hugging Face folder with its tokenizer, in safetensors.

        ``encoder`` is a sentence-transformers folder, or a question-answering model to train on. With several
        settings each is trained on a part of the questions and judged on the rest, whose figures are noted as
        ``tries``; goes on from ``checkpoints``. Where some questions have no answer, ``no_answer_threshold`` is
        chosen on ``tune``, by default a part of ``questions`` that is not trained on, and stands in ``reading.json``.
        """
        settings = [(rate, epochs) for rate in self.learning_rate for epochs in self.epochs]
        if not settings:
            raise RecipeError("finetune.learning_rate, finetune.epochs: give at least one of each")
        Cutter(tokenizer_of(encoder).backend_tokenizer, self).check([*questions, *(tune or [])])
        train, tune = hold_out(self, questions, self.heldout, self.seed, tune)
        if not any(question.answers for question in train):
            raise TextError("no question with an answer to learn from")
        tries = list(self._tries(encoder, train, tune, settings, checkpoints)) if len(settings) > 1 else []
        best = max(tries, key=lambda attempt: attempt["f1"], default=None)
        rate, epochs = (best["learning_rate"], best["epochs"]) if best else settings[0]
        reader, figures = self._trained(encoder, train, rate, epochs, checkpoints / "all")
        reader.model.save_pretrained(str(draft.folder), safe_serialization=True)
        tokenizer_of(encoder).save_pretrained(str(draft.folder))
        figures |= write_chosen(self, reader, tune, draft.folder)
        draft.figures.update(figures | {"learning_rate": rate, "epochs": epochs, "tries": tries})

    def _tries(
        self,
        encoder: Path,
        questions: Questions,
        tune: Questions | None,
        settings: Sequence[tuple[float, float]],
        checkpoints: Path,
    ) -> Iterator[dict[str, float]]:
        train, judged = questions.split(self.heldout, self.seed, SETTINGS)
        for rate, epochs in settings:
            tried = checkpoints / f"{rate:g}-{epochs:g}.json"
            if not tried.is_file():
                reader, _ = self._trained(encoder, train, rate, epochs, checkpoints / f"{rate:g}-{epochs:g}")
                silence = best_threshold(tune, reader.read(tune)) if tune else None
                figures = measure(judged, reader.read(judged), judged.version, silence)
                checkpoints.mkdir(parents=True, exist_ok=True)
                kept = {name: value for name, value in figures.items() if not name.endswith("total")}
                write_json(tried, {"learning_rate": rate, "epochs": epochs} | kept)
            attempt: dict[str, float] = json.loads(tried.read_text(encoding="utf-8"))
            say(f"  learning rate {rate:g}, {epochs:g} epochs: {described(attempt)}")
            yield attempt

    def _trained(
        self, encoder: Path, questions: Questions, rate: float, epochs: float, checkpoints: Path
    ) -> tuple[TorchReader, dict[str, Any]]:
        model = open_base(encoder, self.seed)
        cutter = Cutter(tokenizer_of(encoder).backend_tokenizer, self, position_limit(model))
        windows = cutter.cut(questions)
        lessons = WindowLessons(windows, labels(windows, questions))
        figures = self.train(model, lessons, _LABELS, rate, epochs, checkpoints)
        shutil.rmtree(checkpoints, ignore_errors=True)
        return TorchReader(model, cutter, self), figures
