"""Figures that are no numbers, and models that tell nothing apart, are one clear line and no JSON."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import sentences
from safetensors.torch import load_file, save_file

from benchmarks.bench import Bench
from benchmarks.quality.curve import Judge
from benchmarks.quality.story import row
from benchmarks.quality.sts import Sts
from benchmarks.speed.server import Latency, Search
from benchmarks.systems import System
from compressor.artifact.folder import write_json
from compressor.core.errors import CompressorError, ModelError
from compressor.core.strict_json import json_text
from compressor.models.agreement import Heldout, check_vectors
from compressor.models.sentence_model import TorchEncoder
from compressor.models.source import find
from compressor.vectors.pca import fit

TEXTS = sentences(40)
STS = Sts("pairs", TEXTS[:20], TEXTS[20:], [float(i % 5) for i in range(20)])


@pytest.fixture(scope="module")
def constant(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model that gives every text one vector: its normalizations let nothing through but their bias."""
    to = Path(shutil.copytree(make_model(), tmp_path_factory.mktemp("constant") / "model"))
    weights = load_file(to / "model.safetensors")
    for name, values in weights.items():
        if "LayerNorm" in name:
            values.fill_(1.0 if name.endswith("bias") else 0.0)
    save_file(weights, to / "model.safetensors", metadata={"format": "pt"})
    return to


ONE = r"^{}: gives all of \d+ texts one vector; nothing can be told apart by it$"


def test_a_model_of_one_vector_is_one_line_everywhere(constant: Path, tiny: Path) -> None:
    same, real = TorchEncoder.load(constant), TorchEncoder.load(tiny)
    vectors = same.encode(TEXTS)
    with pytest.raises(ModelError, match=ONE.format("student")):
        STS.spearman(same, whose="student")
    with pytest.raises(ModelError, match=ONE.format("student")):
        row("student", find(str(constant)), Heldout(TEXTS, real.encode(TEXTS)), None, [])
    with pytest.raises(ModelError, match=ONE.format("pca: the model to reduce")):
        fit(vectors, 8, center=True)
    with pytest.raises(ModelError, match=ONE.format("the model")):
        Judge.of(same, TEXTS, TEXTS, TEXTS, [])
    systems = [System(name, "", "torch", str(folder), "PyTorch CPU") for name, folder in (("a", tiny), ("b", constant))]
    with pytest.raises(ModelError, match=ONE.format("b")):  # before anything is timed
        Bench(count=64).measure(systems, TEXTS, "sentences")


def test_pairs_that_are_all_alike_rank_nothing(tiny: Path) -> None:
    class Alike:
        def encode(self, texts: Any, batch_size: int = 64) -> Any:
            return np.tile(np.eye(20, 32, dtype=np.float32), (2, 1))  # both sentences of a pair have one vector

    with pytest.raises(ModelError, match=r"^the model on pairs: finds every pair equally similar; there is nothing to"):
        STS.spearman(Alike())  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_no_numbers_are_refused(bad: float) -> None:
    vectors = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    check_vectors(vectors, "fine")
    check_vectors(vectors[:1], "a single text has but one vector")
    vectors[7, 3] = bad
    for use in (
        lambda: fit(vectors, 4, center=False),
        lambda: check_vectors(vectors, ""),
    ):
        with pytest.raises(ModelError, match=r": vectors hold NaN or infinity; its weights are damaged or too large$"):
            use()


def test_vectors_that_differ_little_do_differ() -> None:
    noise = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    check_vectors(np.float32(1) + np.float32(1e-3) * noise, "narrow")
    with pytest.raises(ModelError):
        check_vectors(np.float32(1) + np.float32(1e-7) * noise, "rounded")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_no_json_holds_what_is_no_number(bad: float, tmp_path: Path) -> None:
    value = {"systems": [{"name": "a", "sts": {"en": 1.0}}, {"name": "b", "sts": {"en": bad}}]}
    message = rf"^systems\.1\.sts\.en = {bad}: no finite number, which JSON cannot hold$"
    with pytest.raises(CompressorError, match=message):
        json_text(value)
    (tmp_path / "results.json").write_text("before")
    with pytest.raises(CompressorError, match=message):
        write_json(tmp_path / "results.json", value)
    assert (tmp_path / "results.json").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_a_rate_at_which_texts_never_come_back_is_json_too() -> None:
    search = Search(lambda rate, seed: Latency(1000, 1.0, 5.0 if rate < 50 else math.inf), bound_ms=10.0)
    told = json.loads(json_text(search.result(search.highest(100.0)).as_dict()))
    assert 48 < told["rate"] < 50
    assert (told["latency_ms_p99"], told["held"]) == (5.0, True)
    assert {one["latency_ms_p99"] for one in told["tried"]} == {5.0, None}
