"""The benchmark of readers: every system on the same questions, side by side with the teacher."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from benchmarks.quality.story import StoryStage
from benchmarks.reader_systems import Pair, ReaderSystem, pairs_of
from benchmarks.speed import throughput
from benchmarks.speed.footprint import footprint
from benchmarks.systems import threads_of
from compressor.answering.questions.squad import Question
from compressor.artifact.folder import Draft, write_json
from compressor.core.config import Config
from compressor.core.encoder import usable_cores
from compressor.core.progress import say
from compressor.machine.describe import features
from compressor.machine.threads import same_threads
from exporters.loading import reader_kind
from exporters.runtime.providers import CPU

_FOOTPRINT = 64  # questions of which peak memory is measured


class ReaderBench(Config):
    """Measure readers beside the teacher."""

    count: Annotated[int, Field(ge=16)] = 500
    """Questions in one pass of the Offline scenario, at most; drawn at random from those to be judged by."""
    batch_sizes: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 4, 16, 64)
    """Windows in a batch tried for each system; its best is measured."""
    rounds: Annotated[int, Field(ge=1)] = 5
    """Rounds of the Offline scenario; in each, the systems take turns."""
    queries: Annotated[int, Field(ge=20)] = 200
    """Queries of the SingleStream scenario."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads for every system; by default all cores of the machine."""

    def decided_here(self) -> list[str]:
        return features()

    def pick(self, questions: Sequence[Question]) -> list[Question]:
        """Return the questions whose speed is measured: the same each time."""
        chosen = np.random.default_rng(0).permutation(len(questions))[: self.count]
        return [questions[int(i)] for i in sorted(chosen)]

    def run(self, systems: Mapping[str, ReaderSystem], questions: Sequence[Question], draft: Draft) -> None:
        """Write ``bench.json`` into ``draft``; ``systems`` by the stage that made them, the teacher first."""
        write_json(draft.folder / "bench.json", self.measure(systems, questions))

    def measure(self, systems: Mapping[str, ReaderSystem], questions: Sequence[Question]) -> dict[str, Any]:
        """Return the ``bench`` section of the results: pairs of question and context in, answers out.

        Ratios are to the first system. Questions a second and latencies in ms, as
        ``benchmarks.speed.throughput`` has them.
        """
        threads = self.threads or usable_cores()
        with same_threads(threads):
            threaded = {stage: replace(system, threads=threads) for stage, system in systems.items()}
            return self._measured(threaded, pairs_of(self.pick(questions)), threads)

    def _measured(self, systems: Mapping[str, ReaderSystem], pairs: Sequence[Pair], threads: int) -> dict[str, Any]:
        opened = {system.name: system.open() for system in systems.values()}
        say(f"  {len(systems)} systems on {len(pairs):,} questions, {self.rounds} rounds in turns")
        fast = throughput.offline(opened, pairs, self.batch_sizes, self.rounds)
        slow = throughput.single_stream(opened, pairs, self.queries)
        rows = [
            {
                "name": system.name,
                "label": system.label,
                "provider": system.provider,
                "stage": stage,
                "size_bytes": system.size_bytes,
                "threads": threads_of(opened[system.name]),
                **footprint(system, pairs[:_FOOTPRINT]),
                "offline": _questions(fast[system.name]),
                "single_stream": slow[system.name],
            }
            for stage, system in systems.items()
        ]
        return {
            "questions": len(pairs),
            "rounds": self.rounds,
            "threads": threads,
            "systems": rows,
        }


_NAMES = {"distil": "student", "quantize": "torch-int8", "fp32": "onnx-fp32", "int8": "onnx-int8"}
_LABELS = {
    "teacher": "teacher, PyTorch fp32",
    "distil": "student, PyTorch fp32",
    "quantize": "student, PyTorch dynamic int8",
    "fp32": "student, ONNX fp32",
    "int8": "student, ONNX int8",
}


def systems_of(stages: Mapping[str, StoryStage], threads: int | None) -> dict[str, ReaderSystem]:
    """List what a run's benchmark compares, by stage: the teacher first, then the last step's student and its forms."""
    last = [stage for stage in stages if stage.startswith("distil")][-1]
    systems = {}
    for stage in ("teacher", last, "quantize", "fp32", "int8"):
        if stage not in stages:
            continue
        entry, kind_of_stage = stages[stage], "distil" if stage == last else stage
        kind, folder = reader_kind(entry.model.folder), str(entry.model.folder)
        provider = CPU if kind == "onnx" else "PyTorch CPU"
        name, label = _NAMES.get(kind_of_stage, stage), _LABELS[kind_of_stage]
        systems[stage] = ReaderSystem(
            name, label, kind, folder, provider, threads, reading=entry.reading.model_dump_json()
        )
    return systems


def _questions(figures: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("texts_", "questions_"): value for name, value in figures.items()}
