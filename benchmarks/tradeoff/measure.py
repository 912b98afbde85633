"""The trade-off of depth: every student measured in one run with the teacher."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.bench import Bench
from benchmarks.quality.sts import Sts
from benchmarks.results import Quality
from benchmarks.systems import System
from compressor.artifact.folder import Draft, write_json
from compressor.core.config import Config
from compressor.core.progress import track
from compressor.models.agreement import Heldout, check_vectors
from compressor.models.projection import Projection
from compressor.vectors.retrieval import FIGURE, Searches, ranking_kept


@dataclass(frozen=True)
class Candidate:
    """A system to measure; ``projection`` leads from the teacher's space to its own, where it is reduced."""

    system: System
    projection: Projection | None = None


class SideBySide(Config):
    """Measure quality and speed of all students' artifacts beside the teacher."""

    bench: Bench
    """Settings of the measurements; speed by length is left out."""

    def decided_here(self) -> list[str]:
        return self.bench.decided_here()

    def run(
        self,
        candidates: Sequence[Candidate],
        heldout: Heldout,
        sts: Sequence[Sts],
        texts: tuple[str, list[str]],
        draft: Draft,
        searches: Searches,
    ) -> None:
        """Write ``bench.json`` into ``draft``; the first candidate is the teacher, ``texts`` are source and texts."""
        source, speed_texts = texts
        judged = [_quality(candidate, heldout, sts, searches) for candidate in _shown(candidates)]
        measured = self.bench.measure([candidate.system for candidate in candidates], speed_texts, source)
        write_json(draft.folder / "bench.json", measured.with_quality(judged).as_dict())


def _shown(candidates: Sequence[Candidate]) -> Iterator[Candidate]:
    with track("quality", len(candidates), "systems") as advance:
        for candidate in candidates:
            yield candidate
            advance(1)


def _quality(candidate: Candidate, heldout: Heldout, sts: Sequence[Sts], searches: Searches) -> Quality:
    encoder = candidate.system.encoder()
    vectors = encoder.encode(heldout.texts, 32)
    check_vectors(vectors, candidate.system.name)
    return Quality(
        dim=encoder.dim,
        agreement=heldout.agreement(vectors, candidate.projection) | {FIGURE: ranking_kept(heldout, vectors)},
        sts={file.name: file.spearman(encoder, whose=candidate.system.name) for file in sts},
        retrieval=searches.of(candidate.system.name, encoder, candidate.projection),
    )
