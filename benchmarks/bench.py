"""The benchmark: every system on the same texts or questions, side by side with the teacher."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from benchmarks.quality.sts import Sts, read_sets
from benchmarks.results import BenchFigures, MeasuredOn, SystemFigures, Twin
from benchmarks.speed import throughput
from benchmarks.speed.figures import HighestRate, Offline, SingleStream
from benchmarks.speed.footprint import footprint
from benchmarks.speed.limit import Limit, Reached
from benchmarks.speed.server import server
from benchmarks.speed.turns import AgainstItself
from benchmarks.systems import System, check_names
from compressor.answering.questions.squad import Question
from compressor.artifact.folder import Draft, write_json
from compressor.core.config import Config
from compressor.core.cores import usable_cores
from compressor.core.progress import say
from compressor.machine.card import require_card
from compressor.machine.describe import features
from compressor.machine.threads import same_threads
from compressor.texts.collections import Collection, read_collections
from exporters.runtime.providers import CPU, CUDA, on_device, require_providers
from exporters.tasks import ANSWERING, Item, Runner, Task
from exporters.tasks.base import threads_of
from exporters.tasks.lengths import Pair

_CHECKED = 64  # items whose results are looked at before anything is timed
_FOOTPRINT = {ANSWERING: 64}  # items of which peak memory is measured: questions are longer than most texts


class Speed(Config):
    """Measure systems beside the teacher: what is the same for all tasks."""

    count: Annotated[int, Field(ge=64)] = 2000
    """Texts in one pass of the Offline scenario, at most."""
    batch_sizes: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (8, 32, 128)
    """Batch sizes tried for each system; its best is measured."""
    rounds: Annotated[int, Field(ge=1)] = 6
    """Rounds of the Offline scenario; in each, the systems take turns. Six give an interval of 97 %."""
    queries: Annotated[int, Field(ge=20)] = 200
    """Queries of the SingleStream scenario."""
    server_p99_ms: Annotated[float, Field(gt=0)] | None = None
    """Bound of the 99th percentile of latency in the Server scenario, which finds each ONNX artifact's highest rate of
    random arrivals within it, in about a minute each; without it the scenario is left out."""
    lengths: tuple[Annotated[int, Field(ge=8)], ...] = (16, 64, 128, 256)
    """Text lengths, in tokens, to measure speed and latency at; lengths above the model's are left out."""
    providers: tuple[str, ...] = (CPU,)
    """ONNX Runtime execution providers to measure on, options behind the name
    (``OpenVINOExecutionProvider:NUM_STREAMS=2``); one that is not there is an error. What one has no kernels for runs
    on the CPU provider behind it, and is counted."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads for every system; by default all cores of the machine."""

    def decided_here(self) -> list[str]:
        return features()

    def check_providers(self) -> None:
        """Look for the providers before any long work."""
        require_providers(self.providers)
        if on_device(self.providers):
            require_card(CUDA)  # the teacher is measured there by PyTorch, whatever ONNX Runtime has

    def run(self, systems: Sequence[System], items: Sequence[Item], source: str, draft: Draft) -> None:
        """Write ``bench.json`` into ``draft``; the first system is the teacher."""
        write_json(draft.folder / "bench.json", self.measure(systems, items, source).as_dict())

    def measure(self, systems: Sequence[System], items: Sequence[Item], source: str) -> BenchFigures:
        """Return the figures of all systems; ratios are to the first.

        All systems have the same threads, whatever the shell or they themselves state.
        """
        check_names([system.name for system in systems])
        threads = self.threads or usable_cores()
        with same_threads(threads):
            return self._measured([replace(system, threads=threads) for system in systems], items, source, threads)

    def _measured(self, systems: Sequence[System], items: Sequence[Item], source: str, threads: int) -> BenchFigures:
        task, last = systems[-1].does, systems[-1]
        opened = {system.name: system.open() for system in systems}
        twin = {f"{last.name}, again": last.open()}
        for name, runner in opened.items():
            task.check(runner, items[:_CHECKED], name)
        say(f"  {len(systems)} systems on {len(items):,} {task.unit}, {self.rounds} rounds in turns")
        fast = throughput.offline(opened | twin, items, self.batch_sizes, self.rounds)
        slow = throughput.single_stream(opened | twin, items, self.queries)
        served = self._server(task, opened, items, fast)
        tokenizer = task.tokenizer(Path(last.folder))  # all systems of a run share one vocabulary
        limit = min(runner.max_length for runner in opened.values())
        lengths = {n: task.of_length(tokenizer, items, n) for n in self.lengths if n <= limit}
        length_rows = throughput.by_length(opened, lengths)
        rows = [
            SystemFigures(
                name=system.name,
                label=system.label,
                provider=system.provider,
                stage=system.stage,
                size_bytes=system.size_bytes,
                threads=threads_of(opened[system.name]),
                footprint=footprint(system, items[: _FOOTPRINT.get(task.name, 256)]),
                offline=fast[system.name],
                single_stream=slow[system.name],
                server=served.get(system.name),
                by_length=length_rows[system.name],
                placed=task.placed(opened[system.name]),
            )
            for system in systems
        ]
        return BenchFigures(
            unit=task.unit,
            items=MeasuredOn.of(source, task.tokens(tokenizer, items)),
            rounds=self.rounds,
            threads=threads,
            twin=_against_itself(last.name, fast, slow),
            limit=self._limit(last, items),
            systems=rows,
        )

    def _server(
        self, task: Task, opened: Mapping[str, Runner], items: Sequence[Item], fast: Mapping[str, Offline]
    ) -> dict[str, HighestRate]:
        """Find the highest rate of what a ``Batcher`` can serve."""
        if self.server_p99_ms is None:
            return {}
        served = {name: own for name, runner in opened.items() if (own := task.served(runner)) is not None}
        ceilings = {name: 1.2 * fast[name].rate for name in served}
        return server(served, items, self.server_p99_ms, ceilings)

    def _limit(self, system: System, items: Sequence[Item]) -> Reached | None:
        """Tell what share of the machine's peak the artifact reaches; None for what is no graph on the CPU."""
        if system.kind != "onnx" or system.provider != CPU:
            return None
        return Limit(lengths=self.lengths, threads=self.threads).measure(Path(system.folder), items)


