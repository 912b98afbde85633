"""The defaults: a recipe for what is wanted, by the model, by how fast this machine runs it, and by how many texts."""

from dataclasses import dataclass
from math import ceil
from typing import Any

from benchmarks.bench import Bench
from compressor.core.cores import usable_cores
from compressor.core.errors import RecipeError
from compressor.flow.compress.outlook import Outlook
from compressor.flow.compress.sized.shape import Shape
from compressor.flow.compress.wish import Wish
from compressor.machine.describe import INT8_FEATURES, describe, saturates
from compressor.vectors.pca import Pca
from compressor.vectors.ranges import OutputVectors
from exporters.precision.int8 import OnnxInt8

TRAINING, VECTORS, JUDGING, BENCHMARK = 0.5, 0.25, 0.1, 0.15
"""Shares of the time budget: the training, the teacher's vectors to learn from, those to judge by, the benchmark."""
LEAST_TEXTS, MOST_HELDOUT = 2000, 2000
QUICK_SECONDS = 300.0
"""Of a time budget below it, and where the teacher takes more than a second for SLOW texts, less is benchmarked."""
SLOW = 20.0
LEAST_STEPS, SMALL_BATCH, SHORT_WARMUP = 300, 32, 10
"""Of a training that has time for fewer steps of 128 texts, each is of 32; the learning rate rises in 10 of them."""
TRAINED_SECONDS = 120.0
"""Least training of a depth: of a target's, no more are tried than have it."""
_BATCH, _TOKENS = 128, 64  # of a training step, by default
_LONGER = (128, 256)  # tokens that texts are cut at in training where they are longer
_MEMORY = 0.6  # of the machine's: what a step may take
_LIBRARIES = 600_000_000  # bytes of Python and PyTorch themselves
_PCA_TEXTS, _RANGES_TEXTS, _BENCHED = Pca().sample, OutputVectors().sample, Bench().count


@dataclass(frozen=True)
class Machine:
    """What this machine is, and how fast it runs the teacher."""

    cores: int
    memory_bytes: int
    architecture: str
    int8_is_fast: bool
    texts_per_second: float

    @classmethod
    def here(cls, texts_per_second: float) -> "Machine":
        """Describe this machine."""
        found = describe()
        fast = any(name in INT8_FEATURES for name in found["features"])
        return cls(usable_cores(), found["memory_bytes"], found["architecture"], fast, texts_per_second)

    @property
    def clips(self) -> bool:
        """Whether its int8 sums overflow, but for weights of 7 bits."""
        return saturates(self.architecture, self.int8_is_fast)


def layers_of(wish: Wish, outlook: Outlook) -> int | None:
    """Return the layers that a student keeps, None for all; RecipeError for what the model cannot give."""
    if wish.layers == "all" or (wish.layers is None and (outlook.possible.uncut or outlook.depth < 2)):
        return None
    if wish.layers is None:
        return usual_layers(outlook.depth)
    if outlook.possible.uncut:
        raise RecipeError(f"--layers {wish.layers}: {outlook.possible.uncut}; must be all")
    if wish.layers > outlook.depth:
        raise RecipeError(f"--layers {wish.layers}: must be 0 to {outlook.depth}, the model's layers, or all")
    return wish.layers


def usual_layers(depth: int) -> int:
    """Return a quarter of twelve layers or more, half of fewer."""
    return round(depth / 4) if depth >= 12 else max(1, ceil(depth / 2))


def check_dim(wish: Wish, outlook: Outlook) -> None:
    """Raise RecipeError for vectors longer than the model's."""
    if wish.dim is not None and wish.dim > outlook.dim:
        raise RecipeError(f"--dim {wish.dim}: must be at most {outlook.dim}, the length of the model's vectors")


