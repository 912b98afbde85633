"""The costs of a student's parts are measured one part at a time, each against the student with nothing smaller."""

import json
from pathlib import Path
from typing import Any

import pytest
from running import RECIPE, write_recipe

from compressor.core.errors import RecipeError
from compressor.distil.student.size import Possible
from compressor.distil.student.words.usage import Usage
from compressor.distil.training.embedding import Distil
from compressor.flow.ablation import parts as measured
from compressor.flow.compress.outlook import Outlook, Parameters
from compressor.flow.embedding import Recipe

USAGE = Usage((1999, 8000, 12_000, 30_522), (0.711, 0.0403, 0.0135, 0.0))


def outlook(possible: Possible, vocabulary: int = 30_522) -> Outlook:
    counts = Parameters(vocabulary * 384, 1_774_464, 198_144)
    return Outlook("bert", 6, 384, 1536, vocabulary, 384, 256, counts, True, possible, 466_269)


def test_one_part_is_smaller_at_a_time() -> None:
    own = Distil(layers=3, feed_forward=768, activation="relu", vocabulary=11_000, pairwise=0.3)
    made = measured.parts(own, outlook(Possible("", "", "", "")), USAGE)
    whole, *rest = made
    assert (whole.group, whole.name) == ("", "3 of 6 layers, nothing smaller")
    assert own.model_copy(update=whole.fields) == Distil(layers=3, pairwise=0.3)
    changed = [{name: value for name, value in one.fields.items() if whole.fields.get(name) != value} for one in rest]
    relu = {"activation": "relu"}
    assert changed == [
        *({"layers": n} for n in (6, 5, 4, 2, 1)),
        {"layers": 0, "dense": True},
        *(relu | {"feed_forward": n} for n in (768, 384, 192)),
        *({"embedding_size": n} for n in (256, 192, 128, 64)),
        *({"vocabulary": n} for n in (16_000, 11_000, 8000, 4000)),
    ]
    names = [one.name for one in rest]
    assert "1/8 of 1,536 neurons, ReLU" in names
    assert "1/3 of 384" in names
    assert "8,000 of 30,522, 4.0 % spelt in pieces" in names


def test_what_a_family_cannot_have_is_left_out() -> None:
    none = measured.parts(Distil(layers=3), outlook(Possible("no", "no", "no", "no", "no")), None)
    assert [one.group for one in none] == [""]
    gelu = measured.parts(Distil(layers=3), outlook(Possible("", "", "", "no", "no"), 9000), USAGE)
    assert [one.name for one in gelu if one.group == "feed-forward"][0] == "1/2 of 1,536 neurons"
    assert [one.fields["vocabulary"] for one in gelu if one.group == "tokens"] == [8000, 4000]


def test_a_cost_is_what_is_lost_against_nothing_smaller() -> None:
    def row(group: str, cosine: float) -> dict[str, Any]:
        return {"group": group, "name": group or "whole", "texts_seen": 9, "agreement": {"cosine_mean": cosine}}

    text = measured.table({"rows": [row("", 1.0), row("", 0.9), row("tokens", 0.8877), row("layers", 0.91)]})
    lines = text.splitlines()[2:]
    assert [line.split("|")[-2].strip() for line in lines] == ["0.00", "1.23", "-1.00"]


@pytest.mark.parametrize("changes", [{}, {"distil": {"layers": 0}}])
def test_a_recipe_without_layers_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"^distil: costs of parts are measured on a student with layers; the recipe"):
        measured.measure(Recipe.read({"name": "bare", **changes}), tmp_path, tmp_path, "")


@pytest.mark.slow
def test_every_row_is_measured(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = write_recipe(tmp_path, RECIPE, tiny, texts=300)
    measured.main([str(home / "tiny.toml"), "--runs", str(home / "runs"), "--set", "distil.epochs=0.5"])
    results = json.loads((home / "runs" / "tiny" / "parts.json").read_text("utf-8"))
    groups = [row["group"] for row in results["rows"]]
    assert set(groups) == {"", "layers", "feed-forward", "columns of the table"}
    assert len({row["texts_seen"] for row in results["rows"][1:]}) == 1
    assert results["command"].startswith("python -m compressor.flow.ablation.parts ")
    shown = capsys.readouterr().out.strip()
    assert shown == (home / "runs" / "tiny" / "parts.md").read_text("utf-8").strip()
    assert shown.count("\n") == len(groups)
