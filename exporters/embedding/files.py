"""Files of vectors, one a shard, there whole or not at all: Parquet and .npy."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compressor.core.errors import installed
from compressor.core.files import replacing
from compressor.texts.rows.plan import Shard
from exporters.embedding.rows import Columns, Rows, batch

_GROUP = 16_384  # rows of a row group of Parquet: they wait in memory for each other
_KEY = b"compressor.embedding"


class Output(ABC):
    """Where the vectors of shards go."""

    @abstractmethod
    def is_done(self, shard: Shard) -> bool:
        """Tell whether the shard is there, and not cut short; its bytes are not read again."""

    @abstractmethod
    def write(self, shard: Shard, rows: Iterable[Rows]) -> None:
        """Write a shard, whole or not at all."""


@dataclass(frozen=True)
class Part(Output):
    """A folder of files."""

    folder: Path
    columns: Columns
    key: str
    """Hash of what the vectors are of and made by, which a file carries."""

    @abstractmethod
    def path(self, shard: Shard) -> Path:
        """Return where a shard's file lies."""


@dataclass(frozen=True)
class ParquetFiles(Part):
    """Parquet with a checksum a page; vectors are not packed, which numbers that look random do not repay."""

    def path(self, shard: Shard) -> Path:
        return self.folder / f"part-{shard.number:05}.parquet"

    def is_done(self, shard: Shard) -> bool:
        parquet, arrow = (installed(name, "pyarrow", "embed") for name in ("pyarrow.parquet", "pyarrow"))
        try:
            found = parquet.read_metadata(self.path(shard))
        except (OSError, arrow.ArrowException):
            return False
        return bool(found.num_rows == shard.rows and (found.metadata or {}).get(_KEY) == self.key.encode())

    def write(self, shard: Shard, rows: Iterable[Rows]) -> None:
        parquet, arrow = (installed(name, "pyarrow", "embed") for name in ("pyarrow.parquet", "pyarrow"))
        schema = self.columns.schema({_KEY.decode(): self.key})
        with replacing(self.path(shard)) as draft, parquet.ParquetWriter(draft, schema, **self._options()) as writer:
            waiting: list[Any] = []
            for some in rows:
                waiting.append(batch(some, schema))
                if sum(map(len, waiting)) >= _GROUP:
                    writer.write_table(arrow.Table.from_batches(waiting, schema))
                    waiting = []
            if waiting:
                writer.write_table(arrow.Table.from_batches(waiting, schema))

    def _options(self) -> dict[str, Any]:
        """Say how columns are packed: bytes, four of Parquet's own each, by a dictionary of their 256 values."""
        vector, bytes_alone = "vector.list.element", np.dtype(self.columns.dtype).itemsize == 1
        return {
            "compression": {"id": "zstd", "text": "zstd", vector: "none"},
            "use_dictionary": [vector] if bytes_alone else False,
            "write_statistics": ["id"],
            "write_page_checksum": True,
        }


@dataclass(frozen=True)
class NpyFiles(Part):
    """One array a file, [rows, width]."""

    def path(self, shard: Shard) -> Path:
        return self.folder / f"part-{shard.number:05}.npy"

    def is_done(self, shard: Shard) -> bool:
        try:
            found = np.load(self.path(shard), mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return False
        return found.shape == (shard.rows, self.columns.width) and found.dtype == np.dtype(self.columns.dtype)

    def write(self, shard: Shard, rows: Iterable[Rows]) -> None:
        dtype = np.lib.format.dtype_to_descr(np.dtype(self.columns.dtype))
        header = {"descr": dtype, "fortran_order": False, "shape": (shard.rows, self.columns.width)}
        with replacing(self.path(shard)) as draft, draft.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for some in rows:
                file.write(np.ascontiguousarray(some.vectors).data)
