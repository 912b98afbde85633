"""A recipe's way from Python: from its file, or as an object."""

import json
from pathlib import Path
from typing import Any

import pytest
from questions import write_reader_recipe
from running import RECIPE, write_recipe

from compressor import ReaderRecipe, Recipe, compress
from compressor.core.config import Config, load
from compressor.core.errors import RecipeError
from exporters import OnnxEncoder, OnnxReader


def rates_left_out(results: dict[str, Any]) -> dict[str, Any]:
    return {name: results[name] for name in ("name", "task", "recipe", "teacher")}


def test_a_recipe_is_walked_from_its_file_and_as_an_object(tiny: Path, tmp_path: Path) -> None:
    home = write_recipe(tmp_path, RECIPE, tiny)
    results = compress(home / "tiny.toml", tmp_path / "runs")
    folder = tmp_path / "runs" / "tiny"
    assert (
        json.loads((folder / "results.json").read_text("utf-8"))["command"] == f"compress({str(home / 'tiny.toml')!r})"
    )
    assert OnnxEncoder(folder / "artifacts" / "int8").encode(["one cat"]).shape == (1, 32)

    again = compress(load(home / "tiny.toml", Recipe), str(tmp_path / "runs"), base=home)
    assert rates_left_out(again) == rates_left_out(results)


@pytest.mark.slow
def test_a_reader_too(tiny: Path, tmp_path: Path) -> None:
    path = write_reader_recipe(tmp_path, tiny)
    results = compress(load(path, ReaderRecipe), tmp_path / "runs", base=path.parent)
    assert results["task"] == "question-answering"
    assert OnnxReader(next((tmp_path / "runs").glob("*/artifacts/int8"))).answer(["one ?"], ["two cats ."])


def test_what_is_no_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipe: task = 'None': must be sentence-embedding or question-answering"):
        compress(Config())
    with pytest.raises(RecipeError, match=r"no.toml: no such recipe"):
        compress(tmp_path / "no.toml")
