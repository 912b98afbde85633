"""A recipe is read strictly: what is not known, not of its type or out of range is one line that names it."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError

from compressor.answering.training.steps import check_steps
from compressor.core.config import Config, load
from compressor.core.errors import RecipeError
from compressor.distil.training.embedding import Distil
from compressor.flow.answering import ReaderRecipe
from compressor.flow.embedding import Recipe
from compressor.flow.tasks import flow_of
from compressor.models.torch_int8 import TorchInt8

RECIPES = Path(__file__).parents[2] / "recipes"
SECTIONS = (
    "name, task, teacher, texts, queries, distil, multilingual, pca, quantize, export, ranges, optimise, fp16, int8, "
    "search, verify, bench"
)
DISTIL = ", ".join(Distil.model_fields)


class Inner(Config):
    count: Annotated[int, Field(ge=2)]
    kind: Literal["auto"] | bool = "auto"
    share: float = 0.5
    rows: tuple[int, ...] = ()


class Outer(Config):
    name: str
    inner: Inner | None = None


def read(tmp_path: Path, text: str, *overrides: str, schema: type[Any] = Recipe) -> Any:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, schema, list(overrides))


def fault(tmp_path: Path, text: str, *overrides: str, schema: type[Any] = Recipe) -> str:
    """Return what is said of a refused recipe, without the file's name."""
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, text, *overrides, schema=schema)
    message = str(caught.value)
    assert "\n" not in message
    assert overrides or message.startswith(f"{tmp_path / 'mine.toml'}: ")
    return message.removeprefix(f"{tmp_path / 'mine.toml'}: ")


@pytest.mark.parametrize("name", sorted(path.name for path in RECIPES.glob("*.toml")))
def test_committed_recipes_load(name: str) -> None:
    recipe: Any = load(RECIPES / name, flow_of(RECIPES / name).schema)
    assert recipe.name == Path(name).stem
    assert recipe.teacher.model == "sentence-transformers/all-MiniLM-L6-v2"
    assert recipe.distil
    if isinstance(recipe, ReaderRecipe):
        check_steps(recipe.distil, 6)
        return
    assert recipe.pca is None or not (recipe.distil.dim or recipe.distil.matryoshka)


@pytest.mark.parametrize("name", sorted(path.name for path in RECIPES.glob("*.toml")))
def test_the_bars_of_committed_recipes_can_be_missed(name: str) -> None:
    """A cosine of unrelated vectors is about 0, and so is their share of neighbours."""
    bars = load(RECIPES / name, flow_of(RECIPES / name).schema).verify.model_dump()
    assert bars.pop("fused") in (True, "auto")
    assert 0 < bars.pop("parity") <= 1e-3
    bars.pop("providers", None)  # which they are held against
    for field, bar in bars.items():
        # Points, or cosine, that may be lost; what must be kept.
        low, high = (0, 5) if field.endswith("_drop") else (0, 0.2) if field.endswith("_gap") else (0.1, 1)
        assert bar is None or low < bar <= high, field


@pytest.mark.parametrize(("name", "layers"), [("quickstart.toml", (0, 2, 5)), ("minilm-l3-d256-int8.toml", 3)])
def test_the_first_recipes_make_three_layers_of_256_numbers(name: str, layers: object) -> None:
    recipe = load(RECIPES / name, Recipe)
    assert recipe.distil is not None
    assert recipe.distil.layers == layers
    assert recipe.pca is not None
    assert recipe.pca.dim == 256
    assert recipe.quantize == TorchInt8()


def test_there_are_recipes_to_load() -> None:
    assert {"quickstart.toml", "minilm-l3-d256-int8.toml"} <= {path.name for path in RECIPES.glob("*.toml")}


def test_a_step_runs_only_where_its_section_stands(tmp_path: Path) -> None:
    bare = read(tmp_path, "")
    assert (bare.distil, bare.pca, bare.quantize) == (None, None, None)
    assert bare.name == "mine"
    some = read(tmp_path, "name = 'other'\n[quantize]\n[pca]\n")
    assert (some.distil, some.pca.dim, some.quantize, some.name) == (None, 256, TorchInt8(), "other")


def test_values_are_taken_as_they_stand(tmp_path: Path) -> None:
    recipe = read(tmp_path, "[distil]\nlayers = [3, 1]\nepochs = 2\nprecision = 'bf16'\n[pca]\ncenter = false\n")
    assert recipe.distil.layers == (3, 1)
    assert (recipe.distil.epochs, type(recipe.distil.epochs)) == (2.0, float)
    assert recipe.distil.precision == "bf16"
    assert recipe.pca.center is False
    with pytest.raises(ValidationError, match="frozen"):
        recipe.pca.dim = 3


def test_layers_are_a_number_or_a_list(tmp_path: Path) -> None:
    assert read(tmp_path, "[distil]\n").distil.layers == 3
    assert read(tmp_path, "[distil]\nlayers = 0\n").distil.layers == 0
    assert read(tmp_path, "", "distil.layers=2").distil.layers == 2
    message = 'distil.layers = "x": input should be a valid integer or a valid array'
    assert fault(tmp_path, "[distil]\nlayers = 'x'\n") == message


