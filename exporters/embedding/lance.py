"""A LanceDB table: a vector store in a folder, without a server."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from compressor.core.errors import ArtifactError, installed, storage
from compressor.texts.rows.plan import Shard
from exporters.embedding.files import Output
from exporters.embedding.rows import Columns, Rows, batch

TABLE = "vectors"


class LanceTable(Output):
    """One table; shards are added in their order, each in one commit, so its rows tell how many there are."""

    def __init__(self, folder: Path, columns: Columns) -> None:
        self.folder = folder
        self.schema = columns.schema({})
        self._rows = self._table.count_rows()

    @cached_property
    def _table(self) -> Any:
        store = installed("lancedb", "lancedb", "lance").connect(self.folder)
        try:
            return store.open_table(TABLE)
        except ValueError:  # not there, or killed while it was made
            return store.create_table(TABLE, schema=self.schema)

    def is_done(self, shard: Shard) -> bool:
        if shard.first < self._rows < shard.first + shard.rows:
            raise ArtifactError(
                f"{self.folder}: its table has {self._rows} rows, and shards end at {shard.first} and "
                f"{shard.first + shard.rows}; something else has written to it; give another folder"
            )
        return bool(shard.first + shard.rows <= self._rows)

    def write(self, shard: Shard, rows: Iterable[Rows]) -> None:
        arrow = installed("pyarrow", "pyarrow", "embed")
        batches = (batch(some, self.schema) for some in rows)
        with storage(self.folder):
            self._table.add(arrow.RecordBatchReader.from_batches(self.schema, batches))
        self._rows += shard.rows
