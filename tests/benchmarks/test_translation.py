"""Translations are found as TranslationEvaluator finds them; both directions of two languages count."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers.sentence_transformer.evaluation import TranslationEvaluator

from benchmarks.quality import translation
from benchmarks.quality.sts import Sts
from benchmarks.quality.translation import CrossLingualSts, matching
from compressor.core.encoder import Vectors
from compressor.core.errors import TextError
from compressor.models.sentence_model import TorchEncoder
from compressor.models.source import Source


class Angles:
    """An encoder whose texts are angles in degrees, in a language that is turned by ``turn``."""

    dim, max_length = 2, 8

    def __init__(self, turn: float = 0.0) -> None:
        self.turn = turn

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> Vectors:
        radians = np.radians([float(text.lstrip("t")) + self.turn * text.startswith("t") for text in texts])
        lengths = 1 + np.arange(len(texts)) % 3  # cosines, not dot products
        return (lengths * np.stack([np.cos(radians), np.sin(radians)])).T.astype(np.float32)


def test_each_direction_is_counted_for_itself() -> None:
    # 50 is nearest to t58, t2 to 0; the others find each other.
    found = matching(Angles(), ["0", "50", "60"], ["t1", "t2", "t58"])
    assert found == {"source_to_translation": pytest.approx(2 / 3), "translation_to_source": pytest.approx(2 / 3)}
    # 52 is nearer to t16 than to t100, for which it is the nearest.
    found = matching(Angles(), ["0", "30", "52"], ["t14", "t16", "t100"])
    assert found == {"source_to_translation": pytest.approx(2 / 3), "translation_to_source": 1.0}


def test_a_turn_of_the_other_language_is_seen() -> None:
    sources = [str(angle) for angle in range(0, 360, 30)]
    translations = [f"t{angle}" for angle in range(0, 360, 30)]
    assert matching(Angles(10), sources, translations)["source_to_translation"] == 1.0
    assert matching(Angles(20), sources, translations)["source_to_translation"] == 0.0


def test_blocks_change_nothing_and_agree_with_sentence_transformers(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from builders import sentences

    encoder = TorchEncoder.load(tiny)
    sources = sentences(50)
    translations = [" ".join(text.split()[1:] + ["cat"]) for text in sources]
    whole = matching(encoder, sources, translations)
    theirs = TranslationEvaluator(sources, translations, show_progress_bar=False, write_csv=False)(encoder.model)
    assert 0.1 < whole["source_to_translation"] < 1
    assert whole["source_to_translation"] == pytest.approx(float(theirs["src2trg_accuracy"]))
    assert whole["translation_to_source"] == pytest.approx(float(theirs["trg2src_accuracy"]))
    monkeypatch.setattr(translation, "_BLOCK", 7)
    assert matching(encoder, sources, translations) == whole


@pytest.mark.parametrize(("left", "right"), [(["1"], []), ([], []), (["1", "2"], ["3"])])
def test_sides_of_unequal_length_are_refused(left: list[str], right: list[str]) -> None:
    message = f"{len(left)} sources, {len(right)} translations; need as many of both, at least 1"
    with pytest.raises(TextError) as caught:
        matching(Angles(), left, right)
    assert str(caught.value) == message


def write(path: Path, rows: list[tuple[str, str, float]]) -> Path:
    path.write_text("".join(f"{a},{b},{score}\n" for a, b, score in rows), encoding="utf-8")
    return path


ROWS = [("0", "5", 5.0), ("10", "25", 4.0), ("20", "65", 2.0), ("30", "110", 0.5)]


def test_both_directions_of_two_languages_are_averaged(tmp_path: Path) -> None:
    one = write(tmp_path / "en.csv", ROWS)
    # Of the other language's sentences, only the second ones are out of order.
    second = ["t5", "t65", "t25", "t110"]
    other = write(tmp_path / "de.csv", [(f"t{a}", b, s) for (a, _, s), b in zip(ROWS, second, strict=True)])
    cross = CrossLingualSts.read(one, other)
    assert cross.name == "en+de"
    # Forth: angles 5, 55, 5 + 0 ..., back: as the first language alone.
    forth = Sts("forth", cross.left.first, cross.right.second, cross.left.scores).spearman(Angles())
    back = Sts("back", cross.right.first, cross.left.second, cross.left.scores).spearman(Angles())
    assert (forth, back) == (pytest.approx(80.0), pytest.approx(100.0))
    assert cross.spearman(Angles()) == pytest.approx(90.0)
    assert cross.key != CrossLingualSts.read(other, one).key


def test_a_language_far_off_costs_the_cross_lingual_figure_only(tmp_path: Path) -> None:
    one = write(tmp_path / "en.csv", ROWS)
    other = write(tmp_path / "de.csv", [(f"t{a}", f"t{b}", s) for a, b, s in ROWS])
    cross, turned = CrossLingualSts.read(one, other), Angles(-40)
    assert cross.right.spearman(turned) == pytest.approx(100.0)
    assert cross.spearman(turned) == pytest.approx(60.0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[:3], "{de}: 3 pairs, {en} has 4; rows must correspond"),
        ([*ROWS[:2], ("20", "65", 3.0), ROWS[3]], "{de}: row 3: score 3, {en} has 2; rows must correspond"),
    ],
)
def test_files_of_other_rows_are_refused(tmp_path: Path, rows: list[tuple[str, str, float]], message: str) -> None:
    en, de = write(tmp_path / "en.csv", ROWS), write(tmp_path / "de.csv", rows)
    with pytest.raises(TextError) as caught:
        CrossLingualSts.read(en, de)
    assert str(caught.value) == message.format(en=en, de=de)


def test_copies_that_round_scores_correspond(tmp_path: Path) -> None:
    rounded = [(a, b, round(score - 0.004, 3)) for a, b, score in ROWS]
    en, de = write(tmp_path / "en.csv", ROWS), write(tmp_path / "de.csv", rounded)
    assert CrossLingualSts.read(en, de).spearman(Angles()) == pytest.approx(100.0)


def test_the_teacher_does_not_find_translations(minilm: Source, shared: Path) -> None:
    import gzip

    both = [
        gzip.decompress((shared / "parallel" / f"val.{language}.gz").read_bytes()).decode().splitlines()[:100]
        for language in ("en", "de")
    ]
    found = matching(TorchEncoder.load(minilm.folder), both[0], both[1])
    assert list(found.values()) == pytest.approx([0.35, 0.34], abs=0.011)
