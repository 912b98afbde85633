"""This harness held against MLCommons LoadGen: both drive one encoder, in turns, with the same texts.

LoadGen is what MLPerf Inference is measured with (github.com/mlcommons/inference); its own verdicts (VALID or not)
are about the length of a submission's run, and are not asked for.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field

from benchmarks.speed import server, throughput
from benchmarks.speed.turns import interval, orders
from compressor.core.config import Config
from compressor.core.errors import installed
from compressor.core.figures import Figures
from compressor.core.progress import say, track
from compressor.core.strict_json import JsonObject
from exporters.serving import Batcher
from exporters.session import OnnxEncoder

Samples = Sequence[Any]  # LoadGen's: an id, and the index of a text
Measured = Mapping[str, float]  # each figure of one turn, by its name
TOLERANCE = 0.05
_SEED = 1


@dataclass(frozen=True)
class Agreement(Figures):
    """One figure as both harnesses measure it: the medians of the rounds, and their ratio within its interval."""

    ours: float
    loadgen: float
    ratio: float
    low: float
    high: float
    confidence: float
    rounds: Sequence[Sequence[float]]
    """Ours and LoadGen's in each."""

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, float]]) -> Self:
        """Compare both figures round by round."""
        ratios = [ours / theirs if theirs else float(ours == theirs) for ours, theirs in pairs]
        ours, theirs = np.median(np.array(pairs), axis=0)
        rounds = [list(pair) for pair in pairs]
        return cls(float(ours), float(theirs), float(np.median(ratios)), *interval(ratios), rounds)

    @property
    def agrees(self) -> bool:
        """Whether both give the same figure, within TOLERANCE."""
        return abs(self.ratio - 1) <= TOLERANCE

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it."""
        figures = super().as_dict()
        rounds = figures.pop("rounds")
        return figures | {"agrees": self.agrees, "rounds": rounds}


Scenario = Mapping[str, Agreement]
"""Each figure of a scenario, by its name."""


@dataclass(frozen=True)
class Compared:
    """Both harnesses' figures of one artifact."""

    threads: int
    server_p99_ms: float
    offline: Scenario
    single_stream: Scenario
    server: Scenario | None = None
    """None where it was left out."""

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it."""
        scenarios = {"offline": self.offline, "single_stream": self.single_stream, "server": self.server}
        return {"threads": self.threads, "tolerance": TOLERANCE, "server_p99_ms": self.server_p99_ms} | {
            name: {figure: agreement.as_dict() for figure, agreement in figures.items()}
            for name, figures in scenarios.items()
            if figures is not None
        }

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote."""
        scenarios = {
            name: {figure: Agreement.read(agreement) for figure, agreement in stated[name].items()}
            for name in ("offline", "single_stream", "server")
            if name in stated
        }
        return cls(stated["threads"], stated["server_p99_ms"], **scenarios)


class Loadgen(Config):
    """Hold the figures of this harness against those of MLCommons LoadGen."""

    batch_size: Annotated[int, Field(ge=1)] = 32
    """Batch size of the Offline scenario."""
    rounds: Annotated[int, Field(ge=1)] = 6
    """Rounds of Offline and SingleStream; in each, both drive the encoder once."""
    queries: Annotated[int, Field(ge=64)] = 500
    """Queries of one turn of SingleStream."""
    server_rounds: Annotated[int, Field(ge=0)] = 3
    """Rounds of Server, each two searches of about a minute; 0 leaves it out."""
    server_p99_ms: Annotated[float, Field(gt=0)] = 20.0
    """Bound of the 99th percentile of latency in Server."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of the artifact; by default all cores of the machine."""

    def measure(self, folder: Path, texts: Sequence[str]) -> Compared:
        """Return both harnesses' values of each figure, and their ratio; DependencyError without LoadGen."""
        driver = _Driver(installed("mlperf_loadgen", "mlcommons-loadgen", "loadgen"), texts)
        encoder = OnnxEncoder(folder, threads=self.threads)
        say(f"  this harness and LoadGen on {len(texts):,} texts, {self.rounds} rounds in turns")
        offline = self._offline(encoder, driver)
        single_stream = self._single_stream(encoder, driver)
        ceiling = 1.2 * offline["texts_per_second"].ours
        served = self._server(encoder, driver, ceiling) if self.server_rounds else None
        return Compared(encoder.threads, self.server_p99_ms, offline, single_stream, served)

    def _offline(self, encoder: OnnxEncoder, driver: "_Driver") -> Scenario:
        size = self.batch_size
        expected = throughput.rate(encoder, driver.texts, size, throughput.TURN_SECONDS)

        def issue(samples: Samples) -> None:
            encoder.encode(driver.of(samples), size)
            driver.complete(samples)

        def theirs() -> Measured:
            _wake(encoder, driver.texts[:size], size)
            seconds = throughput.TURN_SECONDS
            log = driver.run("Offline", issue, offline_expected_qps=expected, min_duration_ms=round(1000 * seconds))
            return {"texts_per_second": log["result_samples_per_second"]}

        theirs()
        issued = list(driver.issued)

        def ours() -> Measured:
            return {"texts_per_second": throughput.rate(encoder, issued, size)}

        return _compare("offline", ours, theirs, self.rounds)

    def _single_stream(self, encoder: OnnxEncoder, driver: "_Driver") -> Scenario:
        def issue(samples: Samples) -> None:
            encoder.encode(driver.of(samples), 1)
            driver.complete(samples)

        def theirs() -> Measured:
            _wake(encoder, driver.texts[:3], 1)
            log = driver.run("SingleStream", issue, min_query_count=self.queries, max_query_count=self.queries)
            return {f"latency_ms_p{p}": log[f"result_{p}.00_percentile_latency_ns"] / 1e6 for p in (50, 90)}

        theirs()
        issued = list(driver.issued)

        def ours() -> Measured:
            p50, p90 = np.percentile(throughput.latencies(encoder, issued), [50, 90])
            return {"latency_ms_p50": float(p50), "latency_ms_p90": float(p90)}

        return _compare("single stream", ours, theirs, self.rounds)

    def _server(self, encoder: OnnxEncoder, driver: "_Driver", ceiling: float) -> Scenario:
        with Batcher(encoder, most_waiting=1 << 30) as batcher:  # LoadGen waits for ever for what is refused

            def issue(samples: Samples) -> None:
                for sample, text in zip(samples, driver.of(samples), strict=True):
                    batcher.submit(text).add_done_callback(partial(finish, sample))

            def finish(sample: Any, _: object) -> None:
                driver.complete([sample])

            def theirs(rate: float, seed: int) -> server.Latency:
                log = driver.run(
                    "Server",
                    issue,
                    server_target_qps=rate,
                    server_target_latency_ns=round(1e6 * self.server_p99_ms),
                    min_duration_ms=round(1000 * server.SECONDS),
                    min_query_count=server.QUERIES,
                    schedule_rng_seed=_SEED + seed,
                )
                p50, p99 = (log[f"result_{p}.00_percentile_latency_ns"] / 1e6 for p in (50, 99))
                return server.Latency(int(log["result_query_count"]), p50, p99)

            def highest(drive: server.Drive) -> Measured:
                return {"rate": server.Search(drive, self.server_p99_ms).highest(ceiling)}

            ours = partial(server.arrivals, batcher, driver.texts)
            return _compare("server", partial(highest, ours), partial(highest, theirs), self.server_rounds)


