"""The seam of all tasks: how a folder is opened, and how its items are cut to a length, fed to a graph and streamed.

An item is what one call is about: a text, or a question with its context.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from compressor.artifact.layout import Kind

if TYPE_CHECKING:  # what is asked for a name alone loads neither
    from tokenizers import Tokenizer

    from exporters.runtime.placed import Placed
    from exporters.serving import Served  # which loads ONNX Runtime: what runs without it is weighed without it

Item = Any
TORCH_CPU, TORCH_CUDA, TORCH_CUDA_FP16 = "PyTorch CPU", "PyTorch CUDA", "PyTorch CUDA fp16"
"""What PyTorch models run on, beside ONNX Runtime's execution providers."""


class Runner(Protocol):
    """An open model, to be measured: items in, results out."""

    @property
    def max_length(self) -> int:
        """Tokens that it reads at once."""
        ...

    def encode(self, texts: Sequence[Any], batch_size: int = 32) -> Any:
        """Compute all items; results in their order."""
        ...


def threads_of(runner: Any) -> int:
    """Return the threads that an open encoder or reader computes on, as its library has them."""
    own = getattr(runner, "threads", None)
    if own is not None:
        return int(own)
    import torch

    return torch.get_num_threads()


class Task(ABC):
    """What is asked of a model."""

    name: ClassVar[str]
    """As recipes and results state it."""
    unit: ClassVar[str]
    """What is counted: figures are so many a second."""
    call: ClassVar[str]
    """How a model in PyTorch is run, as labels have it."""

    @abstractmethod
    def open(self, folder: Path, kind: Kind, provider: str, threads: int | None, **options: Any) -> Runner:
        """Open a folder that holds a model of ``kind``; the libraries that it does not need stay unloaded."""

    @abstractmethod
    def imports(self, kind: Kind) -> tuple[str, ...]:
        """Name the modules that it runs on, so that a load can be timed without them."""

    @abstractmethod
    def check(self, runner: Runner, items: Sequence[Item], name: str) -> None:
        """Refuse a model whose results say nothing, before anything is timed: ModelError that names it."""

    @abstractmethod
    def tokenizer(self, folder: Path) -> "Tokenizer":
        """Open the tokenizer of a model or an artifact, without padding and truncation."""

    @abstractmethod
    def tokens(self, tokenizer: "Tokenizer", items: Sequence[Item]) -> list[int]:
        """Count the tokens of each item, special ones included; ``tokenizer`` is one of this task."""

    @abstractmethod
    def of_length(
        self, tokenizer: "Tokenizer", items: Sequence[Item], tokens: int, count: int | None = None
    ) -> list[Item]:
        """Return items of ``tokens`` tokens each, special ones included; TextError where none can be made.

        ``count``: how many; by default such that each length has the same work.
        """

    @abstractmethod
    def feeds(self, runner: Any, items: Sequence[Item]) -> dict[str, Any]:
        """Return what the graph of an open artifact takes of the items in one batch, int64 [rows, tokens] each."""

    @abstractmethod
    def stream(self, runner: Any, items: Iterable[Item], batch_size: int) -> Iterator[int]:
        """Compute any number of items in bounded memory, dropping the results; yield how many are done, piecewise."""

    def placed(self, runner: Any) -> "Placed | None":
        """Count the nodes of an open artifact by provider; None where no provider takes a part of its graph alone."""
        placed: Placed | None = getattr(runner, "placed", None)
        return placed

    @abstractmethod
    def served(self, runner: Runner) -> "Served | None":
        """Return what a ``Batcher`` serves of an open model; None where it serves none such."""
