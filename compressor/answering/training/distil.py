"""Make a smaller reader of a larger one: fewer layers, taught by labels, by the teacher's logits, by its states."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from compressor.answering.questions.spans import Logits
from compressor.answering.questions.squad import Questions
from compressor.answering.questions.windows import Cutter, Window, labels
from compressor.answering.readers.base import base_key, tokenizer_of
from compressor.answering.readers.model import TorchReader, open_reader, position_limit
from compressor.answering.readers.reader import Reading
from compressor.answering.readers.silence import hold_out, write_chosen
from compressor.answering.training.lessons import WindowLessons
from compressor.answering.training.losses import PredictionLayer
from compressor.answering.training.start import Start, make_student
from compressor.answering.training.train import ReaderLoss, ReaderTraining
from compressor.artifact.code import code_key
from compressor.artifact.folder import Draft, key_of
from compressor.core.cache import cache_folder, remove_leftovers
from compressor.core.errors import ModelError, RecipeError, storage
from compressor.core.files import replacing
from compressor.distil.student.layers import check_layers, find_layers, spread_layers
from compressor.distil.training.states import Matching

Layers = tuple[Annotated[int, Field(ge=0)], ...]


class ReaderDistil(ReaderTraining, PredictionLayer, Reading):
    """Make a student of a reader and teach it to answer as its teacher does.

    TinyBERT (Jiao et al. 2020, arXiv:1909.10351) does it in steps, which are runs of this: states alone
    (``prediction = 0``), on any questions and on augmented ones, then the prediction layer, from that student on.
    """

    layers: Annotated[int, Field(ge=1)] | Layers = 3
    """Layers of the teacher that the student keeps: how many, or which, as 0,2,5."""
    choice: Literal["uniform", "first", "last"] = "uniform"
    """Which, where only their number is given."""
    start: Start = "auto"
    """What the kept layers start from: ``copied`` as they are, or ``fitted`` by least squares to make up for what was
    left out; auto: fitted, where the family's structure allows."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Peak of the learning rate."""
    epochs: Annotated[float, Field(gt=0)] = 4.0
    """Passes over the questions."""
    prediction: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the answers, labels' and teacher's together; 0: states alone."""
    hidden: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the squared difference of token states."""
    attention: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the squared difference of attention."""
    embeddings: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the squared difference of the embeddings, before the first layer."""
    match_layers: Literal["uniform", "last"] | Layers = "uniform"
    """Which of the teacher's layers each of the student's is held against: spread evenly up to the last, the last
    ones, or a list of one a student's layer."""
    heldout: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the contexts that is kept out of training to choose no_answer_threshold on, where some of their
    questions have no answer."""

    def check(self, depth: int) -> None:
        """Raise RecipeError for layers that a teacher of ``depth`` layers cannot give, or losses that teach nothing."""
        kept = self.kept(depth)
        check_layers(kept, depth)
        if not (self.prediction or self.states):
            raise RecipeError("distil.prediction = 0 with no other loss: give at least one of them weight")
        self.matched(depth, len(kept))

    def kept(self, depth: int) -> tuple[int, ...]:
        """Return the layers of the teacher that the student keeps."""
        if isinstance(self.layers, tuple):
            return self.layers
        if self.layers > depth:
            raise RecipeError(f"distil.layers = {self.layers}: must be at most {depth}, the teacher's")
        return spread_layers(self.layers, depth, self.choice)

    @property
    def states(self) -> dict[str, float]:
        """Return the weights of the states' losses that are above zero."""
        named = {"hidden": self.hidden, "attention": self.attention, "embeddings": self.embeddings}
        return {name: weight for name, weight in named.items() if weight > 0}

    def matched(self, depth: int, count: int) -> tuple[int, ...]:
        """Return the teacher's layer, counted from 0, that each of the student's ``count`` is held against."""
        if self.match_layers == "uniform":
            return tuple(round((i + 1) * depth / count) - 1 for i in range(count))
        if self.match_layers == "last":
            return tuple(range(depth - count, depth))
        stated = f"distil.match_layers = {list(self.match_layers)}"
        if len(self.match_layers) != count:
            raise RecipeError(f"{stated}: {len(self.match_layers)} layers for the student's {count}; give one each")
        if outside := [i for i in self.match_layers if i >= depth]:
            raise RecipeError(f"{stated}: layer {outside[0]} is not in 0..{depth - 1}")
        return self.match_layers

    def run(
        self,
        teacher: Path,
        questions: Questions,
        checkpoints: Path,
        draft: Draft,
        student: Path | None = None,
        tune: Questions | None = None,
    ) -> None:
        """Write the student into ``draft``, a Hugging Face folder; go on from ``checkpoints``.

        It is made of the teacher's layers, or goes on from ``student``, a reader of an earlier step. Raises ModelError
        for a student whose tokenizer is another than the teacher's. Where some questions have no answer,
        ``no_answer_threshold`` is chosen on ``tune``, by default a part of ``questions`` that is not trained on.
        """
        model, tokenizer = open_reader(teacher), tokenizer_of(teacher)
        depth = len(find_layers(model)[2])
        if student is None:
            self.check(depth)
        cutter = Cutter(tokenizer.backend_tokenizer, self, position_limit(model))
        cutter.check([*questions, *(tune or [])])
        train, tune = hold_out(self, questions, self.heldout, self.seed, tune)
        windows = cutter.cut(train)
        if student is None:
            made = make_student(model, self.kept(depth), self.start, windows, self.seed)
        else:
            made = _opened(student, tokenizer.get_vocab())
        wanted = teacher_logits(TorchReader(model, cutter, self), teacher, windows) if self._asks_teacher else None
        lessons = WindowLessons(windows, labels(windows, train), wanted)
        matched = self.matched(depth, len(find_layers(made)[2]))
        matching = Matching(model, made, matched, matched, set(self.states)) if self.states else None
        loss = ReaderLoss(self, self.prediction, matching, self.states)
        draft.figures.update(self.train(made, lessons, loss, self.learning_rate, self.epochs, checkpoints))
        draft.figures.update(layers=list(self.kept(depth)) if student is None else None, matched=list(matched))
        made.save_pretrained(str(draft.folder), safe_serialization=True)
        tokenizer.save_pretrained(str(draft.folder))
        draft.figures.update(write_chosen(self, TorchReader(made, cutter, self), tune, draft.folder))

    @property
    def _asks_teacher(self) -> bool:
        return self.prediction > 0 and self.weight > 0