@dataclass
class _Driver:
    """LoadGen with a set of texts as its samples."""

    loadgen: Any
    texts: Sequence[str]

    def __post_init__(self) -> None:
        self.issued: list[str] = []

    def of(self, samples: Samples) -> list[str]:
        """Return the texts of samples, and note that they were asked for."""
        texts = [self.texts[sample.index] for sample in samples]
        self.issued += texts
        return texts

    def complete(self, samples: Samples) -> None:
        """Tell LoadGen that samples are done."""
        answer = self.loadgen.QuerySampleResponse
        self.loadgen.QuerySamplesComplete([answer(sample.id, 0, 0) for sample in samples])

    def run(self, scenario: str, issue: Callable[[Samples], None], **settings: Any) -> dict[str, Any]:
        """Let LoadGen measure a scenario, and return what it logged."""
        lg, self.issued = self.loadgen, []
        test_settings = lg.TestSettings()
        test_settings.scenario, test_settings.mode = getattr(lg.TestScenario, scenario), lg.TestMode.PerformanceOnly
        fixed = {"qsl_rng_seed": _SEED, "sample_index_rng_seed": _SEED, "schedule_rng_seed": _SEED}
        for name, value in ({"min_duration_ms": 0, "min_query_count": 1} | fixed | settings).items():
            setattr(test_settings, name, value)
        with TemporaryDirectory() as folder:
            log = lg.LogSettings()
            log.log_output.outdir, log.enable_trace = folder, False
            system = lg.ConstructSUT(issue, lambda: None)
            library = lg.ConstructQSL(len(self.texts), len(self.texts), lambda _: None, lambda _: None)
            try:
                lg.StartTestWithLogSettings(system, library, test_settings, log)
            finally:
                lg.DestroyQSL(library)
                lg.DestroySUT(system)
            lines = (Path(folder) / "mlperf_log_detail.txt").read_text("utf-8").splitlines()
        entries = [json.loads(line.removeprefix(":::MLLOG ")) for line in lines]
        return {entry["key"]: entry["value"] for entry in entries}


def _wake(encoder: OnnxEncoder, texts: Sequence[str], batch_size: int) -> None:
    """Do before LoadGen's turn what this harness does before its own."""
    time.sleep(throughput.SETTLE_SECONDS)
    encoder.encode(texts, batch_size)


def _compare(label: str, ours: Callable[[], Measured], theirs: Callable[[], Measured], rounds: int) -> Scenario:
    """Let both measure, in turns, and compare each figure round by round."""
    drives = {"ours": ours, "loadgen": theirs}
    measured: dict[str, list[Measured]] = {name: [] for name in drives}
    with track(label, 2 * rounds, "turns") as advance:
        for order in orders(list(drives), rounds):
            for name in order:
                measured[name].append(drives[name]())
                advance(1)
    return {
        figure: Agreement.of([(a[figure], b[figure]) for a, b in zip(*measured.values(), strict=True)])
        for figure in measured["ours"][0]
    }
