"""Of the students that fit into so many bytes, the one that is expected to lose least."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.report.numbers import count, fixed, significant, size
from compressor.core.errors import RecipeError
from compressor.flow.compress.sized.costs import FEED_FORWARD, LAYERS, lost, speed, work
from compressor.flow.compress.sized.shape import Shape
from compressor.flow.compress.sized.weight import folder_bytes
from compressor.flow.compress.wish import Wish

if TYPE_CHECKING:
    from compressor.distil.student.words.usage import Usage
    from compressor.flow.compress.outlook import Outlook

RESERVE = 0.01
"""Share of the bytes that is left free: so far may the formula be off."""
_MARGIN = 0.3  # hundredths of cosine by which another student must be better than one of whole layers alone
_COLUMNS = (256, 192, 128, 96, 64)
_TOKENS = 100  # a vocabulary is a multiple of
_FEWEST = 4000  # tokens: what was measured


@dataclass(frozen=True)
class Planned:
    """A student, its bytes, and what it is expected to lose, by part."""

    shape: Shape
    bytes: int
    losses: dict[str, float]
    speed: float
    work: float
    fitting: int = 1
    """How many students fit, it among them."""

    @property
    def loss(self) -> float:
        """Return the sum."""
        return sum(self.losses.values())

    def why(self, most: float) -> str:
        """Say why it was chosen."""
        parts = sorted(((value, name) for name, value in self.losses.items() if value), reverse=True)
        spent = ", ".join(f"{name} {fixed(value, 1)}" for value, name in parts)
        named = f": {spent}" if spent else ""
        lead = f"of {count(self.fitting)} students of at most {size(most)} the one with the least expected loss"
        return (
            f"{lead}, {fixed(self.loss, 1)} hundredths of mean cosine to the model{named}; about "
            f"{significant(self.speed, 2)}× its speed; by figures of all-MiniLM-L6-v2, in part assumed"
        )


def plan(wish: Wish, outlook: "Outlook", usage: "Usage | None") -> Planned:
    """Choose a student for ``--size``, of those that are expected to have ``--speed``.

    Whole layers in their halves and nothing else, what was had before students were planned, are kept where no other
    is expected to be clearly better. RecipeError where none fits, with the smallest that can be had, or the fastest;
    and for a speed of fp32, of which nothing is known.
    """
    check_speed(wish)
    most, least = wish.bounds.size or 0.0, wish.bounds.speed or 0.0
    within = most * (1 - RESERVE)
    whole = [weighed(wish, outlook, shape, usage) for shape in _plain(wish, outlook)]
    parts = [weighed(wish, outlook, shape, usage) for shape in shapes(wish, outlook, usage, within)]
    small = [found for found in parts if found.bytes <= within]
    small_whole = [found for found in whole if found.bytes <= within]
    if not small and not small_whole:
        raise RecipeError(f"--size {wish.size}: {_smallest(wish, outlook, usage)}")
    fitting, plain = ([found for found in some if found.speed >= least] for some in (small, small_whole))
    if not fitting and not plain:
        most_speed = significant(max(found.speed for found in (*small, *small_whole)), 2)
        raise RecipeError(f"--speed {wish.speed}: of --size {wish.size} the fastest is expected to have {most_speed}×")
    best = min([*plain, *fitting], key=lambda found: (round(found.loss, 6), found.work, found.bytes))
    usual = min(plain, key=lambda found: found.loss, default=best)
    chosen = usual if usual.loss <= best.loss + _MARGIN else best
    return replace(chosen, fitting=len({found.shape for found in (*plain, *fitting)}))


def check_speed(wish: Wish) -> None:
    """Raise RecipeError for a speed of fp32, which no plan knows."""
    if wish.speed is not None and wish.precision == "fp32":
        raise RecipeError(f"--speed {wish.speed}: is planned for int8 alone; not with --precision fp32; leave it out")


def weighed(wish: Wish, outlook: "Outlook", shape: Shape, usage: "Usage | None") -> Planned:
    """Return a student with its bytes and losses."""
    bytes_ = folder_bytes(outlook, shape, wish.precision)
    return Planned(shape, bytes_, lost(outlook, shape, usage), speed(outlook, shape), work(outlook, shape))


def shapes(wish: Wish, outlook: "Outlook", usage: "Usage | None", within: float) -> Iterator[Shape]:
    """Yield what students there are, each with the largest vocabulary that leaves it ``within`` so many bytes."""
    dense, relu = bool(outlook.possible.unfitted), not outlook.possible.no_relu
    for bits in _bits(wish):
        yield Shape(bits=bits, dim=wish.dim)
        if _layers(outlook):
            static = Shape(0, bits=bits, dim=wish.dim)
            yield static
            yield from _with_vocabulary(wish, outlook, usage, static, within)
        for layers in _layers(outlook):
            for neurons in _neurons(outlook):
                for columns in (None, *_columns(outlook)):
                    shape = Shape(layers, neurons, columns, None, bits, dense, relu and neurons is not None, wish.dim)
                    yield shape
                    yield from _with_vocabulary(wish, outlook, usage, shape, within)


def _plain(wish: Wish, outlook: "Outlook") -> Iterator[Shape]:
    """Yield all layers, which need no training, and their halves, whole."""
    yield from (Shape(bits=bits, dim=wish.dim) for bits in _bits(wish))
    layers = outlook.depth
    while layers > 1 and not outlook.possible.uncut:
        layers = -(-layers // 2)
        yield Shape(layers, bits=wish.bits, dim=wish.dim)


def _bits(wish: Wish) -> tuple[int, ...]:
    if wish.embeddings is not None:
        return (wish.embeddings,)
    return (8,) if wish.precision == "fp32" else (8, 4)


def _layers(outlook: "Outlook") -> range:
    if outlook.possible.uncut or not outlook.depth:
        return range(0)
    return range(max(1, round(LAYERS[0][0] * outlook.depth)), outlook.depth + 1)


def _neurons(outlook: "Outlook") -> list[int | None]:
    if outlook.possible.unfitted or not outlook.feed_forward:
        return [None]
    shares = sorted({*(share for share, _ in FEED_FORWARD), 3 / 8, 3 / 4} - {1})
    return [None, *(max(1, round(outlook.feed_forward * share)) for share in shares)]


def _columns(outlook: "Outlook") -> tuple[int, ...]:
    if outlook.possible.unfactored:
        return ()
    return tuple(columns for columns in _COLUMNS if outlook.hidden / 6 <= columns < outlook.hidden)


def _with_vocabulary(
    wish: Wish, outlook: "Outlook", usage: "Usage | None", shape: Shape, within: float
) -> Iterator[Shape]:
    """Yield ``shape`` with the most tokens that fit, where that is fewer than all and not too few."""
    if usage is None:
        return
    fewest = _fewest(usage)
    smallest, larger = (folder_bytes(outlook, replace(shape, vocabulary=n), wish.precision) for n in (1, 100_001))
    tokens = int((within - smallest) / (larger - smallest) * 100_000) // _TOKENS * _TOKENS
    if fewest <= tokens < outlook.vocabulary:
        yield replace(shape, vocabulary=tokens)


def _fewest(usage: "Usage") -> int:
    """Return the fewest tokens that a plan has: those that must stay, and those that costs were measured down to."""
    return max(_FEWEST, -(-usage.least // _TOKENS) * _TOKENS)


def _smallest(wish: Wish, outlook: "Outlook", usage: "Usage | None") -> str:
    """Name the smallest student there is."""
    every = list(shapes(wish, outlook, usage, 0.0))
    if usage is not None and (fewest := _fewest(usage)) < outlook.vocabulary:
        every += [replace(shape, vocabulary=fewest) for shape in every if shape.layers is not None]
    least = min((weighed(wish, outlook, shape, usage) for shape in every), key=lambda found: found.bytes)
    return f"the smallest that can be had takes about {size(least.bytes / (1 - RESERVE))}: {least.shape.words(outlook)}"
