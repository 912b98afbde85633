"""A student for so many bytes: what it takes by formula, which one is chosen, and what is refused before work."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import build, sentences

from compressor.artifact.folder import size_bytes, whole_bytes, writing
from compressor.core.config import load
from compressor.core.errors import GateError, RecipeError
from compressor.distil.student.size import Possible
from compressor.distil.student.words.usage import Usage
from compressor.flow.compress.choice import Machine, is_planned, sections
from compressor.flow.compress.chooser import Chooser
from compressor.flow.compress.notes import notes_of
from compressor.flow.compress.outlook import Outlook, Parameters
from compressor.flow.compress.sized.choose import RESERVE, Planned, plan, shapes, weighed
from compressor.flow.compress.sized.costs import lost, speed
from compressor.flow.compress.sized.kept import kept
from compressor.flow.compress.sized.shape import Shape
from compressor.flow.compress.sized.weight import folder_bytes
from compressor.flow.compress.sized.words import usage_of
from compressor.flow.compress.walk import compress_model
from compressor.flow.compress.wish import Wish
from compressor.flow.embedding import Recipe
from compressor.models.sentence_model import open_model
from compressor.models.source import Source
from compressor.texts.corpus import TextSource

# The sizes of all-MiniLM-L6-v2, and how many of the tokens of its texts fall out of smaller vocabularies.
MINILM = Outlook(
    family="bert",
    depth=6,
    hidden=384,
    feed_forward=1536,
    vocabulary=30_522,
    dim=384,
    limit=256,
    parameters=Parameters(table=30_522 * 384, layer=1_774_464, rest=198_144),
    fuses=True,
    possible=Possible("", "", "", ""),
    tokenizer_bytes=466_269,
    positions=512,
)
USAGE = Usage((1999, 4000, 6000, 8000, 12_000, 16_000, 30_522), (0.711, 0.1229, 0.0676, 0.0403, 0.0135, 0.0023, 0.0))
TWO_CORES = Machine(2, 8_000_000_000, "x86_64", True, 500.0)


@pytest.mark.parametrize(
    ("shape", "precision", "measured"),
    [
        (Shape(), "int8", 24_153_410),  # docs/small.md
        (Shape(3, 768, relu=True), "int8", 18_339_883 - 245_380),  # as run, but for the tokenizer's indentation
        (Shape(2, 768, relu=True), "int8", 17_118_795 - 245_380),
        (Shape(1, 768, relu=True), "int8", 15_897_493 - 245_380),
        (Shape(3, 768, relu=True), "fp32", 63_932_523 - 245_380),
    ],
)
def test_bytes_are_those_of_artifacts_that_were_made(shape: Shape, precision: Any, measured: int) -> None:
    assert folder_bytes(MINILM, shape, precision) == pytest.approx(measured, rel=0.005)


def test_each_part_weighs_what_it_is_made_of() -> None:
    whole = folder_bytes(MINILM, Shape(3))
    assert whole - folder_bytes(MINILM, Shape(3, dense=False)) == 2 * 4 * 384 * 385, "stored in the graph and beside it"
    # A token is 384 codes and a scale, or 12 blocks of 16 bytes and a scale; and its share of the tokenizer.
    fewer = Shape(3, vocabulary=20_522)
    assert whole - folder_bytes(MINILM, fewer) == pytest.approx(10_000 * (388 + 466_269 / 30_522), abs=1)
    small = Shape(3, bits=4)
    less = folder_bytes(MINILM, small) - folder_bytes(MINILM, replace(small, vocabulary=20_522))
    assert less == pytest.approx(10_000 * (12 * 18 + 466_269 / 30_522), abs=1)
    # Vectors of another length take a layer more, and the map to them.
    assert folder_bytes(MINILM, Shape(3, dim=128)) > folder_bytes(MINILM, Shape(3))


SIZES = ("30MB", "24MB", "20MB", "18.5MB", "16MB", "13MB", "10MB", "8MB", "6MB", "5MB", "4MB", "3MB", "2MB", "1.2MB")


def chosen(size: str, outlook: Outlook = MINILM, usage: Usage | None = USAGE, **wanted: Any) -> Planned:
    return plan(Wish(size=size, **wanted), outlook, usage)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_chosen_fits_and_is_no_worse_than_whole_layers(size: str) -> None:
    wish, found = Wish(size=size), chosen(size)
    most = wish.bounds.size or 0
    assert found.bytes <= most
    assert found.bytes == folder_bytes(MINILM, found.shape)
    whole = [weighed(wish, MINILM, Shape(n), USAGE) for n in (None, 3, 2, 1)]
    fit = [other.loss for other in whole if other.bytes <= most]
    assert found.loss <= min(fit, default=99.0)


def test_more_bytes_lose_no_more() -> None:
    losses = [chosen(size).loss for size in SIZES]
    assert losses == sorted(losses)
    assert losses[-1] > losses[3] > losses[0] == 0


def test_the_teacher_itself_is_kept_where_it_fits() -> None:
    assert chosen("25MB").shape == Shape()
    assert chosen("20MB").shape == Shape(bits=4), "all layers, whose table alone is smaller, need no training"
    assert chosen("100MB", precision="fp32").shape == Shape()


def test_a_speed_beside_a_size_is_planned_for_where_no_depth_fits() -> None:
    fast = chosen("8MB", speed="12x")
    assert fast.speed >= 12 > chosen("8MB").speed
    assert is_planned(Wish(size="8MB", speed="12x"), MINILM)
    assert not is_planned(Wish(size="20MB", speed="5x"), MINILM)
    assert not is_planned(Wish(size="8MB", quality=0.9), MINILM)
    with pytest.raises(RecipeError, match=r"^--speed 99x: of --size 8MB the fastest is expected to have \d+×$"):
        chosen("8MB", speed="99x")


def test_no_layers_are_planned_where_the_bytes_of_one_cost_more_than_it_is_worth() -> None:
    static = chosen("2MB")
    assert (static.shape.layers, static.shape.bits, static.shape.dense) == (0, 4, True)
    assert static.shape.vocabulary is not None
    assert static.shape.distil() == {"layers": 0, "vocabulary": static.shape.vocabulary}
    assert static.speed > 60
    assert chosen("3MB").shape.layers, "a static student finds and compares less than its cosine says"
    uncut = replace(MINILM, possible=Possible("albert: shares", "albert", "albert", "albert", "albert"))
    assert not any(shape.layers == 0 for shape in shapes(Wish(size="2MB"), uncut, None, 2e6))
    # A token is 12 blocks of 16 bytes and a scale, and its share of the tokenizer; no layer, and nothing to widen it.
    less = folder_bytes(MINILM, Shape(0, bits=4)) - folder_bytes(MINILM, static.shape)
    assert less == pytest.approx((30_522 - static.shape.vocabulary) * (12 * 18 + 466_269 / 30_522), abs=1)


def test_what_was_given_stays() -> None:
    assert chosen("16MB", embeddings=8).shape.bits == 8
    assert chosen("5MB", embeddings=8).shape.bits == 8
    assert chosen("5MB").shape.bits == 4
    assert chosen("6MB", dim=128).shape.dim == 128
    assert chosen("20MB", precision="fp32").shape.bits == 8
    assert chosen("20MB", precision="fp32", embeddings=4).shape.bits == 4


def test_bits_that_are_asked_for_are_another_wish_than_planned_ones(tiny: Path) -> None:
    planned, asked = Wish(size="5MB"), Wish(size="5MB", embeddings=8)
    assert chosen("5MB").shape.bits == 4
    assert (planned.bits, asked.bits) == (8, 8)
    keys = {Chooser(str(tiny), None, Path("out"), wish).wanted for wish in (planned, asked)}
    assert len(keys) == 2, "else the second call would go by the first one's plan"


def test_a_speed_of_fp32_is_not_planned_for() -> None:
    line = r"^--speed 10x: is planned for int8 alone; not with --precision fp32; leave it out$"
    with pytest.raises(RecipeError, match=line):
        chosen("60MB", precision="fp32", speed="10x")


@pytest.mark.parametrize("size", ["20MB", "8MB", "3MB"])
def test_a_family_whose_config_does_not_say_how_wide_its_feed_forward_is(size: str) -> None:
    silent = replace(MINILM, feed_forward=0)  # n_inner of GPT-2 is None
    found = chosen(size, silent)
    assert found.shape.feed_forward is None
    assert found.losses.get("feed-forward", 0.0) == 0.0
    assert speed(silent, Shape(3)) > speed(silent, Shape()) > 1
    assert "feed-forward" not in silent.lines()[0]


def test_a_family_gets_what_it_can_have() -> None:
    wide = replace(MINILM, possible=Possible("", "", "", "", "of BERT alone"))
    assert chosen("6MB", wide).shape.embedding_size is None
    assert chosen("6MB", wide).shape.vocabulary is not None
    uncut = replace(MINILM, possible=Possible("albert: shares", "albert", "albert", "albert", "albert"))
    assert chosen("20MB", uncut, None).shape == Shape(bits=4)
    whole = replace(MINILM, possible=Possible("", "rotary", "rotary", "no", "no"))
    shape = chosen("12MB", whole).shape
    assert (shape.feed_forward, shape.embedding_size, shape.relu) == (None, None, False)
    assert shape.vocabulary or shape.layers
    assert chosen("13MB", whole, None).shape.vocabulary is None


def test_a_size_that_nothing_fits_is_refused_with_the_smallest() -> None:
    with pytest.raises(RecipeError) as caught:
        chosen("1MB")
    line = str(caught.value)
    assert line.startswith("--size 1MB: the smallest that can be had takes about 1.")
    assert "MB: no layers (static), a table of 4,000 of 30,522 tokens and all columns in 4 bits" in line
    least = float(line.partition("about ")[2].partition(" MB")[0])
    assert chosen(f"{least + 0.01}MB").bytes <= (least + 0.01) * 1e6


def test_the_recipe_has_it_in_plain_fields() -> None:
    found = chosen("5MB")
    values = sections(Wish(size="5MB"), MINILM, TWO_CORES, 100_000, found.shape.layers, shape=found.shape)
    recipe = Recipe.read({"name": "five", **values})
    assert recipe.distil is not None
    assert recipe.int8.embeddings == 4
    assert (recipe.distil.layers, recipe.distil.vocabulary) == (found.shape.layers, found.shape.vocabulary)
    assert (recipe.distil.dense, recipe.distil.activation) == (False, "relu")
    assert recipe.distil.time_budget == "600s", "one training has all of the time"
    lines = notes_of(Wish(size="5MB"), MINILM, TWO_CORES, 10**5, found.shape.layers, (), values, found)
    assert lines[0].startswith(f"plan: {found.shape.words(MINILM)}; vectors as long as the model's; int8; taught on")
    assert lines[1].startswith("why: of ")
    assert "students of at most 5.00 MB the one with the least expected loss" in lines[1]
    assert lines[-1].endswith(f"artifact of about {found.bytes / 1e6:.2f} MB")


def test_costs_add_up_and_are_nothing_for_the_teacher() -> None:
    assert sum(lost(MINILM, Shape(), USAGE).values()) == 0
    less = [lost(MINILM, Shape(3, n), USAGE)["feed-forward"] for n in (1536, 768, 384, 192)]
    assert less == sorted(less)
    assert less[0] == 0 < less[-1]
    spelt = [lost(MINILM, Shape(3, vocabulary=n), USAGE)["words in pieces"] for n in (30_522, 16_000, 8000, 4000)]
    assert spelt == sorted(spelt)
    assert speed(MINILM, Shape(1, 768)) > speed(MINILM, Shape(3, 768)) > speed(MINILM, Shape(3)) > 4


def test_every_student_that_is_weighed_can_be_made() -> None:
    seen = 0
    for shape in shapes(Wish(size="5MB"), MINILM, USAGE, 5e6 * (1 - RESERVE)):
        seen += 1
        if shape.layers is not None:
            Recipe.read({"name": "x", "distil": shape.distil()})
    assert seen > 500


def test_words_are_counted_in_the_texts(tiny: Path) -> None:
    model, texts = open_model(tiny), sentences(50)
    usage = usage_of(model, Outlook.of(Source(tiny, "key"), model), texts)
    assert usage is not None
    assert usage.sizes == (58, len(model.tokenizer))
    assert usage.share(len(model.tokenizer)) == 0
    # Each text has [CLS] and [SEP], which stay, as do "a" and "."; all other words fall out.
    words = [word for text in texts for word in text.split()]
    gone = sum(len(word) > 1 for word in words)
    assert usage.share(58) == pytest.approx(gone / (len(words) + 2 * len(texts)))


def test_the_bound_is_held_against_the_whole_folder(tmp_path: Path) -> None:
    artifact = tmp_path / "artifacts" / "int8"
    with writing(artifact, "artifacts/int8", "key") as draft:
        (draft.folder / "graph").write_bytes(bytes(1000))
    taken = sum(path.stat().st_size for path in artifact.iterdir())
    assert size_bytes(artifact) == 1000 < taken == whole_bytes(artifact)
    figures = {"size_bytes": 1000, "sts": {"sts": 80.0}, "agreement": {"cosine_mean": 0.9}}
    story = [{"stage": name, **figures} for name in ("teacher", "int8")]
    results = {"story": story, "bench": {"systems": [{"name": "onnx-int8", "offline": {"ratio": 9.0}}]}}
    assert kept(results, tmp_path / "recipe.toml", Wish(size=str(taken))).startswith(f"{taken:,} of {taken:,} bytes; ")
    line = rf"^--size {taken - 1}: the artifact takes {taken:,} of {taken - 1:,} bytes; "
    with pytest.raises(GateError, match=line):
        kept(results, tmp_path / "recipe.toml", Wish(size=str(taken - 1)))


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], int]:
    """Compress a model of 64 columns to a size that it does not fit."""
    home = tmp_path_factory.mktemp("size")
    model = build(home / "model", width=64, layers=4)
    (home / "texts.txt").write_text("\n".join(sentences(500)), "utf-8")
    whole = Outlook.of(Source(model, "key"), open_model(model)).size_bytes(4, "int8", None)
    results = go(home, whole - 40_000)
    return home, results, whole - 40_000


def go(home: Path, most: int, **wanted: Any) -> dict[str, Any]:
    short = ("bench.rounds=1", "bench.queries=20", "bench.count=64", "bench.lengths=[16]", "bench.batch_sizes=[8]")
    wish = Wish.read({"size": most, "time_budget": "6s"} | wanted)
    texts = TextSource(str(home / "texts.txt"))
    return compress_model(str(home / "model"), texts, home / "out", wish, "compress", None, short)


@pytest.mark.slow
def test_one_plan_is_trained_and_what_it_kept_is_said(planned: tuple[Path, dict[str, Any], int]) -> None:
    home, results, most = planned
    artifact = home / "out" / "artifacts" / "int8"
    row = next(row for row in results["story"] if row["stage"] == "int8")
    assert row["size_bytes"] == size_bytes(artifact) < whole_bytes(artifact) <= most
    recipe = load(home / "out" / "recipe.toml", Recipe)
    assert recipe.distil is not None
    assert not recipe.distil.dense
    head = (home / "out" / "recipe.toml").read_text("utf-8")
    assert "# plan: " in head
    assert "# why: of " in head
    assert not list((home / "out").glob("*-tradeoff"))
    assert json.loads((home / "out" / "compress.json").read_text("utf-8"))["depths"] == []


@pytest.mark.slow
def test_what_came_out_larger_is_said_and_exits(
    planned: tuple[Path, dict[str, Any], int], capsys: pytest.CaptureFixture[str]
) -> None:
    home, results, most = planned
    again = go(home, most)
    assert "kept: " in capsys.readouterr().err
    assert again["story"] == results["story"]
    with pytest.raises(GateError, match=r"^--size 9: the artifact takes [\d,]+ of 9 bytes; .*; make it smaller in "):
        kept(results, home / "out" / "recipe.toml", Wish(size="9"))
    with pytest.raises(GateError, match=r"^--speed 999x: the artifact has .*× its speed; make it faster in "):
        kept(results, home / "out" / "recipe.toml", Wish(size=most, speed="999x"))
