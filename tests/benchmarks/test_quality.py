"""Quality is Spearman's correlation of cosines with people's scores; bad files are named with their row."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality.sts import Sts
from compressor.core.encoder import Vectors
from compressor.core.errors import TextError
from compressor.models.sentence_model import TorchEncoder
from compressor.models.source import Source


class Angles:
    """An encoder whose texts are angles in degrees."""

    dim, max_length = 2, 8

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> Vectors:
        radians = np.radians([float(text) for text in texts])
        return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "some-test.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


ROWS = 'a cat,a dog,3.5\n"one, two",three,0\n'


@pytest.mark.parametrize(
    "text",
    [
        ROWS,
        "sentence1,sentence2,score\n" + ROWS,
        "Sentence1, sentence2 ,SCORE\n" + ROWS,
        "\n" + ROWS.replace("\n", "\n\n"),
        ROWS.replace("\n", "\r\n"),
        "\ufeffsentence1,sentence2,score\n" + ROWS,
        "\ufeff" + ROWS,
    ],
    ids=["no header", "header", "header in other letters", "blank lines", "CRLF", "mark and header", "mark"],
)
def test_rows_are_read(text: str, tmp_path: Path) -> None:
    sts = Sts.read(write(tmp_path, text))
    assert (sts.name, sts.first, sts.second, sts.scores) == (
        "some-test",
        ["a cat", "one, two"],
        ["a dog", "three"],
        [3.5, 0.0],
    )
    assert sts.texts == ["a cat", "one, two", "a dog", "three"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ROWS + "x,y\n", "line 3: expected sentence1,sentence2,score, got ['x', 'y']"),
        (ROWS + "x,y,z,1\n", "line 3: expected sentence1,sentence2,score, got ['x', 'y', 'z', '1']"),
        ("a,b,1\nx,y,much\n" + ROWS, "line 2: expected sentence1,sentence2,score, got ['x', 'y', 'much']"),
        ("sentence1,sentence2,score\na,b,\n", "line 2: expected sentence1,sentence2,score, got ['a', 'b', '']"),
        (ROWS + "x,y,nan\n", "line 3: score nan is not a finite number"),
        (ROWS + "x,y,inf\n", "line 3: score inf is not a finite number"),
        ("", "0 pairs; at least 2 are needed"),
        ("sentence1,sentence2,score\n", "0 pairs; at least 2 are needed"),
        ("a,b,1\n", "1 pairs; at least 2 are needed"),
        ("a,b,2\nc,d,2.0\n", "every score is 2; there is nothing to rank"),
    ],
)
def test_a_bad_row_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(TextError) as caught:
        Sts.read(path)
    assert str(caught.value) == f"{path}: {message}"


def test_a_long_bad_row_is_cut(tmp_path: Path) -> None:
    with pytest.raises(TextError) as caught:
        Sts.read(write(tmp_path, "word " * 1000))
    assert len(str(caught.value)) < len(str(tmp_path)) + 200


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"nowhere\.csv: no such file$"):
        Sts.read(tmp_path / "nowhere.csv")
    with pytest.raises(TextError, match=r"some-test\.csv: line 1, byte 4 \(0xe9\) is not UTF-8$"):
        Sts.read(write(tmp_path, "café,thé,1\n".encode("latin-1")))
    with pytest.raises(TextError, match=r": a folder, not a text file$"):
        Sts.read(tmp_path)


def swallowed(**changed: str) -> str:
    """Return a hundred rows, those of the given lines changed."""
    return "\n".join(changed.get(f"line{i}", f"sentence {i} a,sentence {i} b,{i % 5}") for i in range(1, 101)) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            swallowed(line11='"open a,b,1', line61='x,"open b,2'),
            "line 11 is not readable as CSV (its quoted field goes",
        ),
        (swallowed(line11='"open a,b,1', line61='x,y",2'), "line 11: expected sentence1,sentence2,score"),
        (swallowed(line11='"open a,b,1', line61='x",y,2'), "line 11: a quoted field reaches to line 61 and holds rows"),
        (swallowed(line11='"open a,b,1', line12='x",y,2'), "line 11: a quoted field reaches to line 12 and holds rows"),
        (swallowed(line11='x,"open b,1', line61='y,z",2'), "line 11: a quoted field reaches to line 61 and holds rows"),
        (swallowed(line11='"open a,b,1'), "line 11 is not readable as CSV (its quoted field goes on to line 100"),
        (swallowed(line11='"a" b,c,1'), "line 11 is not readable as CSV (',' expected after '\"')"),
        (swallowed(line11="a\0,b,1"), "line 11 holds a NUL byte"),
        ("a,b,1\r\n" * 3 + "c\rd,e,2\r\n", "line 4 is not readable as CSV (new-line character seen in unquoted field"),
        ("a,b,1\nc,d,2\n".encode("utf-16"), "UTF-16, not UTF-8"),  # type: ignore[list-item]
        ("a,b,1\nc,d,2\n".encode("utf-16-be"), "UTF-16, not UTF-8"),  # type: ignore[list-item]
    ],
)
def test_no_row_is_lost_in_silence(text: str | bytes, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(TextError) as caught:
        Sts.read(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_fields_of_several_lines_and_quotes_inside(tmp_path: Path) -> None:
    rows = '"a cat,\nwhich ""sits""","one, two\nthree",1\nhe said "so",a 5" disk,2\n'
    sts = Sts.read(write(tmp_path, rows))
    assert sts.first == ['a cat,\nwhich "sits"', 'he said "so"']
    assert sts.second == ["one, two\nthree", 'a 5" disk']


