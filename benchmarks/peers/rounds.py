"""Speed of living workers, of which one computes at a time: each system's best setting and batch size, then turns."""

import time
from collections.abc import Callable, Sequence

from benchmarks.peers.entry import Entry
from benchmarks.peers.results import AtBest, Setting
from benchmarks.speed import throughput
from benchmarks.speed.figures import SingleStream
from benchmarks.speed.throughput import TRIAL_TEXTS, TURN_QUERIES, Rates
from benchmarks.speed.turns import orders
from compressor.core.progress import track


def offline(
    entries: Sequence[Entry], texts: Sequence[str], batch_sizes: Sequence[int], rounds: int
) -> dict[str, AtBest]:
    """Measure texts a second as ``throughput.offline`` does, by the workers' own clocks.

    The first entry is the baseline of the ratios. A peer that fails on the way has no figures; its entry says why.
    """
    alive = [entry for entry in entries if entry.reason is None]
    trials = sum(len(entry.settings) * len(batch_sizes) for entry in alive)
    measured: dict[str, Rates] = {}
    picked: dict[str, Setting] = {}
    with track("offline", trials + rounds * len(alive), "passes") as advance:
        for entry in alive:
            with entry.turn():
                picked[entry.name], measured[entry.name] = _best(entry, texts[:TRIAL_TEXTS], batch_sizes, advance)
        for order in orders(alive, rounds):
            for entry in order:
                if entry.reason is None:
                    idle = [system for system in alive if system is not entry and system.reason is None]
                    with entry.turn():
                        own = measured[entry.name]
                        own.rounds.append(_rate(entry, texts, own.batch_size, throughput.TURN_SECONDS, idle))
                advance(1)
    baseline = measured[alive[0].name]
    done = [entry for entry in alive if entry.reason is None]
    for entry in done:
        entry.batch_size = measured[entry.name].batch_size
    return {e.name: AtBest(measured[e.name].against(baseline), picked[e.name]) for e in done}


def _best(
    entry: Entry, trial: Sequence[str], batch_sizes: Sequence[int], advance: Callable[[int], None]
) -> tuple[Setting, Rates]:
    """Return the setting in which the entry is fastest, changed over to, and its rates at all batch sizes."""
    tried: list[tuple[Setting, Rates]] = []
    for setting in entry.settings:
        entry.running.ask("use", setting=setting)
        entry.running.seconds(trial[:32], min(batch_sizes))  # warm-up
        rates = {}
        for size in batch_sizes:
            rates[size] = max(_rate(entry, trial, size, throughput.TURN_SECONDS / 4) for _ in range(2))
            advance(1)
        tried.append((setting, Rates(rates)))
    setting, best = max(tried, key=lambda pair: max(pair[1].by_batch_size.values()))
    if setting != entry.settings[-1]:
        entry.running.ask("use", setting=setting)
    return setting, best


def _rate(entry: Entry, texts: Sequence[str], batch_size: int, lasting: float, idle: Sequence[Entry] = ()) -> float:
    """Return texts a second of passes that last so many seconds; note how much the others worked, who should sleep."""
    time.sleep(throughput.SETTLE_SECONDS)  # until the last system's threads sleep
    entry.running.seconds(texts[:batch_size], batch_size)  # wake this one's
    before = [system.running.cpu_seconds() for system in idle]
    start, passes, seconds = time.monotonic(), 0, 0.0
    while not passes or seconds < lasting:
        seconds += entry.running.seconds(texts, batch_size)
        passes += 1
    passed = time.monotonic() - start
    for system, used in zip(idle, before, strict=True):
        system.idle_share = max(system.idle_share, (system.running.cpu_seconds() - used) / passed)
    return passes * len(texts) / seconds


def single_stream(entries: Sequence[Entry], texts: Sequence[str], queries: int) -> dict[str, SingleStream]:
    """Measure the latency of one text at a time on all cores, in turns."""
    alive = [entry for entry in entries if entry.reason is None]
    turns: dict[str, list[list[float]]] = {entry.name: [] for entry in alive}
    for entry in alive:
        with entry.turn():
            entry.running.ask("use", setting=entry.settings[0])
    starts = range(0, queries, TURN_QUERIES)
    with track("single stream", queries * len(alive), "queries") as advance:
        for start, order in zip(starts, orders(alive, len(starts)), strict=True):
            turn = [texts[i % len(texts)] for i in range(start, min(start + TURN_QUERIES, queries))]
            for entry in order:
                if entry.reason is None:
                    with entry.turn():
                        time.sleep(throughput.SETTLE_SECONDS)
                        turns[entry.name].append(entry.running.ask("latencies", texts=turn)["milliseconds"])
                advance(len(turn))
    return {entry.name: SingleStream.of(turns[entry.name]) for entry in alive if entry.reason is None}
