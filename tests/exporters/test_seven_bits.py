"""Weights of 7 bits are noted where they were made, whoever asked for them: in the stage, the hand-out and its card."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import sentences
from graphs import draft, quantize

from compressor.artifact.folder import writing
from compressor.artifact.manifest import read_manifest
from exporters.precision.int8 import OnnxInt8
from exporters.publish.card import Publish
from exporters.runtime import providers
from exporters.search.embedding import Search

LOOSE: dict[str, Any] = {"count": 64, "turns": 3, "cosine_min": 0.5, "neighbours_at_10": 0.5, "cosine_mean": 0.5}


def searched(fp32: Path, to: Path, kept: Path, **options: Any) -> None:
    stage = Search(**LOOSE | options)
    with writing(to, "search", "key", stage.model_dump(mode="json")) as made:
        stage.run(fp32, OnnxInt8(), sentences(80, seed=1), sentences(100, seed=2), kept, made)


def test_a_search_for_any_cpu_says_that_its_weights_have_them(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    searched(artifacts("wide") / "fp32", tmp_path / "any", tmp_path / "kept", cpu="any")
    figures = read_manifest(tmp_path / "any")["figures"]
    assert figures["reduce_range"] is True
    tried = [path for path in (tmp_path / "kept").iterdir() if path.is_dir()]
    assert tried
    assert all(map(providers._seven_bits, [tmp_path / "any", *tried])), "timed as the artifact runs"
    stage = Publish(recipe={"name": "tiny", "int8": {"reduce_range": False}}, teacher="t", teacher_sha256="ab",
                    precision="int8")  # fmt: skip
    assert not stage.sums_saturate(figures)
    handed = stage.figures(figures, [])
    assert handed["reduce_range"] is True
    with writing(tmp_path / "handed", "artifacts/int8", "key", stage.model_dump(mode="json")) as made:
        made.figures.update(handed)
    assert providers._seven_bits(tmp_path / "handed")


@pytest.mark.parametrize("reduced", [True, False])
def test_so_does_a_plain_quantization(reduced: bool, artifacts: Callable[..., Path], tmp_path: Path) -> None:
    made = draft(tmp_path / "made")
    quantize(artifacts("wide") / "fp32", made, reduce_range=reduced)
    assert made.figures.get("reduce_range", False) is reduced
    stage = Publish(recipe={"name": "tiny"}, teacher="t", teacher_sha256="ab", precision="int8")
    assert stage.sums_saturate(made.figures) is not reduced
    assert ("reduce_range" in stage.figures(made.figures, [])) is reduced
