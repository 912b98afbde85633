"""Train tiny students in a second or two, and watch the training."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import sentences
from safetensors.torch import load_file

from compressor.artifact.folder import Draft
from compressor.core.encoder import Vectors
from compressor.distil.training import train as training
from compressor.distil.training.embedding import Distil
from compressor.distil.training.losses import Imitation
from compressor.models.agreement import Heldout, cosines
from compressor.models.sentence_model import TorchEncoder
from compressor.vectors.pca import pair_correlation

TEXTS = sentences(304)
HELDOUT = sentences(150, seed=9)
FIELDS: dict[str, Any] = {
    "layers": (0, 3),
    "start": "copied",
    "epochs": 2.0,
    "batch_size": 16,
    "learning_rate": 3e-3,
    "warmup_steps": 5,
    "max_length": 12,
    "precision": "fp32",
}


@cache
def vectors(teacher: Path, of: str = "texts") -> Vectors:
    """Return the teacher's vectors of TEXTS, or of HELDOUT."""
    return TorchEncoder.load(teacher).encode(TEXTS if of == "texts" else HELDOUT)


class Trained:
    """A training's folder, its checkpoints, and what was seen while it ran."""

    def __init__(self, home: Path) -> None:
        self.home, self.draft, self.checkpoints = home, Draft(home / "student"), home / "checkpoints"
        self.draft.folder.mkdir(parents=True, exist_ok=True)
        self.rows: list[list[int]] = []
        self.widths: list[int] = []
        self.dropout: set[float] = set()
        self.advanced: list[int] = []

    def run(self, teacher: Path, stop_at: int | None = None, options: Any = None, **fields: Any) -> "Trained":
        """Train on TEXTS; stop as Ctrl-C does once ``stop_at`` texts were seen."""
        forward = Imitation.forward

        def watched(loss: Imitation, features: Any, labels: Any) -> torch.Tensor:
            features = list(features)
            self.rows.append(labels.tolist())
            self.widths.append(features[0]["input_ids"].shape[1])
            self.dropout |= {m.p for m in loss.model.modules() if isinstance(m, torch.nn.Dropout)}
            return forward(loss, features, labels)

        @contextmanager
        def track(what: str, total: int, unit: str = "texts", left: object = None) -> Iterator[Callable[[int], None]]:
            def advance(amount: int) -> None:
                self.advanced.append(amount)
                if stop_at is not None and sum(self.advanced) >= stop_at:
                    raise KeyboardInterrupt

            yield advance

        with pytest.MonkeyPatch.context() as patch:
            if fields.get("layers") != 0:  # a static student reads no input_ids
                patch.setattr(Imitation, "forward", watched)
            patch.setattr(training, "track", track)
            distil = Distil(**FIELDS | fields)
            heldout = Heldout(HELDOUT, vectors(teacher, "heldout"))
            known = vectors(teacher).astype(np.float16)
            distil.run(teacher, TEXTS, known, self.checkpoints, self.draft, heldout, **options or {})
        return self

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The saved student's."""
        return load_file(self.draft.folder / "model.safetensors")

    def encode(self, texts: Sequence[str] = HELDOUT) -> Vectors:
        """Return the saved student's vectors."""
        return TorchEncoder.load(self.draft.folder).encode(texts)

    def cosine(self, teacher: Path) -> float:
        """Return the mean cosine with the teacher's vectors on HELDOUT."""
        return float(cosines(vectors(teacher, "heldout"), self.encode()).mean())

    def order(self, teacher: Path, dim: int | None = None) -> float:
        """Return how the student's first ``dim`` dimensions rank pairs of HELDOUT as the teacher does."""
        return pair_correlation(vectors(teacher, "heldout"), self.encode()[:, :dim])

    def kept(self) -> list[str]:
        """Return the names of the checkpoints."""
        return sorted(path.name for path in self.checkpoints.glob("checkpoint-*"))


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    """Tell whether all weights are equal."""
    return left.keys() == right.keys() and all(left[name].equal(right[name]) for name in left)
