"""Into a LanceDB table: every text one row, found again, and none twice after a kill."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import sentences

from compressor.core.errors import ArtifactError
from exporters import OnnxEncoder, embed

lancedb = pytest.importorskip("lancedb", reason="lancedb is not installed; make test-packages has it")
pytestmark = pytest.mark.packages
ROOT = Path(__file__).parents[2]
TEXTS = sentences(3000)
RUN = """
import sys
from exporters import embed
embed(sys.argv[1], sys.argv[2], sys.argv[3], threads=1, to="lance", shard_rows=100, with_text=True)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("\n".join(TEXTS))
    return tmp_path / "a.txt"


def table(out: Path) -> Any:
    return lancedb.connect(out).open_table("vectors")


@pytest.mark.parametrize("precision", ["float32", "float16", "ubinary"])
def test_a_text_is_its_own_nearest(precision: str, embeddable: Path, source: Path, tmp_path: Path) -> None:
    embed(embeddable, source, tmp_path / "out", threads=1, to="lance", precision=precision, with_text=True)
    opened, encoder = table(tmp_path / "out"), OnnxEncoder(embeddable, threads=1)
    assert opened.count_rows() == len(TEXTS)
    computed: Any = "ubinary" if precision == "ubinary" else "float32"
    for row in (0, 1700, 2999):
        [vector] = encoder.encode_document([TEXTS[row]], precision=computed)
        search = opened.search(vector.astype(precision if precision != "ubinary" else np.uint8))
        found = search.distance_type("hamming" if precision == "ubinary" else "cosine").limit(5).to_list()
        assert found[0]["_distance"] == pytest.approx(0, abs=1e-3)
        np.testing.assert_allclose(found[0]["vector"], vector, atol=1e-3)
        assert precision == "ubinary" or found[0]["text"] == TEXTS[row]  # 32 bits are not a text's own


def test_killed_it_has_every_text_once(embeddable: Path, source: Path, tmp_path: Path) -> None:
    out, chance = tmp_path / "out", random.Random(0)
    command = [sys.executable, "-c", RUN, str(embeddable), str(source), str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for versions in (1, 5, 12):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and len(list(out.glob("vectors.lance/_versions/*.manifest"))) < versions:
            time.sleep(0.001)
        time.sleep(chance.random() / 20)
        process.send_signal(signal.SIGKILL)
        _, err = process.communicate()
        assert process.returncode == -signal.SIGKILL, err
    done = embed(embeddable, source, out, threads=1, to="lance", shard_rows=100, with_text=True)
    assert 0 < done.computed < len(TEXTS)
    made = table(out).to_arrow()
    assert sorted(made["id"].to_pylist()) == list(range(len(TEXTS)))
    assert [text for _, text in sorted(zip(made["id"].to_pylist(), made["text"].to_pylist(), strict=True))] == TEXTS


def test_a_table_that_others_write_to_is_refused(embeddable: Path, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    embed(embeddable, source, out, threads=1, to="lance", shard_rows=1000)
    table(out).delete("id = 7")
    with pytest.raises(ArtifactError, match="its table has 2999 rows, and shards end at 2000 and 3000; something else"):
        embed(embeddable, source, out, threads=1, to="lance", shard_rows=1000)