def test_another_language_needs_pairs_of_files(tmp_path: Path) -> None:
    recipe = read(tmp_path, '[multilingual]\npairs = [["a.en", "a.de"], ["b.tsv"]]\nmatching = [["c.en", "c.de"]]\n')
    assert recipe.multilingual.pairs == (("a.en", "a.de"), ("b.tsv",))
    assert recipe.multilingual.matching == (("c.en", "c.de"),)
    assert recipe.multilingual.tokens == 8000
    assert fault(tmp_path, "[multilingual]\n") == "multilingual.pairs: missing"
    lone = fault(tmp_path, '[multilingual]\npairs = [["a.tsv"]]\nmatching = [["c.en"]]\n')
    assert lone.startswith('multilingual.matching.0 = ["c.en"]: tuple should have at least 2 items')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[distill]", "distill: unknown key; did you mean distil?"),
        ("zzz = 1", f"zzz: unknown key; allowed: {SECTIONS}"),
        ("[distil]\nlayrs = [1]", "distil.layrs: unknown key; did you mean layers?"),
        ("[distil]\nzzz = 1", f"distil.zzz: unknown key; allowed: {DISTIL}"),
        ("[quantize]\nbits = 4", "quantize.bits: unknown key; allowed: "),
    ],
)
def test_unknown_keys_are_refused(tmp_path: Path, text: str, message: str) -> None:
    assert fault(tmp_path, text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[inner]", "inner.count: missing"),
        ("inner = 3", "inner = 3: input should be an object"),
        ("[inner]\ncount = '3'", 'inner.count = "3": input should be a valid integer'),
        ("[inner]\ncount = 3.0", "inner.count = 3.0: input should be a valid integer"),
        ("[inner]\ncount = true", "inner.count = true: input should be a valid integer"),
        ("[inner]\ncount = 1", "inner.count = 1: input should be greater than or equal to 2"),
        ("[inner]\ncount = 2\nkind = 3", "inner.kind = 3: input should be 'auto' or a valid boolean"),
        ("[inner]\ncount = 2\nshare = inf", "inner.share = Infinity: input should be a finite number"),
        ("[inner]\ncount = 2\nshare = nan", "inner.share = NaN: input should be a finite number"),
        ("[inner]\ncount = 2\nrows = 3", "inner.rows = 3: input should be a valid array"),
        ("[inner]\ncount = 2\nrows = [0, 'a']", 'inner.rows.1 = "a": input should be a valid integer'),
        ("name = 3", "name = 3: input should be a valid string"),
    ],
)
def test_wrong_values_are_named_with_what_is_allowed(tmp_path: Path, text: str, message: str) -> None:
    assert fault(tmp_path, text, schema=Outer) == message


def test_a_name_is_a_folder_name(tmp_path: Path) -> None:
    expected = "name = \"../up\": string should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$'"
    assert fault(tmp_path, "name = '../up'") == expected


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load(tmp_path / "none.toml", Recipe)
    assert str(caught.value) == f"{tmp_path / 'none.toml'}: no such recipe"
    with pytest.raises(RecipeError, match=r": not readable as TOML: .*Is a directory"):
        load(tmp_path, Recipe)
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe9'")
    with pytest.raises(RecipeError, match=r"latin\.toml: not readable as TOML: 'utf-8' codec can't decode byte 0xe9"):
        load(tmp_path / "latin.toml", Recipe)
    assert fault(tmp_path, "[pca\ndim = 3").startswith("not readable as TOML: ")
    assert fault(tmp_path, "[pca]\n[pca]").startswith("not readable as TOML: ")


def test_overrides_are_typed_as_in_the_file(tmp_path: Path) -> None:
    recipe = read(
        tmp_path,
        "[pca]\ndim = 64\n",
        "pca.dim=32",
        "pca.center=true",
        "distil.layers=[0, 3]",
        "distil.learning_rate=1e-4",
        "texts.source=some/texts.txt",
        "texts.split='train[:1%]'",
        "name=other",
    )
    assert (recipe.pca.dim, recipe.pca.center, recipe.name) == (32, True, "other")
    assert (recipe.distil.layers, recipe.distil.learning_rate) == ((0, 3), 1e-4)
    assert (recipe.texts.source, recipe.texts.split) == ("some/texts.txt", "train[:1%]")


def test_overrides_without_a_value_leave_out(tmp_path: Path) -> None:
    text = "[distil]\ntime_budget = '5m'\nepochs = 0.5\n[pca]\ndim = 64\n"
    recipe = read(tmp_path, text, "distil.time_budget=", "pca=")
    assert (recipe.distil.time_budget, recipe.distil.epochs, recipe.pca) == (None, 0.5, None)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pca.dim", "--set pca.dim: expected section.field=value"),
        ("name.first=x", "--set name.first=x: name is a field, not a section"),
        ("pca.dim=abc", 'pca.dim = "abc": input should be a valid integer'),
        ("pca.dmi=3", "pca.dmi: unknown key; did you mean dim?"),
        ("pca.dim=", "--set pca.dim=: leaves out what the recipe does not state"),
        ("pca=3", "pca = 3: input should be an object"),
    ],
)
def test_bad_overrides(tmp_path: Path, override: str, message: str) -> None:
    assert fault(tmp_path, "name = 'mine'", override) == message


def test_where_names_the_place_of_values_that_are_no_file() -> None:
    with pytest.raises(RecipeError, match=r"^options: count: missing$"):
        Inner.read({})
    assert Inner.read({"count": 2, "rows": (1, 2)}).rows == (1, 2)
