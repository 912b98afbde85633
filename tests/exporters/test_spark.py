"""The function for Spark that docs/scale.md shows, run as it stands there."""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import sentences

from exporters.session import OnnxEncoder

pytest.importorskip("pyspark", reason="pyspark is not installed; make test-ray has it")
pytestmark = [
    pytest.mark.packages,
    pytest.mark.skipif(shutil.which("java") is None, reason="no java, which Spark runs on"),
]
DOCS = Path(__file__).parents[2] / "docs" / "scale.md"


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    from pyspark.sql import SparkSession

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)  # its workers would be the system's Python
        session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
        yield session
        session.stop()


def test_the_documented_function(spark: Any, embeddable: Path, tmp_path: Path) -> None:
    texts = sentences(2000)
    pq.write_table(pa.table({"id": range(2000), "text": texts}), tmp_path / "texts.parquet", row_group_size=300)
    [code] = re.findall(r"```python\n(.*?mapInPandas.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(code.strip().splitlines()) <= 14
    for stated, there in {
        "/mnt/shared/artifacts/int8": embeddable,
        "/mnt/shared/texts": tmp_path / "texts.parquet",
        "/mnt/shared/vectors": tmp_path / "vectors",
    }.items():
        assert stated in code
        code = code.replace(stated, str(there))
    exec(code, {"spark": spark})
    made = pq.read_table(tmp_path / "vectors").sort_by("id")
    assert made["id"].to_pylist() == list(range(2000))
    expected = OnnxEncoder(embeddable, threads=1).encode_document(texts)
    np.testing.assert_allclose(np.array(made["vector"].to_pylist(), np.float32), expected, atol=1e-6)
