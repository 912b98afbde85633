"""Teach a student to give the teacher's vectors."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from compressor.artifact.folder import Draft
from compressor.core.errors import ModelError, RecipeError
from compressor.distil.student.size import Size
from compressor.distil.training.lessons import Lessons, Part
from compressor.distil.training.losses import Imitation, Losses, Targets
from compressor.distil.training.mining import Neighbours, mine
from compressor.distil.training.states import States
from compressor.distil.training.train import Training
from compressor.machine.processes import rank
from compressor.models.agreement import Heldout
from compressor.models.projection import Projection
from compressor.models.sentence_model import TorchEncoder, embedding_dimension, open_model
from compressor.vectors.pca import fit, fold
from compressor.vectors.similarities import keep_similarities

_FITTED = 20_000  # vectors that the smaller space is fitted on, at most


class Distil(Training, Losses, Size):
    """Make a student of the teacher and train it to imitate the teacher's vectors."""

    def check(self, teacher: SentenceTransformer) -> None:
        """Raise RecipeError for a student that the teacher cannot give, or losses that teach nothing."""
        Size.check(self, teacher)
        self.check_processes()
        if self.layers == 0 and self.embedding_learning_rate == 0:
            raise RecipeError("distil.embedding_learning_rate = 0: a static student is nothing but its vocabulary")
        if not self.asked:
            raise RecipeError("distil.mse = 0 with no other loss: give at least one of them weight")
        most = self.dim or embedding_dimension(teacher)
        if outside := [n for n in self.matryoshka if n >= most]:
            raise RecipeError(f"distil.matryoshka = {list(self.matryoshka)}: {outside[0]} is no prefix of {most}")

    def run(
        self,
        teacher: Path,
        texts: Sequence[str],
        vectors: Any,
        checkpoints: Path,
        draft: Draft,
        dev: Heldout | None = None,
        prepare: Callable[[SentenceTransformer], SentenceTransformer] | None = None,
        more: Sequence[Part] = (),
        share: float | None = None,
        other: Path | None = None,
    ) -> None:
        """Write the student into ``draft``; go on from ``checkpoints`` if an earlier run left some there.

        ``vectors`` are the teacher's of ``texts``, indexed by rows, [len(texts), dim]. ``prepare`` changes the
        teacher that the student is made of, ``more`` are further texts to learn from, of which ``texts`` are
        then the ``share``; ``other`` is where ``find`` found a student of another make.
        """
        model = open_model(teacher)
        lessons = Lessons([Part(texts, vectors, share=share), *more])
        shaped = model if prepare is None else prepare(model)
        kept = () if self.model else self.kept(shaped, texts)
        student = self.make(shaped, kept, texts, vectors, other)
        projection = self._projection(vectors)
        if projection is not None:
            student = fold(student, projection)
            projection.save(draft.folder)
        states = self.asked & {"hidden", "attention"}
        loss = Imitation(
            student,
            self,
            Targets(lessons.vectors, projection, len(lessons), self._neighbours(lessons, len(texts))),
            States(open_model(teacher), student, kept, states) if states else None,
        )
        draft.figures.update(self.train(student, loss, lessons, dev, checkpoints))
        draft.figures["layers"] = list(kept)
        if not rank():  # of several processes only the first can save
            save_student(student, draft.folder, [lessons[i] for i in range(min(8, len(lessons)))])

    def _neighbours(self, lessons: Lessons, texts: int) -> Neighbours | None:
        """Return the numbers of each lesson's neighbours among the first ``texts``, where a loss compares them.

        Further lessons have the vectors of such texts. Raises RecipeError for fewer texts than are asked for.
        """
        if "margin" not in self.asked:
            return None
        if self.negatives > texts - 2:
            raise RecipeError(f"distil.negatives = {self.negatives}: must be at most {texts - 2} for {texts} texts")
        return mine(lessons.vectors, len(lessons), texts, self.negatives + 1)

    def _projection(self, vectors: Any) -> Projection | None:
        """Return the map from the teacher's space to the one that the student is trained in, where it is another."""
        if self.dim is None and not self.matryoshka:
            return None
        sample = np.asarray(vectors[np.arange(min(_FITTED, vectors.shape[0]))], np.float32)
        components = fit(sample, self.dim or sample.shape[1], center=False)
        return keep_similarities(components, sample, self.matryoshka, self.pairwise_power)


def save_student(student: SentenceTransformer, folder: Path, texts: list[str]) -> None:
    """Save in safetensors, load again, and compare the vectors of ``texts``.

    Raises ModelError if the saved student is not the trained one: a config that still states the
    teacher's depth loads with random layers and scores almost the same.
    """
    student.save_pretrained(str(folder), create_model_card=False, safe_serialization=True)
    before, after = TorchEncoder(student).encode(texts), TorchEncoder.load(folder).encode(texts)
    difference = float(np.abs(before - after).max())
    if difference > 1e-5:
        raise ModelError(f"{folder}: the saved student differs from the trained one by {difference:.1e}")
