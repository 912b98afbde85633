"""The map of the teacher's vectors fits the artifact that it lies in, and holds numbers."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import reseal
from safetensors.numpy import save_file

from compressor.core.errors import ArtifactError
from compressor.models.projection import PROJECTION
from compressor.untrusted import inspection
from compressor.untrusted.inspection import inspect
from compressor.untrusted.projection import check_projection

DIM, WIDTH = 16, 32  # of the sealed artifacts, and of the teacher that one of them states
COMPONENTS, MEAN = np.eye(DIM, WIDTH, dtype=np.float32), np.zeros(WIDTH, np.float32)
WHOLE = {"components": COMPONENTS, "mean": MEAN}


def holding(folder: Path, to: Path, tensors: Mapping[str, Any], **figures: Any) -> Path:
    """Copy an artifact, add a projection of ``tensors``, state ``figures``, and return the copy."""
    shutil.copytree(folder, to)
    save_file(dict(tensors), to / PROJECTION)
    stated = json.loads((to / "manifest.json").read_text())["figures"]
    reseal(to, figures=stated | figures)
    return to


def test_the_name_is_the_one_that_is_written() -> None:
    assert inspection._PROJECTION == PROJECTION


@pytest.mark.parametrize("figures", [{}, {"teacher_dim": WIDTH}])
def test_a_projection_that_fits_is_found(figures: dict[str, int], handed_out: Path, tmp_path: Path) -> None:
    folder = holding(handed_out, tmp_path / "made", WHOLE, **figures)
    found = {one.check: one for one in inspect(folder)}
    assert list(found) == ["files", "settings", "graph", "projection", "conformance"]
    assert (found["projection"].checked, found["projection"].found) == (
        True,
        "turns the teacher's vectors of 32 into ones of 16",
    )


SHAPE = r"must be components F32 \[16, 32\] and mean F32 \[32\], by the graph's vectors and the teacher's"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"components": np.eye(8, WIDTH, dtype=np.float32)}, SHAPE),
        ({"components": np.eye(DIM, 24, dtype=np.float32), "mean": MEAN[:24]}, SHAPE),
        ({"mean": MEAN[:24]}, SHAPE),
        ({"components": COMPONENTS.astype(np.float64)}, SHAPE),
        ({"components": COMPONENTS.astype(np.int32)}, SHAPE),
        ({"more": MEAN}, SHAPE),
        ({"components": np.where(COMPONENTS > 0, np.float32("nan"), COMPONENTS)}, "holds NaN or infinite numbers"),
        ({"mean": np.full(WIDTH, np.inf, np.float32)}, "holds NaN or infinite numbers"),
        ({"mean": np.concatenate([MEAN[1:], -np.float32("inf")[None]])}, "holds NaN or infinite numbers"),
    ],
)
def test_another_is_refused(changes: dict[str, Any], line: str, handed_out: Path, tmp_path: Path) -> None:
    folder = holding(handed_out, tmp_path / "made", WHOLE | changes, teacher_dim=WIDTH)
    with pytest.raises(ArtifactError, match=line) as caught:
        list(inspect(folder))
    assert str(caught.value).startswith(f"{folder / PROJECTION}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tensors", [{}, {"components": COMPONENTS}, {"mean": MEAN}, {"mean": COMPONENTS}])
def test_a_part_is_refused_where_nothing_states_the_width(tensors: dict[str, Any], tmp_path: Path) -> None:
    save_file(tensors, tmp_path / PROJECTION)
    with pytest.raises(ArtifactError, match="must be components F32"):
        check_projection(tmp_path / PROJECTION, DIM, {})


@pytest.mark.parametrize("stated", ["32", 32.0, None, True, [32], 31])
def test_a_width_that_is_none_is_refused(stated: object, tmp_path: Path) -> None:
    save_file(WHOLE, tmp_path / PROJECTION)
    assert check_projection(tmp_path / PROJECTION, DIM, {"teacher_dim": WIDTH}) == WIDTH
    with pytest.raises(ArtifactError, match="must be components F32"):
        check_projection(tmp_path / PROJECTION, DIM, {"teacher_dim": stated})


def test_every_block_is_looked_at(tmp_path: Path) -> None:
    wide = 20_000  # 1.3 MB: more than a block
    tensors = {"components": np.zeros((DIM, wide), np.float32), "mean": np.zeros(wide, np.float32)}
    save_file(tensors, tmp_path / PROJECTION)
    assert check_projection(tmp_path / PROJECTION, DIM, {}) == wide
    tensors["components"][-1, -1] = np.nan
    save_file(tensors, tmp_path / PROJECTION)
    with pytest.raises(ArtifactError, match="holds NaN or infinite numbers"):
        check_projection(tmp_path / PROJECTION, DIM, {})