def test_tabs_between(tmp_path: Path) -> None:
    path = tmp_path / "some.tsv"
    path.write_text('sentence1\tsentence2\tscore\na, "b\tc\t1\nd\te\t2\n', "utf-8")
    assert Sts.read(path).first == ['a, "b', "d"]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([5.0, 4.0, 2.0, 0.5, 0.0], 100.0),
        ([0.0, 1.0, 2.0, 4.0, 4.5], -100.0),
        # Ranks 1 2 3 4 5 against 2 1 3 5 4: 1 - 6 * 4 / (5 * 24) = 0.8.
        ([4.0, 5.0, 2.0, 0.0, 0.5], 80.0),
    ],
)
def test_spearman_of_known_ranks(scores: list[float], expected: float) -> None:
    # Angles between the pairs grow, so cosines fall.
    sts = Sts("angles", ["0", "10", "20", "30", "40"], ["5", "25", "65", "100", "160"], scores)
    assert sts.spearman(Angles()) == pytest.approx(expected, abs=1e-9)


def test_the_key_covers_all_that_counts() -> None:
    sts = Sts("a", ["x", "y"], ["z", "w"], [1.0, 2.0])
    assert replace(sts, name="b").key == sts.key
    others = [
        replace(sts, first=["x", "v"]),
        replace(sts, second=["z", "v"]),
        replace(sts, scores=[1.0, 2.5]),
        replace(sts, first=sts.second, second=sts.first),
    ]
    assert len({sts.key, *(other.key for other in others)}) == 5


def test_the_teacher_on_some_of_the_benchmark(minilm: Source, shared: Path) -> None:
    sts = Sts.read(shared / "stsb" / "en-test.csv")
    some = Sts("some", sts.first[:300], sts.second[:300], sts.scores[:300])
    assert some.spearman(TorchEncoder.load(minilm.folder)) == pytest.approx(93.37, abs=0.02)


@pytest.mark.slow
def test_the_teacher_on_the_benchmark(minilm: Source, shared: Path) -> None:
    sts = Sts.read(shared / "stsb" / "en-test.csv")
    assert len(sts.scores) == 1379
    assert sts.spearman(TorchEncoder.load(minilm.folder)) == pytest.approx(82.03, abs=0.02)