def teacher_logits(reader: TorchReader, teacher: Path, windows: Sequence[Window]) -> tuple[list[Logits], list[Logits]]:
    """Return the teacher's start and end logits of each window, float32 [tokens]; computed once and kept.

    One file in the cache, by the hash of teacher and windows, written in one rename.
    """
    ids = [window.ids for window in windows]
    read = hashlib.sha256(np.concatenate(ids).tobytes()).hexdigest(), [len(window_ids) for window_ids in ids]
    name = key_of(code_key("compressor.answering.readers.model"), base_key(teacher), *read)
    folder = cache_folder() / "logits"
    path = folder / f"{name}.npy"
    if not path.is_file():
        flat = np.concatenate([np.stack(pair) for pair in zip(*reader.logits(windows), strict=True)], axis=1)
        with storage(folder):
            folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder)
        with replacing(path) as draft, draft.open("wb") as file:
            np.save(file, flat)
    flat = np.load(path, mmap_mode="r", allow_pickle=False)
    ends = np.cumsum([len(window_ids) for window_ids in ids])
    parts = [np.split(side, ends[:-1]) for side in np.asarray(flat)]
    return list(parts[0]), list(parts[1])


def _opened(student: Path, vocabulary: dict[str, int]) -> Any:
    if tokenizer_of(student).get_vocab() != vocabulary:
        raise ModelError(f"{student}: its tokenizer is another than the teacher's; windows would not be the same")
    return open_reader(student)
