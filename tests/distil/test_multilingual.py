"""A tiny student learns a tiny foreign language: what it knows then, and what it kept of its first."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import sentences
from foreign import foreign, write_language

from compressor.core.config import load
from compressor.core.errors import RecipeError, TextError
from compressor.distil.language.extend import tokens_per_word
from compressor.distil.language.multilingual import Multilingual, Translations
from compressor.distil.language.switching import Switched
from compressor.flow.base import run
from compressor.flow.embedding import EmbeddingFlow, Recipe, _sources
from compressor.models.bulk import BulkEncoder
from compressor.models.sentence_model import open_model
from compressor.models.source import find, read_config
from compressor.models.teacher_vectors import training_vectors
from compressor.models.teaching import teach
from compressor.texts.corpus import Texts

RECIPE = """
[teacher]
model = "{teacher}"
[texts]
source = "texts.txt"
heldout = 40
[distil]
epochs = 10.0
batch_size = 32
learning_rate = 3e-3
warmup_steps = 10
precision = "fp32"
[multilingual]
pairs = [["train.en", "train.xx"]]
tokens = 60
heldout = 60
sts = [["en.csv", "xx.csv"]]
[verify]
teacher_cosine_mean = 0.3
teacher_cosine_p1 = -1.0
teacher_cosine_min = -1.0
neighbours_at_10 = 0.1
int8_cosine_mean = 0.8
[bench]
count = 64
rounds = 1
queries = 20
batch_sizes = [8]
lengths = []
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """Return a folder with a recipe, its texts and a foreign language."""
    home = tmp_path_factory.mktemp("home")
    (home / "texts.txt").write_text("\n".join(sentences(400)))
    (home / "tiny.toml").write_text(RECIPE.format(teacher=tiny.as_posix()))
    write_language(home)
    return home


def recipe(home: Path, *changes: str) -> Recipe:
    return load(home / "tiny.toml", Recipe, list(changes))


