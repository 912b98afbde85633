"""What is said before the work begins, and at the head of the recipe."""

from benchmarks.report.numbers import count, duration, size
from compressor.core.strict_json import JsonObject
from compressor.distil.training.embedding import Distil
from compressor.flow.compress.choice import Machine, Times, memory_bytes
from compressor.flow.compress.outlook import Outlook
from compressor.flow.compress.sized.choose import Planned
from compressor.flow.compress.wish import Wish


def notes_of(
    wish: Wish,
    outlook: Outlook,
    machine: Machine,
    texts: int,
    layers: int | None,
    tried: tuple[int, ...],
    chosen: JsonObject,
    planned: Planned | None = None,
) -> list[str]:
    """Say what will be done, on what machine, how long that takes, and what comes out."""
    distil, learnt = chosen.get("distil"), chosen["texts"].get("limit")
    dim = "as long as the model's" if wish.dim is None else f"of {wish.dim} dimensions"
    taught = ""
    if distil:
        on = "all texts" if learnt is None else f"{count(learnt)} of {count(texts)} texts"
        taught = f"; taught on {on} for {duration(float(distil['time_budget'][:-1]))}{' each' * bool(tried)}"
    speed = f"{machine.texts_per_second:,.0f} texts/s by the model"
    fast = "fast" if machine.int8_is_fast else "slow: no VNNI, AMX or dot products"
    made = _depth(wish, outlook, layers, tried) if planned is None else planned.shape.words(outlook)
    size_line = _size(wish, outlook, layers, tried) if planned is None else f"artifact of about {size(planned.bytes)}"
    return [
        f"plan: {made}; vectors {dim}; {wish.precision}{taught}",
        *([] if planned is None else [f"why: {planned.why(wish.bounds.size or 0.0)}"]),
        f"machine: {machine.cores} cores, {machine.memory_bytes / 1e9:.1f} GB; {speed}; int8 is {fast}",
        f"expected: {_expected(wish, outlook, machine, texts, layers, chosen)}; {size_line}",
    ]


def _depth(wish: Wish, outlook: Outlook, layers: int | None, tried: tuple[int, ...]) -> str:
    if tried:
        each = ", ".join(map(str, tried))
        return f"{each} of {outlook.depth} layers side by side, and of these the one for {wish.bounds}"
    if layers is None:
        return "all layers, nothing is distilled"
    return f"{layers} of {outlook.depth} layers" if layers else "a static student"


def _expected(
    wish: Wish, outlook: Outlook, machine: Machine, texts: int, layers: int | None, chosen: JsonObject
) -> str:
    times = Times.of(wish, outlook, machine, texts, layers)
    parts = {"teacher's vectors": times.vectors, "training": times.training, "graphs and checks": times.making,
             "benchmark": times.benchmark}  # fmt: skip
    spent = ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts.items() if seconds)
    distil = chosen.get("distil") or {}
    usual = Distil()
    at_once = distil.get("batch_size", usual.batch_size) // distil.get("accumulate", 1)
    memory = memory_bytes(outlook, layers, at_once, distil.get("max_length", usual.max_length))
    return f"about {duration(times.total)} ({spent}) and {memory / 1e9:.1f} GB of memory"


def _size(wish: Wish, outlook: Outlook, layers: int | None, tried: tuple[int, ...]) -> str:
    counts = tried or (outlook.depth if layers is None else layers,)
    ends = [outlook.size_bytes(n, wish.precision, wish.dim, wish.bits) for n in counts]
    return f"artifact of about {' to '.join(map(size, dict.fromkeys((min(ends), max(ends)))))}"
