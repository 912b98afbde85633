"""What a student is made of, as far as its bytes depend on it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.report.numbers import count

if TYPE_CHECKING:
    from compressor.flow.compress.outlook import Outlook


@dataclass(frozen=True)
class Shape:
    """A student's parts; None is as the teacher has it, for ``layers`` all, with nothing distilled; 0: static."""

    layers: int | None = None
    feed_forward: int | None = None
    """Neurons of each feed-forward."""
    embedding_size: int | None = None
    """Columns of the vocabulary's table."""
    vocabulary: int | None = None
    """Tokens."""
    bits: int = 8
    """Of a number in the vocabulary's table of an int8 artifact."""
    dense: bool = True
    """Whether a linear layer stands behind the pooling, where layers are fitted."""
    relu: bool = False
    """Whether a ReLU stands for the feed-forward's activation."""
    dim: int | None = None
    """Length of the vectors, by principal components."""

    def distil(self) -> dict[str, Any]:
        """Return the fields of ``distil`` that say so; none of the teacher itself."""
        if self.layers is None:
            return {}
        names = ("layers", "feed_forward", "embedding_size", "vocabulary")
        stated = {name: value for name in names if (value := getattr(self, name)) is not None}
        return stated | ({} if self.dense else {"dense": False}) | ({"activation": "relu"} if self.relu else {})

    def words(self, outlook: "Outlook") -> str:
        """Return it in words: 3 of 6 layers, feed-forward 768 of 1,536, a table of 12,000 of 30,522 tokens by 128."""
        named = {None: "all layers", 0: "no layers (static)"}
        parts = [named.get(self.layers) or f"{self.layers} of {outlook.depth} layers"]
        if self.feed_forward is not None:
            parts.append(f"feed-forward {count(self.feed_forward)} of {count(outlook.feed_forward)}")
        tokens = f"{count(self.vocabulary)} of {count(outlook.vocabulary)}" if self.vocabulary else "all"
        columns = f"{self.embedding_size} of {outlook.hidden}" if self.embedding_size else "all"
        if self.vocabulary or self.embedding_size or self.bits != 8:
            parts.append(f"a table of {tokens} tokens and {columns} columns in {self.bits} bits")
        return ", ".join(parts)
