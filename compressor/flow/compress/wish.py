"""What is wanted of a compressed model; every field may be left out."""

from typing import Annotated, Literal

from pydantic import Field

from benchmarks.tradeoff.recommend import Bounds
from compressor.core.config import Config
from compressor.core.duration import Duration, seconds_of
from compressor.core.errors import RecipeError
from compressor.models.pooling import Pooling

_TARGETS = ("quality", "size", "speed")


class Wish(Config):
    """What is wanted of a compressed model; what is left out is chosen by the model and the machine."""

    layers: Annotated[int, Field(ge=0)] | Literal["all"] | None = None
    """Layers that the student keeps; 0: a static student; all: nothing is distilled, which takes minutes. By default a
    quarter of twelve or more, half of fewer, and all where the family's cannot be left out."""
    dim: Annotated[int, Field(ge=2)] | None = None
    """Length of the vectors, by principal components. By default the model's own."""
    pooling: Pooling | None = None
    """How a text's vector is made of its tokens, of a plain transformer, which does not state it."""
    precision: Literal["int8", "fp32"] = "int8"
    """The artifact that a target is held against and that is named at the end; the other lies beside it."""
    embeddings: Literal[8, 4] | None = None
    """Bits of a number in the vocabulary's table of the int8 artifact; 4 makes it smaller, and moves its vectors a
    little further from fp32. By default planned where a size is planned for, and else 8."""
    time_budget: Duration = "20m"
    """About so long for everything, as 20m or 1h: half of it trains, the rest is the teacher's vectors, checks and
    benchmark. All layers take what they need, which is less."""
    quality: float | str | None = None
    """Target: least share of the teacher's quality, 0.98 or 98%; of depths that fit in the time, the fastest that keeps
    it is taken."""
    size: float | str | None = None
    """Target: most bytes on disk, of the whole folder, 5MB. Alone, layers, feed-forward, table and vocabulary are
    planned to fit, and one student is trained; beside other targets the best depth that fits is taken."""
    speed: float | str | None = None
    """Target: least throughput, as a multiple of the teacher's, 10x; the best that is as fast is taken."""
    sts: tuple[str, ...] = ()
    """STS files (sentence1,sentence2,score) to measure quality on; without any, quality is the mean cosine with the
    teacher's vectors of held-out texts."""
    retrieval: tuple[str, ...] = ()
    """Collections in BEIR's folder form to measure retrieval on."""

    @property
    def seconds(self) -> float:
        """Return the time budget."""
        return seconds_of(self.time_budget)

    @property
    def bits(self) -> int:
        """Return the bits of a number in the vocabulary's table, where they are not planned."""
        return 8 if self.embeddings is None else self.embeddings

    @property
    def targets(self) -> tuple[str, ...]:
        """Name the targets that are given."""
        return tuple(name for name in _TARGETS if getattr(self, name) is not None)

    @property
    def bounds(self) -> Bounds:
        """Read the targets; RecipeError names option, value and what is allowed."""
        stated = {name: str(getattr(self, name)) for name in self.targets}
        return Bounds.read(stated.get("quality"), stated.get("speed"), stated.get("size"))

    def check(self) -> None:
        """Raise RecipeError for a target that cannot be read, or beside layers that are given."""
        if self.targets and self.layers is not None:
            raise RecipeError(f"--{self.targets[0]}: chooses the layers; not with --layers {self.layers}")
        self.bounds  # noqa: B018 - read for its errors
