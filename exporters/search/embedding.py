"""The search for the fastest form of an encoder."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from compressor.artifact.folder import Draft
from compressor.artifact.layout import EMBEDDING
from compressor.core.encoder import Vectors, length_sorted_batches
from compressor.models.agreement import check_vectors, cosines, neighbours_in_common
from exporters.precision.calibrate import Batch, batches_of_texts
from exporters.precision.int8 import OnnxInt8
from exporters.runtime.running import Running
from exporters.search.contest import PASS_TOKENS, Pass, graph_pass, whole_pass
from exporters.search.subject import ALONE, COMPARED, LARGEST_BATCH, Subject, fallen_of
from exporters.search.trials import Searching
from exporters.session import OnnxEncoder
from exporters.verify.check import Share
from exporters.verify.parity import invariance


class Search(Searching):
    """Try forms of the graph on this CPU, and keep the fastest inside the gate. Off unless the section stands."""

    alike: ClassVar[str] = "neighbours_at_10"
    neighbours_at_10: Share = 0.85
    """Least share of a text's 10 nearest texts in common with the fp32 vectors."""
    speed_texts: str | None = None
    """An STS file whose sentences forms are timed on, less those of ``bench.speed_texts``; by default the texts to
    choose by. What is fastest depends on how long texts are."""

    def run(
        self,
        fp32: Path,
        int8: OnnxInt8,
        sample: Sequence[str],
        dev: Sequence[str],
        kept: Path,
        draft: Draft,
        speed_texts: Sequence[str] = (),
    ) -> None:
        """Write the chosen form of the fp32 graph in ``fp32`` into ``draft``; see ``search``.

        Ranges are measured on ``sample``, quality on ``dev``, speed on ``speed_texts`` or, without any, on ``dev``: no
        texts that figures are reported on.
        """
        timed = list(speed_texts or dev)[: self.count]
        self.search(EmbeddingSubject(fp32, list(sample), list(dev), timed, self.provider), int8, kept, draft)


@dataclass(frozen=True)
class EmbeddingSubject(Subject):
    """An encoder, judged by its vectors."""

    unit = "texts"
    settings = ("batch_tokens", "equal_lengths", "threads", "arena", "bf16_products")

    def batches(self, count: int) -> Iterable[Batch]:
        return batches_of_texts(self.fp32, self.sample[:count])

    @cached_property
    def _exact(self) -> Vectors:
        vectors = OnnxEncoder(self.fp32).encode(self.dev[:COMPARED])
        check_vectors(vectors, str(self.fp32))
        return vectors

    def figures(self, folder: Path, running: Running | None = None) -> dict[str, float]:
        encoder = OnnxEncoder(folder, self.providers, running=running)
        vectors = encoder.encode(self.dev[:COMPARED])
        near = cosines(self._exact, vectors)
        alone, padded, batched = invariance(encoder, self.dev[:ALONE])
        return {
            "cosine_mean": float(near.mean()),
            "cosine_min": float(near.min()),
            "neighbours_at_10": neighbours_in_common(self._exact, vectors, 10),
            "batch_cosine_min": float(min(cosines(alone, changed).min() for changed in (padded, batched))),
            **fallen_of(encoder.placed),
        }

    def graph_pass(self, folder: Path) -> Pass:
        return graph_pass(folder, self._timed_batches(folder), EMBEDDING[1:], self.provider)

    def whole_pass(self, folder: Path, running: Running | None) -> Pass:
        encoder = OnnxEncoder(folder, self.providers, running=running)
        return whole_pass(lambda texts: encoder.encode(texts, LARGEST_BATCH), self.timed)

    def _timed_batches(self, folder: Path) -> Iterator[Batch]:
        encoder = OnnxEncoder(folder, threads=1)
        tokens = encoder.tokenize(self.timed)
        lengths = np.array([len(ids) for ids in tokens], np.int64)
        for rows in length_sorted_batches(lengths, len(tokens), PASS_TOKENS):
            ids, mask = encoder.pad([tokens[i] for i in rows])
            yield {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
