"""Languages are measured each on its own, both together, and by translations found."""

import json
from pathlib import Path
from typing import Any

import pytest
from builders import sentences
from foreign import sts_rows
from graphs import draft

from benchmarks.quality.languages import BothLanguages, LanguageFigures, Languages, read_tests
from compressor.core.errors import TextError
from compressor.distil.language.multilingual import Multilingual, Translations

UPPER = {"pairs": [["a.en", "a.up"]], "heldout": 30, "matching": [["b.en", "b.up"]], "sts": [["en.csv", "up.csv"]]}


@pytest.fixture
def upper(tmp_path: Path) -> Translations:
    """Return translations into capitals, which the tiny tokenizer makes small again: the vectors are the same."""
    for name, count in (("a", 120), ("b", 40)):
        texts = sentences(count, seed=count)
        (tmp_path / f"{name}.en").write_text("\n".join(texts))
        (tmp_path / f"{name}.up").write_text("\n".join(texts).upper())
    rows = "\n".join(f"{a},{b},{score}" for a, b, score in sts_rows(sentences(50, seed=7)))
    (tmp_path / "en.csv").write_text(rows)
    (tmp_path / "up.csv").write_text(rows.upper())
    return Translations(Multilingual.read(UPPER), tmp_path)


def measured(translations: Translations, models: dict[str, Path], to: Path) -> dict[str, Any]:
    made = draft(to)
    Languages().run(models, translations, made)
    found: dict[str, Any] = json.loads((made.folder / "languages.json").read_text())
    return found


def test_a_language_with_the_same_vectors_has_the_same_figures(upper: Translations, tiny: Path, tmp_path: Path) -> None:
    own = measured(upper, {"teacher": tiny}, tmp_path / "made")["teacher"]
    all_found = {"source_to_translation": 1.0, "translation_to_source": 1.0}
    assert own["matching"] == {"held out": all_found, "b.en + b.up": all_found}
    (sts,) = own["sts"]
    assert sts["first"] == sts["new"] == pytest.approx(sts["across"])
    assert sts["first"] > 20
    assert (sts["files"], sts["first_kept"]) == ("en+up", 1.0)


def test_what_is_kept_is_the_first_languages_share_of_the_teacher(
    upper: Translations, tiny: Path, make_model: Any, tmp_path: Path
) -> None:
    found = measured(upper, {"teacher": tiny, "distil": make_model(seed=3)}, tmp_path / "made")
    teacher, other = (found[name]["sts"][0] for name in ("teacher", "distil"))
    assert other["first_kept"] == pytest.approx(other["first"] / teacher["first"])
    assert other["first_kept"] != 1


def test_committed_languages_are_read_as_they_were_written() -> None:
    path = Path(__file__).parents[2] / "docs" / "figures" / "minilm-german.json"
    stated = json.loads(path.read_text("utf-8"))["languages"]
    read = {name: LanguageFigures.read(figures) for name, figures in stated.items()}
    assert json.dumps({name: own.as_dict() for name, own in read.items()}) == json.dumps(stated)  # keys in their order
    assert {name: own.beside(read["teacher"]) for name, own in read.items()} == read


def test_nothing_is_kept_of_nothing() -> None:
    own, teacher = BothLanguages(60.0, 50.0, 40.0, "a+b"), BothLanguages(0.0, 1.0, 1.0, "a+b")
    assert own.beside(teacher).first_kept is None
    assert own.beside(BothLanguages(80.0, 1.0, 1.0, "a+b")).first_kept == 0.75


def test_a_missing_file_is_named(upper: Translations, tmp_path: Path) -> None:
    (tmp_path / "up.csv").unlink()
    with pytest.raises(TextError, match=r"up\.csv: no such file$"):
        read_tests(upper)
    (tmp_path / "b.up").unlink()
    with pytest.raises(TextError, match=r"b\.up: no such file$"):
        read_tests(upper)