@pytest.fixture(scope="module")
def results(home: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPRESSOR_CACHE", str(home / "cache"))
        return run(EmbeddingFlow.of(recipe(home), home, home / "runs"), "compressor run tiny.toml")


def translations(home: Path, **options: Any) -> Translations:
    values: dict[str, Any] = {"pairs": [["train.en", "train.xx"]], "heldout": 60}
    return Translations(Multilingual.read(values | options), home)


def test_translations_are_found_that_the_teacher_does_not_find(results: dict[str, Any]) -> None:
    found = results["languages"]
    assert list(found) == ["teacher", "distil", "int8"]
    for way in ("source_to_translation", "translation_to_source"):
        assert found["teacher"]["matching"]["held out"][way] < 0.1
        assert found["distil"]["matching"]["held out"][way] > 0.25
        assert found["int8"]["matching"]["held out"][way] > 0.25


def test_the_new_language_is_learnt_and_the_first_one_kept(results: dict[str, Any]) -> None:
    (teacher,), (student,) = (results["languages"][name]["sts"] for name in ("teacher", "distil"))
    assert student["files"] == "en+xx"
    assert student["across"] > teacher["across"] + 15
    assert student["new"] > 0.8 * teacher["first"]
    assert student["first_kept"] > 0.9


def test_the_student_has_the_words_of_the_new_language(home: Path, tiny: Path, results: dict[str, Any]) -> None:
    before, after = (read_config(f)["vocab_size"] for f in (tiny, home / "runs" / "tiny" / "distil"))
    assert 30 <= after - before <= 60
    texts = [foreign(text) for text in sentences(50, seed=5)]
    spelled, known = (tokens_per_word(open_model(f), texts) for f in (tiny, home / "runs" / "tiny" / "distil"))
    assert known < 0.6 * spelled


def test_other_tests_are_measured_without_another_training(
    home: Path, results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESSOR_CACHE", str(home / "cache"))
    manifest = home / "runs" / "tiny" / "distil" / "manifest.json"
    before = manifest.stat().st_mtime_ns
    asked = recipe(home, 'multilingual.matching=[["train.en", "train.xx"]]')
    flow = EmbeddingFlow.of(asked, home, home / "runs")
    found = flow.languages({"teacher": flow.teacher, "distil": flow.distil()})
    assert manifest.stat().st_mtime_ns == before
    assert list(found["distil"]["matching"]) == ["held out", "train.en + train.xx"]
    assert found["distil"]["sts"] == results["languages"]["distil"]["sts"]


def test_shares_of_all_the_training_are_refused(home: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        _ = translations(home, first_language=0.8, switched=0.2).pairs
    assert str(caught.value) == "multilingual.first_language + switched = 1: must be below 1"


def test_no_more_tokens_leave_the_vocabulary(home: Path, tiny: Path) -> None:
    model = open_model(tiny)
    assert translations(home, tokens=0).prepare is None
    prepare = translations(home, tokens=20).prepare
    assert prepare is not None
    assert 0 < len(prepare(model).tokenizer) - len(model.tokenizer) <= 20


def test_a_translation_has_the_vector_of_its_source(home: Path, tiny: Path) -> None:
    teacher, corpus = find(str(tiny)), Texts.read({"source": "texts.txt", "heldout": 40}).load(home)
    other = translations(home, first_language=0.5, switched=0.2)
    vectors = training_vectors(teacher, corpus)
    translated, switched = other.parts(teacher, corpus, vectors)
    assert [translated.share, switched.share] == pytest.approx([0.3, 0.2])
    sources = other.pairs[0].sources
    assert list(translated.texts) == [foreign(source) for source in sources]
    own = translated.of(np.arange(20))
    wanted = open_model(tiny).encode(list(sources[:20]))
    assert (own * wanted).sum(1) == pytest.approx(np.ones(20), abs=1e-3)
    assert isinstance(switched.texts, Switched)
    assert len(switched.texts) == len(corpus.train)
    np.testing.assert_array_equal(switched.of(np.arange(5)), np.asarray(vectors[np.arange(5)], np.float32))
    assert len(translations(home, switched=0.0).parts(teacher, corpus, vectors)) == 1


def test_translations_of_what_is_kept_out_are_not_learnt_whatever_its_prompt(home: Path, tiny: Path) -> None:
    other = translations(home, switched=0.0)
    kept_out, learnt = other.pairs[0].sources[:6], set(other.pairs[0].sources[6:])
    plain = Texts.read({"source": "texts.txt", "heldout": 40}).load(home)
    prompted = [f"query: {text}" for text in kept_out]
    corpus = replace(plain, dev=prompted[:3], heldout=prompted[3:], prompts=("query: ",))
    [part] = other.parts(find(str(tiny)), corpus, None)
    assert not {foreign(text) for text in kept_out} & set(part.texts)
    assert set(_sources(other, corpus)) == learnt - set(kept_out)


def test_what_is_asked_ahead_is_all_that_it_learns_from(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESSOR_CACHE", str(tmp_path / "cache"))
    flow = EmbeddingFlow.of(recipe(home), home, tmp_path / "runs")
    teach(flow.teacher, flow.asked())
    monkeypatch.setattr(BulkEncoder, "load", None)  # nothing is left to compute
    vectors = training_vectors(flow.teacher, flow.corpus)
    assert flow.translations is not None
    assert len(flow.translations.parts(flow.teacher, flow.corpus, vectors)[0].texts) > 100
    assert len(flow.heldout.teacher) == len(flow.corpus.heldout)


def test_held_out_pairs_are_kept_out(home: Path) -> None:
    train, heldout = translations(home).pairs
    assert (len(train), len(heldout)) == (740, 60)
    assert not set(train.sources) & set(heldout.sources)


def test_two_sets_of_one_name_are_refused(home: Path) -> None:
    twice = [["train.en", "train.xx"], ["./train.en", "train.xx"]]
    with pytest.raises(RecipeError, match="two of one name; figures are told apart by it$"):
        translations(home, matching=twice).read_matching()


def test_the_key_is_of_what_is_learnt(home: Path) -> None:
    key = translations(home).key
    assert translations(home, matching=[["train.en", "train.xx"]], sts=[["en.csv", "xx.csv"]]).key == key
    assert len({key, translations(home, tokens=9).key, translations(home, heldout=50).key}) == 3


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ("distil=false", RecipeError, r"multilingual: needs a student to teach; add a section distil"),
        ("distil.vocabulary=50", RecipeError, r"distil\.vocabulary = 50: not with multilingual; leave it out"),
        ("distil.vocabulary=1", RecipeError, r"distil\.vocabulary = 1: not with multilingual; leave it out"),
        (
            "multilingual.switched=0.7",
            RecipeError,
            r"multilingual\.first_language \+ switched = 1\.05: must be .*",
        ),
        ('multilingual.pairs=[["train.en", "no.xx"]]', TextError, r".*no\.xx: no such file"),
        ('multilingual.sts=[["en.csv", "no.csv"]]', TextError, r".*no\.csv: no such file"),
    ],
)
def test_what_cannot_be_learnt_is_refused_before_training(
    change: str, kind: type[Exception], message: str, home: Path, tmp_path: Path
) -> None:
    asked = recipe(home, change) if change != "distil=false" else recipe(home).model_copy(update={"distil": None})
    with pytest.raises(kind, match=f"^{message}$"):
        run(EmbeddingFlow.of(asked, home, tmp_path), "compressor run tiny.toml")
    assert not list(tmp_path.rglob("manifest.json"))
