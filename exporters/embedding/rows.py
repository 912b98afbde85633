"""What is written: ids, texts and vectors of rows that follow each other, and their columns in Arrow."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.core.errors import ArtifactError, installed


@dataclass(frozen=True)
class Rows:
    """Some rows of a shard."""

    vectors: NDArray[Any]
    """[rows, width] in the precision that is written."""
    ids: list[str] | NDArray[np.int64]
    texts: list[str] | None

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True)
class Columns:
    """The columns of all rows."""

    dtype: str
    """numpy's name of what a vector is made of."""
    width: int
    """Values of a vector: the model's dimensions, or an eighth of them where they are bits."""
    whole_ids: bool
    with_text: bool

    def schema(self, noted: dict[str, str]) -> Any:
        """Return the Arrow schema: vector is a list of fixed size, no value is missing."""
        arrow = installed("pyarrow", "pyarrow", "embed")
        element = arrow.field("element", arrow.from_numpy_dtype(self.dtype), nullable=False)
        fields = [
            arrow.field("id", arrow.int64() if self.whole_ids else arrow.string(), nullable=False),
            arrow.field("vector", arrow.list_(element, self.width), nullable=False),
        ]
        if self.with_text:
            fields.append(arrow.field("text", arrow.string(), nullable=False))
        return arrow.schema(fields, metadata=noted)


def batch(rows: Rows, schema: Any) -> Any:
    """Return rows as an Arrow record batch; the vectors are not copied."""
    arrow = installed("pyarrow", "pyarrow", "embed")
    kind = schema.field("vector").type
    values = arrow.array(np.ascontiguousarray(rows.vectors).reshape(-1))
    columns = [
        arrow.array(rows.ids, schema.field("id").type),
        arrow.FixedSizeListArray.from_arrays(values, type=kind),
    ]
    if rows.texts is not None:
        columns.append(arrow.array(rows.texts, arrow.string()))
    return arrow.RecordBatch.from_arrays(columns, schema=schema)


def halved(vectors: NDArray[np.float32]) -> NDArray[np.float16]:
    """Return vectors in float16; ArtifactError for a value beyond its range."""
    with np.errstate(over="ignore"):
        half = vectors.astype(np.float16)
    if not np.isfinite(half).all():
        raise ArtifactError(f"precision = float16: a vector has the value {np.abs(vectors).max():.4g}, it holds 65504")
    return half