class Bench(Speed):
    """Measure the artifacts beside the teacher."""

    sts: tuple[str, ...] = ()
    """STS files (``sentence1,sentence2,score``) to measure quality on; without any, agreement alone."""
    speed_texts: str | None = None
    """An STS file whose sentences are the texts of the speed measurements; by default the held-out texts."""
    retrieval: tuple[str, ...] = ()
    """Collections in BEIR's folder form (corpus.jsonl, queries.jsonl, qrels) to measure retrieval on; without any, only
    how held-out texts rank each other is held against the teacher."""
    retrieval_split: str = "test"
    """The judgements that are taken of each collection: qrels/SPLIT.tsv."""

    def collections(self, base: Path) -> list[Collection]:
        """Read the collections; RecipeError for two of one name."""
        return read_collections(self.retrieval, base, self.retrieval_split, "bench.retrieval")

    def check(self, base: Path) -> list[Sts]:
        """Read the STS files and look for the providers before any long work."""
        self.check_providers()
        if self.speed_texts is not None:
            Sts.read(base / self.speed_texts)
        return read_sets(self.sts, base, "bench.sts")

    def pick_texts(self, base: Path, heldout: Sequence[str]) -> tuple[str, list[str]]:
        """Return the source and the texts of the speed measurements."""
        if self.speed_texts is None:
            return "held-out texts", list(heldout)[: self.count]
        sts = Sts.read(base / self.speed_texts)
        return sts.name, sts.texts[: self.count]


class ReaderBench(Speed):
    """Measure readers beside the teacher."""

    count: Annotated[int, Field(ge=16)] = 500
    """Questions in one pass of the Offline scenario, at most; drawn at random from those to be judged by."""
    batch_sizes: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 4, 16, 64)
    """Windows in a batch tried for each system; its best is measured."""
    lengths: tuple[Annotated[int, Field(ge=16)], ...] = (64, 128, 256)
    """Lengths of question and context together, in tokens, to measure speed and latency at; lengths above the
    reader's are left out."""

    def pick(self, questions: Sequence[Question]) -> list[Pair]:
        """Return the questions and contexts whose speed is measured: the same each time."""
        chosen = np.random.default_rng(0).permutation(len(questions))[: self.count]
        return [(questions[int(i)].text, questions[int(i)].context) for i in sorted(chosen)]


def _against_itself(name: str, fast: Mapping[str, Offline], slow: Mapping[str, SingleStream]) -> Twin:
    """Compare the system that ran under two names."""
    again = f"{name}, again"
    return Twin(
        name,
        AgainstItself.of(fast[name].rounds, fast[again].rounds),
        AgainstItself.of(slow[name].turns_ms_p50, slow[again].turns_ms_p50),
    )
