"""An encoder's ablation takes one ingredient at a time, and measures all on the same."""

import json
from pathlib import Path
from typing import Any

import pytest
from beir import of_sentences
from running import RECIPE, write_recipe
from typer.testing import CliRunner

from compressor.cli.app import app
from compressor.core.errors import RecipeError
from compressor.distil.training.embedding import Distil
from compressor.flow.ablation.embedding import ablation, variants
from compressor.flow.embedding import Recipe

STEPS = ("0.0009", "0.0001")  # learning rates beside 0.0003
RATES = ("0.001", "3e-05", "0")  # of the vocabulary


def test_two_variants_beside_the_teacher(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compressor.flow.ablation.embedding.variants", lambda distil: variants(distil)[:2])
    home = write_recipe(tmp_path, RECIPE, tiny, texts=300)
    command = ["ablation", str(home / "tiny.toml"), "--runs", str(home / "runs"), "--set", "distil.pairwise=0.5"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    folder = home / "runs" / "tiny"
    rows = json.loads((folder / "ablation.json").read_text())["rows"]
    assert [row["name"] for row in rows[1:]] == ["the recipe's", "without pairwise"]
    assert rows[0]["agreement"]["cosine_mean"] == pytest.approx(1, abs=1e-6)
    assert rows[1]["agreement"] != rows[2]["agreement"]
    assert (folder / "ablation.md").read_text().strip() in done.stdout


@pytest.mark.slow
def test_every_variant_is_made_once_and_judged_beside_the_teacher(tiny: Path, tmp_path: Path) -> None:
    home = write_recipe(tmp_path, RECIPE, tiny, texts=300)
    of_sentences(home / "beir")
    changes = ["distil.pairwise=0.5", "distil.epochs=0.5", 'bench.retrieval=["beir"]']
    words = [word for change in changes for word in ("--set", change)]
    command = ["ablation", str(home / "tiny.toml"), "--runs", str(home / "runs"), *words]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    folder = home / "runs" / "tiny"
    results: dict[str, Any] = json.loads((folder / "ablation.json").read_text())
    teacher, *rows = results["rows"]
    assert teacher["agreement"]["cosine_mean"] == pytest.approx(1, abs=1e-6)
    names = ["the recipe's", "without pairwise", "with ranking = 0.3", "with order = 0.3", "with margin = 0.3"]
    assert [row["name"] for row in rows] == [*names, "64", "32", "8", *STEPS, *RATES]
    made = [json.loads(path.read_text())["config"] for path in (folder / "variants").glob("*/distil/manifest.json")]
    asked = {(one["pairwise"], one["ranking"], one["order"], one["margin"], one["batch_size"]) for one in made}
    moved = {one["embedding_learning_rate"] for one in made}
    assert {f"{rate:g}" for rate in moved - {None}} == set(RATES)
    assert {f"{one['learning_rate']:g}" for one in made} == {"0.0003", *STEPS}
    losses = {(0, 0, 0, 0, 16), (0.5, 0.3, 0, 0, 16), (0.5, 0, 0.3, 0, 16), (0.5, 0, 0, 0.3, 16)}
    assert asked == losses | {(0.5, 0, 0, 0, size) for size in (64, 32, 8, 16)}
    assert (folder / "distil").is_dir(), "the recipe's own student is the one of a run"
    assert len({tuple(row["agreement"].values()) for row in rows}) == len(rows)
    assert all(row["retrieval"]["beir"]["on_teachers_index"]["ndcg_at_10"] > 0 for row in rows)
    assert (folder / "ablation.md").read_text().strip() in done.stdout
    assert done.stdout.count("\n| ") == 1 + len(rows)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("manifest.json")}
    assert CliRunner().invoke(app, command).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("manifest.json")} == times


def test_what_is_varied_follows_from_the_recipe() -> None:
    long = [(made.group, made.name) for made in variants(Distil(max_length=256, order=1.0, margin=(0.5, 0.0)))]
    assert long == [
        ("", "the recipe's"),
        ("losses", "without order"),
        ("losses", "without margin"),
        ("losses", "with pairwise = 0.3"),
        ("losses", "with ranking = 0.3"),
        ("length of texts", "cut at 64 tokens"),
        ("texts in a step", "512"),
        ("texts in a step", "256"),
        ("texts in a step", "64"),
        *(("learning rate", rate) for rate in STEPS),
        *(("learning rate of the vocabulary", rate) for rate in RATES),
    ]
    alone = [made.name for made in variants(Distil(mse=0.0, order=1.0, batch_size=1))]
    assert "without order" not in alone
    assert alone[-7:-5] == ["4", "2"]
    assert "without hidden" in [made.name for made in variants(Distil(hidden=1.0))]
    assert [made.name for made in variants(Distil(batch_size=4, accumulate=4))][-7:-5] == ["16", "8"], (
        "2 cannot be parted"
    )


def test_a_recipe_that_distils_nothing(tmp_path: Path) -> None:
    line = r"^distil: an ablation needs the section; the recipe has none$"
    with pytest.raises(RecipeError, match=line):
        ablation(Recipe(name="bare"), tmp_path, tmp_path, "")
