"""What is chosen without a recipe: by the model, by the machine, by what is wanted; and what is refused before work."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import sentences, tokenizer
from families import LAYERS, random_encoder

from compressor.core.config import load
from compressor.core.errors import ArtifactError, RecipeError
from compressor.distil.student.size import Possible
from compressor.flow.compress.bars import bars_of, way_of
from compressor.flow.compress.choice import (
    Machine,
    Times,
    accumulate,
    check_dim,
    depths,
    heldout_of,
    layers_of,
    limit_of,
    max_length,
    memory_bytes,
    sections,
    steps_of,
    usual_layers,
)
from compressor.flow.compress.chooser import measured, nearly_all
from compressor.flow.compress.notes import notes_of
from compressor.flow.compress.outlook import Outlook, Parameters
from compressor.flow.compress.places import model_place, name_of, place_of
from compressor.flow.compress.plan import Plan, kept_plan
from compressor.flow.compress.wish import Wish
from compressor.flow.embedding import Recipe
from compressor.models.agreement import Heldout
from compressor.models.sentence_model import open_model
from compressor.models.source import Source, find
from compressor.vectors.pca import fit

# The sizes of all-mpnet-base-v2, and two cores that run it at 50 texts a second.
MPNET = Outlook(
    family="bert",
    depth=12,
    hidden=768,
    feed_forward=3072,
    vocabulary=30_527,
    dim=768,
    limit=384,
    parameters=Parameters(table=30_527 * 768, layer=7_087_872, rest=400_000),
    fuses=True,
    possible=Possible("", "", "", ""),
    tokenizer_bytes=700_000,
)
TWO_CORES = Machine(2, 8_000_000_000, "x86_64", True, 50.0)


def opened(family: str, tmp_path: Path, **options: Any) -> Outlook:
    model = random_encoder(family, tokenizer(), tmp_path / "raw", **options)
    folder = tmp_path / "model"
    model.save_pretrained(str(folder), create_model_card=False)
    return Outlook.of(find(str(folder)), open_model(folder))


@pytest.mark.parametrize(("depth", "layers"), [(2, 1), (3, 2), (4, 2), (6, 3), (8, 4), (12, 3), (22, 6), (24, 6)])
def test_a_quarter_of_twelve_layers_half_of_fewer(depth: int, layers: int) -> None:
    assert usual_layers(depth) == layers
    assert layers_of(Wish(), replace(MPNET, depth=depth)) == layers
    page = (Path(__file__).parents[2] / "docs" / "compress.md").read_text("utf-8")
    assert depth not in (6, 12) or f"| {depth} | {layers} |" in page


def test_all_layers_where_none_can_be_left_out() -> None:
    shared = replace(MPNET, possible=Possible("albert: its layers share their weights", "", "", ""))
    assert layers_of(Wish(), shared) is None
    assert layers_of(Wish(layers="all"), MPNET) is None
    assert layers_of(Wish(), replace(MPNET, depth=1)) is None
    with pytest.raises(RecipeError, match=r"^--layers 3: albert: its layers share their weights; must be all$"):
        layers_of(Wish(layers=3), shared)
    with pytest.raises(RecipeError, match=r"^--layers 13: must be 0 to 12, the model's layers, or all$"):
        layers_of(Wish(layers=13), MPNET)
    with pytest.raises(RecipeError, match=r"^--dim 1024: must be at most 768, the length of the model's vectors$"):
        check_dim(Wish(dim=1024), MPNET)


def test_what_is_wanted_is_read() -> None:
    wish = Wish.read({"quality": 0.98, "size": "10MB", "speed": "10x", "time_budget": "1.5h"})
    assert (wish.bounds.quality, wish.bounds.size, wish.bounds.speed) == (0.98, 10e6, 10.0)
    assert wish.seconds == 5400
    assert Wish.read({"quality": "98%"}).bounds.quality == 0.98
    with pytest.raises(RecipeError, match=r"^--speed: chooses the layers; not with --layers 3$"):
        Wish(layers=3, speed=3.0).check()
    with pytest.raises(RecipeError, match=r"^--quality 1\.2: must be a share of the teacher's above 0 and at most 1"):
        Wish(quality=1.2).check()
    with pytest.raises(RecipeError, match=r"time_budget = \"20\": must be a number above 0 with s, m or h behind it"):
        Wish.read({"time_budget": "20"})


def test_depths_for_a_target_are_those_that_fit() -> None:
    assert depths(Wish(quality=0.98), MPNET) == (12, 6, 3, 2, 1)
    # Five minutes of training are two of two minutes.
    assert depths(Wish(quality=0.98, time_budget="10m"), MPNET) == (12, 6, 1)
    assert depths(Wish(quality=0.98, time_budget="1m"), MPNET) == (12, 6)
    assert depths(Wish(size="60MB", quality=0.9), MPNET) == (3, 2, 1)
    # 4 bits of the table, with a scale of 2 bytes each 32, for 8 and a scale of 4 bytes a row.
    less = 30_527 * (768 + 4 - 24 * 18)
    assert MPNET.size_bytes(3, "int8", None) - MPNET.size_bytes(3, "int8", None, 4) == less
    assert MPNET.size_bytes(3, "fp32", None, 4) == MPNET.size_bytes(3, "fp32", None)
    assert depths(Wish(size="30MB", speed=2, embeddings=4), MPNET) == (1,)
    with pytest.raises(RecipeError, match=r"^--size 10MB: the smallest, by its numbers, takes 38\.0 MB; --size"):
        depths(Wish(size="10MB", quality=0.9), MPNET)


def test_a_slow_machine_learns_from_fewer_texts_and_judges_by_fewer() -> None:
    # A quarter of twenty minutes at 50 texts a second are 15,000; a twentieth, held out, 3,000 and so 2,000.
    assert limit_of(Wish(), TWO_CORES, 1_000_000) == 15_000
    assert limit_of(Wish(), TWO_CORES, 14_000) is None
    assert heldout_of(Wish(), TWO_CORES, 1_000_000) == 2000
    slow = replace(TWO_CORES, texts_per_second=4.0)
    assert limit_of(Wish(), slow, 1_000_000) == 2000
    assert heldout_of(Wish(), slow, 1_000_000) == 240
    assert sections(Wish(), MPNET, slow, 1_000_000, 3)["bench"] == {
        "count": 120, "rounds": 3, "queries": 60, "lengths": [16, 64]
    }  # fmt: skip


def test_sections_state_what_is_no_default() -> None:
    assert sections(Wish(embeddings=4), MPNET, TWO_CORES, 1_000_000, 3)["int8"] == {"embeddings": 4}
    assert sections(Wish(), MPNET, TWO_CORES, 1_000_000, 3) == {
        "texts": {"limit": 15_000},
        "distil": {"layers": 3, "time_budget": "600s", "pairwise": 0.3, "embedding_learning_rate": 1e-3},
        "bench": {"count": 1000},
    }
    old = replace(TWO_CORES, int8_is_fast=False, texts_per_second=900.0)
    assert sections(Wish(layers="all", dim=128), MPNET, old, 5000, None) == {
        "texts": {},
        "pca": {"dim": 128},
        "int8": {"reduce_range": True},
        "bench": {},
    }


@pytest.mark.parametrize(
    ("tokens", "limit", "cut"),
    [(9, 384, 64), (64, None, 64), (65, 384, 128), (200, 384, 256), (900, 8192, 256), (90, 70, 70)],
)
def test_long_texts_are_learnt_whole(tokens: int, limit: int | None, cut: int) -> None:
    assert max_length(tokens, limit) == cut
    made = sections(Wish(), replace(MPNET, limit=limit), TWO_CORES, 1_000_000, 3, tokens)["distil"]
    assert made.get("max_length", 64) == cut
    assert memory_bytes(MPNET, 3, tokens=256) > memory_bytes(MPNET, 3)


def test_most_texts_are_counted(tiny: Path) -> None:
    model = open_model(tiny)
    assert nearly_all(model, ["cat"] * 95 + ["cat " * 500] * 5) == 3
    assert nearly_all(model, ["cat " * 100] * 10) == 102


def test_a_short_training_takes_smaller_steps() -> None:
    # 600 s at 50 texts a second, four times as fast with 3 of 12 layers, and a third of that: 40,000 texts.
    assert steps_of(MPNET, TWO_CORES, 3, 600.0) == pytest.approx(40_000 / 128)
    target = sections(Wish(quality=0.98, time_budget="10m"), MPNET, TWO_CORES, 1000, 6)["distil"]
    assert (target["time_budget"], target["batch_size"], target["warmup_steps"]) == ("150s", 32, 10)


def test_a_step_is_cut_in_parts_where_memory_is_short() -> None:
    assert accumulate(MPNET, TWO_CORES, 3) == 1
    small = replace(TWO_CORES, memory_bytes=4_000_000_000)
    parts = accumulate(MPNET, small, 12)
    assert parts in (8, 16, 32, 64, 128)
    assert accumulate(MPNET, small, 12, 4) in (1, 2, 4)
    assert memory_bytes(MPNET, 3, 64) < memory_bytes(MPNET, 3)
    assert memory_bytes(MPNET, None) < memory_bytes(MPNET, 3)


def test_expected_times_are_told_by_their_parts() -> None:
    times = Times.of(Wish(), MPNET, TWO_CORES, 1_000_000, 3)
    assert times.training == 600
    assert times.vectors == (15_000 + 2 * 2000) / 50
    assert times.total == times.vectors + times.training + times.making + times.benchmark
    assert Times.of(Wish(), MPNET, TWO_CORES, 1_000_000, None).total < times.total / 1.5
    lines = notes_of(Wish(), MPNET, TWO_CORES, 10**6, 3, (), sections(Wish(), MPNET, TWO_CORES, 10**6, 3))
    assert lines[0] == (
        "plan: 3 of 12 layers; vectors as long as the model's; int8; taught on 15,000 of 1,000,000 texts for 10.0 min"
    )
    assert lines[1] == "machine: 2 cores, 8.0 GB; 50 texts/s by the model; int8 is fast"
    assert lines[2].endswith("artifact of about 52.3 MB")


@pytest.mark.parametrize(
    ("family", "fuses", "uncut", "unfitted"),
    [
        ("Bert", True, "", ""),
        ("Roberta", True, "", ""),
        ("Electra", True, "", ""),
        ("MPNet", True, "", ""),
        ("T5", True, "", ""),
        ("ModernBert", True, "", ""),
        ("NomicBert", True, "", ""),
        ("Gemma3Text", False, "", "gemma3_text: norms stand behind its products as well as in front of them"),
        ("DebertaV2", False, "", ""),  # with positions that are learned
        ("Albert", True, f"albert: no stack of {LAYERS} layers of its own weights", "albert: "),
    ],
)
def test_what_a_family_can_have(tmp_path: Path, family: str, fuses: bool, uncut: str, unfitted: str) -> None:
    outlook = opened(family, tmp_path)
    assert outlook.family.replace("-", "").replace("_", "") == family.lower()
    assert (outlook.depth, outlook.dim, outlook.fuses) == (LAYERS, 16, fuses)
    for reason, begins in ((outlook.possible.uncut, uncut), (outlook.possible.unfitted, unfitted)):
        assert reason.startswith(begins)
        assert bool(reason) is bool(begins)
    lines = outlook.lines()
    assert [line.partition(":")[0] for line in lines] == ["model", "graph", "student", "int8"]
    assert (uncut or unfitted or "any depth, fitted") in lines[2]
    less = {"MPNet": "fewer units and feed-forward"} | dict.fromkeys(("T5", "ModernBert"), "fewer neurons")
    assert (less.get(family, "fewer units, heads") in lines[2]) is not bool(uncut or unfitted)
    assert outlook.gated is (family in ("ModernBert", "NomicBert"))


def test_looking_changes_nothing(tiny: Path) -> None:
    model, texts = open_model(tiny), sentences(70)
    before, rate = measured(model, texts)
    Outlook.of(Source(tiny, "key"), model)
    after, _ = measured(model, texts)
    assert before.shape == (70, 32)
    assert rate > 0
    np.testing.assert_array_equal(before, after)


def test_numbers_are_counted_once(tiny: Path) -> None:
    outlook = Outlook.of(Source(tiny, "key"), model := open_model(tiny))
    whole = sum(p.numel() for name, p in model.named_parameters() if "pooler" not in name)
    assert outlook.total == whole
    assert outlook.parameters.table == 0, "a table of 99 tokens stays in fp32"
    assert outlook.parameters.layer == 4 * (32 * 32 + 32) + 2 * 32 * 64 + 64 + 32 + 4 * 32


@pytest.mark.parametrize("trained", [10.0, 600.0, None])
@pytest.mark.parametrize("dim", [None, 8])
def test_bars_let_what_works_through_and_hold_back_what_does_not(dim: int | None, trained: float | None) -> None:
    source = np.random.default_rng(0)
    topics = source.normal(size=(12, 32))
    teacher = topics[source.integers(12, size=400)] + 0.6 * source.normal(size=(400, 32)) + 1.0
    teacher = (teacher / np.linalg.norm(teacher, axis=1, keepdims=True)).astype(np.float32)
    bars = bars_of(teacher, dim, trained, heldout=200)
    assert all(round(bar, 2) == bar for bar in bars.values())
    heldout = Heldout([""] * 200, teacher[200:])
    noise = source.normal(size=(200, 32)).astype(np.float32)

    def keeps(vectors: Any) -> bool:
        projection = None if dim is None else fit(teacher[:200], dim, False)
        own = vectors if projection is None else projection.apply(vectors)
        figures = heldout.agreement(own, projection)
        names = {"cosine_mean": "teacher_cosine_mean", "cosine_p1": "teacher_cosine_p1"}
        names |= {"cosine_min": "teacher_cosine_min", "neighbours_at_10": "neighbours_at_10"}
        return all(figures[name] >= bars[bar] for name, bar in names.items())

    near = teacher[200:] + (0.08 if trained else 0.02) * noise
    assert keeps(near.astype(np.float32))
    assert not keeps(np.roll(teacher[200:], 7, axis=0)), "vectors of other texts"
    assert not keeps(np.ones_like(noise) + 0.01 * noise), "one vector for all"


def test_more_is_asked_after_more_training() -> None:
    assert way_of(0.0) == (0.1, 0.0, 0.03)
    assert way_of(150.0) == pytest.approx((0.25, 0.0, 0.065))
    assert way_of(300.0) == way_of(3000.0) == pytest.approx((0.4, 0.0, 0.1))
    assert way_of(None) == (0.8, 0.5, 0.3)


def test_places_are_seen_from_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "texts.csv").symlink_to(tmp_path / "blob")
    monkeypatch.chdir(tmp_path)
    assert place_of("texts.csv", tmp_path / "a" / "b") == "../../texts.csv"
    assert place_of(str(tmp_path / "texts.csv"), tmp_path / "a") == "../texts.csv"
    assert model_place("model", tmp_path / "small") == "../model"
    assert model_place("BAAI/bge-small-en-v1.5", tmp_path / "small") == "BAAI/bge-small-en-v1.5"
    assert name_of(tmp_path / "my model, small") == "my-model-small"
    assert name_of(tmp_path / ".hidden") == "hidden"
    assert name_of(tmp_path / "ü") == "compressed"


def test_a_recipe_that_was_edited_is_not_written_over(tmp_path: Path) -> None:
    plan = Plan(tmp_path / "small", "this", (6, 3))
    plan.write({"name": "small", "texts": {"source": "../a.txt"}}, ["first\nsecond"])
    assert plan.path.read_text("utf-8").splitlines()[0] == "# first second"
    assert load(plan.path, Recipe).texts.source == "../a.txt"
    assert kept_plan(plan.folder, "this") == plan
    assert kept_plan(plan.folder, "that") is None
    plan.path.write_text(plan.path.read_text("utf-8") + "\n[pca]\ndim = 8\n", "utf-8")
    assert kept_plan(plan.folder, "this") == plan, "the recipe as it stands"
    with pytest.raises(ArtifactError, match=r"recipe\.toml: was edited, and something else is wanted now; give"):
        kept_plan(plan.folder, "that")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    assert kept_plan(tmp_path / "new", "this") is None
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"holds something else; give an empty or a new folder$"):
        kept_plan(tmp_path, "this")
    (tmp_path / "compress.json").write_text("[]")
    with pytest.raises(ArtifactError, match=r"compress\.json: not readable"):
        kept_plan(tmp_path, "this")