def depths(wish: Wish, outlook: Outlook) -> tuple[int, ...]:
    """Return the counts of layers that are made for a target, all of them first, which needs no training.

    Halves, as many as the time budget has training for, without those whose size is known to be too much. RecipeError
    where none is small enough.
    """
    halves = [] if outlook.possible.uncut else _halves(outlook.depth)
    most = wish.bounds.size
    fit = [n for n in (outlook.depth, *halves) if most is None or outlook.size_bytes(n, *_form(wish)) <= most]
    if not fit:
        least = outlook.size_bytes(min([outlook.depth, *halves]), *_form(wish))
        smallest = f"the smallest, by its numbers, takes {least / 1e6:.1f} MB"
        raise RecipeError(f"--size {wish.size}: {smallest}; --size plans smaller ones, alone or with --speed")
    trained = [n for n in fit if n < outlook.depth]
    times = max(1, int(TRAINING * wish.seconds // TRAINED_SECONDS))
    return tuple(n for n in fit if n == outlook.depth or n in _spread(trained, times))


def is_planned(wish: Wish, outlook: Outlook) -> bool:
    """Tell whether a student is planned for a size: for that alone, or where no depth fits that must also be fast."""
    if wish.targets != ("size", "speed"):
        return wish.targets == ("size",)
    try:
        depths(wish, outlook)
    except RecipeError:
        return True
    return False


def _form(wish: Wish) -> tuple[Any, int | None, int]:
    return wish.precision, wish.dim, wish.bits


def _halves(depth: int) -> list[int]:
    found: list[int] = []
    while depth > 1:
        depth = ceil(depth / 2)
        found.append(depth)
    return found


def _spread(counts: list[int], most: int) -> list[int]:
    """Return ``most`` of the counts, from the first to the last."""
    if len(counts) <= most:
        return counts
    return [counts[round(i * (len(counts) - 1) / max(most - 1, 1))] for i in range(most)]


def is_quick(wish: Wish, machine: Machine) -> bool:
    """Tell whether less is benchmarked."""
    return wish.seconds < QUICK_SECONDS or machine.texts_per_second < SLOW


def heldout_of(wish: Wish, machine: Machine, texts: int) -> int:
    """Return how many texts are kept out to judge by, as many again to choose by: a tenth, within the time budget."""
    known = int(JUDGING / 2 * wish.seconds * machine.texts_per_second)
    return max(20, min(known, MOST_HELDOUT, texts // 10))


def limit_of(wish: Wish, machine: Machine, texts: int) -> int | None:
    """Return how many texts a student learns from, as many as the time budget has vectors for; None for all."""
    most = _round(max(VECTORS * wish.seconds * machine.texts_per_second, LEAST_TEXTS))
    return most if most < texts else None


def _round(number: float) -> int:
    """Return about this, in two digits."""
    return int(float(f"{number:.1e}"))


def sections(
    wish: Wish,
    outlook: Outlook,
    machine: Machine,
    texts: int,
    layers: int | None,
    tokens: int = _TOKENS,
    shape: Shape | None = None,
) -> dict[str, Any]:
    """Return the sections of a recipe that are not left to their defaults, but model, source and bars.

    ``tokens``: what nearly all of the texts have at most; ``shape``: what a student of ``layers`` was planned to be.
    """
    made: dict[str, Any] = {"texts": _texts(wish, machine, texts, layers)}
    judged = JUDGING * wish.seconds * machine.texts_per_second  # texts that the teacher reads in that time
    if layers is not None:
        made["distil"] = _distil(wish, outlook, machine, layers, tokens, shape)
    if wish.dim is not None:
        most = _PCA_TEXTS if layers is not None else max(4 * wish.dim, int(judged), 1000)
        made["pca"] = {"dim": wish.dim} | ({"sample": most} if most < _PCA_TEXTS else {})
    if layers is None and judged < _RANGES_TEXTS:  # the teacher itself is run
        made["ranges"] = {"sample": max(500, int(judged))}
    int8: dict[str, Any] = {"reduce_range": True} if machine.clips else {}
    bits = wish.bits if shape is None else shape.bits
    if bits != OnnxInt8().embeddings:
        int8["embeddings"] = bits
    return made | ({"int8": int8} if int8 else {}) | {"bench": _bench(wish, machine)}


def _texts(wish: Wish, machine: Machine, texts: int, layers: int | None) -> dict[str, Any]:
    kept, limit = heldout_of(wish, machine, texts), limit_of(wish, machine, texts)
    made = {"heldout": kept} if kept < min(MOST_HELDOUT, texts // 10) else {}
    return made | ({"limit": limit} if layers is not None and limit else {})


def max_length(tokens: int, limit: int | None) -> int:
    """Return at how many tokens texts are cut in training, for nearly all to be whole: 64, 128 or 256."""
    enough = next((most for most in (_TOKENS, *_LONGER) if tokens <= most), _LONGER[-1])
    return min(enough, limit or enough)


def _distil(
    wish: Wish, outlook: Outlook, machine: Machine, layers: int, tokens: int, shape: Shape | None
) -> dict[str, Any]:
    aimed = wish.targets and shape is None
    counts = [n for n in depths(wish, outlook) if n < outlook.depth] if aimed else [layers]
    seconds, most = max(1.0, TRAINING * wish.seconds / max(len(counts), 1)), max([*counts, layers])
    made = {"layers": layers, "time_budget": f"{seconds:.0f}s", "pairwise": 0.3, "embedding_learning_rate": 1e-3}
    batch = _BATCH if steps_of(outlook, machine, most, seconds) >= LEAST_STEPS else SMALL_BATCH
    if batch < _BATCH:
        made |= {"batch_size": batch, "warmup_steps": SHORT_WARMUP}
    length = max_length(tokens, outlook.limit)
    if length > _TOKENS:
        made["max_length"] = length
    made |= {} if shape is None else shape.distil()
    parts = accumulate(outlook, machine, most, batch, length)
    return made if parts == 1 else made | {"accumulate": parts}


def steps_of(outlook: Outlook, machine: Machine, layers: int, seconds: float) -> float:
    """Return about how many steps are trained in so many seconds: a text costs three times what reading it does."""
    return seconds * machine.texts_per_second * outlook.depth / max(layers, 1) / 3 / _BATCH


def accumulate(outlook: Outlook, machine: Machine, layers: int, batch: int = _BATCH, tokens: int = _TOKENS) -> int:
    """Return in how many parts a step's texts are computed, so that it has the memory."""
    parts = 1
    while parts < batch and memory_bytes(outlook, layers, batch // parts, tokens) > _MEMORY * machine.memory_bytes:
        parts *= 2
    return parts


def memory_bytes(outlook: Outlook, layers: int | None, batch: int = _BATCH, tokens: int = _TOKENS) -> int:
    """Return about the most memory that is used: by training so many layers on so many texts at once; None: by none."""
    own = outlook.parameters
    teacher = _LIBRARIES + 4 * outlook.total
    if layers is None:
        return teacher + 8 * outlook.total  # the graph, and its int8 form being made
    student = 16 * (own.table + layers * own.layer + own.rest)  # weights, gradients, and two moments each
    a_token = 4 * layers * (16 * outlook.hidden + 3 * outlook.feed_forward)
    return teacher + student + a_token * batch * tokens


def _bench(wish: Wish, machine: Machine) -> dict[str, Any]:
    quick = is_quick(wish, machine)
    rounds = 3 if quick else 6
    passes = rounds + 3
    count = int(BENCHMARK * wish.seconds * machine.texts_per_second / passes)
    made: dict[str, Any] = {"count": max(64, count)} if count < _BENCHED else {}
    return made | ({"rounds": rounds, "queries": 60, "lengths": [16, 64]} if quick else {})


@dataclass(frozen=True)
class Times:
    """About how long the parts of a run take, in seconds."""

    vectors: float
    training: float
    making: float
    benchmark: float

    @classmethod
    def of(cls, wish: Wish, outlook: Outlook, machine: Machine, texts: int, layers: int | None) -> "Times":
        """Guess them from the teacher's measured speed."""
        rate, heldout = machine.texts_per_second, heldout_of(wish, machine, texts)
        learnt = 0 if layers is None else min(limit_of(wish, machine, texts) or texts, texts)
        bench = _bench(wish, machine)
        fixed = 90.0 if is_quick(wish, machine) else 180.0  # turns, lengths, a process a system
        return cls(
            vectors=(learnt + 2 * heldout) / rate,
            training=0.0 if layers is None else TRAINING * wish.seconds,
            making=30 + outlook.total / 2e6 + (4 * heldout / rate if layers is None else 0),  # texts read to be judged
            benchmark=fixed + (bench.get("rounds", 6) + 3) * bench.get("count", _BENCHED) / rate,
        )

    @property
    def total(self) -> float:
        """Return the sum."""
        return self.vectors + self.training + self.making + self.benchmark
