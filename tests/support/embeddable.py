"""A tiny artifact with prompts and ranges, and folders of vectors that are made with it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from builders import sentences
from packed import edit_json

from compressor.artifact.folder import writing
from compressor.vectors.codes import RANGES, Ranges
from exporters.session import OnnxEncoder

QUERY, DOCUMENT = "the dog ", "a big blue house "


@pytest.fixture(scope="session")
def embeddable(artifacts: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny fp32 artifact that puts a prompt before queries and another before documents."""
    made = tmp_path_factory.mktemp("embeddable") / "fp32"
    with writing(made, "artifacts/fp32", "key", {"precision": "fp32"}) as draft:
        shutil.copytree(artifacts() / "fp32", draft.folder, dirs_exist_ok=True)
        usage = draft.folder / "config_sentence_transformers.json"
        edit_json(usage, prompts={"query": QUERY, "document": DOCUMENT, "other": "near "})
        Ranges.fit(OnnxEncoder(draft.folder, threads=1).encode(sentences(200))).save(draft.folder)
    return made


@pytest.fixture(scope="session")
def without_ranges(embeddable: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same artifact without ranges of its output vectors."""
    made = tmp_path_factory.mktemp("plain") / "fp32"
    with writing(made, "artifacts/fp32", "other key") as draft:
        shutil.copytree(embeddable, draft.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(RANGES))
        (draft.folder / "manifest.json").unlink()
    return made


def rows_of(folder: Path) -> pa.Table:
    """Read a folder of Parquet as its users do."""
    return ds.dataset(folder, format="parquet").to_table()


def parts(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder of vectors that are not hidden."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}
