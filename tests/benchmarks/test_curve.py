"""The curve holds what was measured: each figure is found again by the model made that way."""

import csv
import json
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beir import of_sentences
from builders import sentences
from typer.testing import CliRunner

from benchmarks.quality.curve import Curve, Judge, Point, Reduced
from benchmarks.quality.sts import Sts, read_sets
from benchmarks.report.curve_chart import picture
from compressor.artifact.folder import Artifact, Draft
from compressor.cli.app import app, guarded
from compressor.core.encoder import Vectors
from compressor.core.errors import CompressorError, RecipeError
from compressor.models.agreement import Heldout, neighbours_in_common
from compressor.models.sentence_model import TorchEncoder
from compressor.models.source import find
from compressor.texts.collections import Collection
from compressor.texts.corpus import Texts
from compressor.vectors.codes import Ranges, quantized, scored
from compressor.vectors.pca import Pca
from compressor.vectors.retrieval import retrieval, sides

FIGURES = Path(__file__).parents[2] / "docs" / "figures"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a file of texts and an STS file of random scores."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "texts.txt").write_text("\n".join(sentences(1000)))
    random, pairs = np.random.default_rng(0), sentences(160, seed=5)
    with (folder / "pairs.csv").open("w", newline="") as file:
        rows = zip(pairs[:80], pairs[80:], random.uniform(0, 5, 80).round(2), strict=True)
        csv.writer(file).writerows(rows)
    return folder / "texts.txt", folder / "pairs.csv"


@pytest.fixture(scope="module")
def made(tiny: Path, files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return the folder of a curve of the tiny model, and the results in it."""
    folder = tmp_path_factory.mktemp("curve") / "curve"
    arguments = ["curve", tiny, "--out", folder, "--texts", files[0], "--sts", files[1], "--dims", "20,8", "--truncate"]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    assert "20 int8, PCA" in result.output
    return folder, json.loads((folder / "curve.json").read_text())


def point(results: dict[str, Any], dim: int, precision: str, reduction: str = "pca") -> dict[str, Any]:
    wanted = {"dim": dim, "precision": precision, "reduction": reduction}
    (found,) = [row for row in results["points"] if wanted.items() <= row.items()]
    return found


def test_every_size_in_every_precision(made: tuple[Path, dict[str, Any]]) -> None:
    rows = made[1]["points"]
    assert [(row["dim"], row["reduction"]) for row in rows[::3]] == [
        *((dim, reduction) for dim in (8, 20) for reduction in ("pca", "truncation")),
        (32, "none"),
    ]
    assert [row["precision"] for row in rows] == ["float32", "int8", "binary"] * 5
    assert [row["bytes"] for row in rows if row["dim"] == 20] == [80, 20, 3] * 2


@pytest.mark.parametrize("dim", [8, 20])
def test_the_figures_are_those_of_the_reduced_model(
    made: tuple[Path, dict[str, Any]], tiny: Path, files: tuple[Path, Path], tmp_path: Path, dim: int
) -> None:
    corpus, results = Texts(source=str(files[0])).load(), made[1]
    teacher = TorchEncoder.load(tiny).encode(corpus.heldout)
    draft = Draft(tmp_path)
    Pca(dim=dim, rotate=True).run(tiny, corpus.train, Heldout(corpus.heldout, teacher), draft)
    encoder, sts = TorchEncoder.load(tmp_path), Sts.read(files[1])
    own = encoder.encode(corpus.heldout)
    ranges = Ranges.fit(encoder.encode(list(corpus.train)))
    for precision in ("float32", "int8", "binary"):
        row = point(results, dim, precision)

        class Coded:
            dim = encoder.dim
            max_length = 64

            def encode(self, texts: Sequence[str], batch_size: int = 32, form: Any = precision) -> Vectors:
                return scored(quantized(encoder.encode(texts), form, ranges), form, encoder.dim)

        assert row["sts"] == {"pairs": pytest.approx(sts.spearman(Coded()), abs=0.5)}
        near = neighbours_in_common(teacher, Coded().encode(corpus.heldout))
        assert row["neighbours_at_10"] == pytest.approx(near, abs=0.01)
        assert row["centered"] is draft.figures["centered"]
    assert point(results, dim, "float32")["neighbours_at_10"] == pytest.approx(neighbours_in_common(teacher, own))


def test_the_models_own_vectors_are_the_last_and_whole(
    made: tuple[Path, dict[str, Any]], tiny: Path, files: tuple[Path, Path]
) -> None:
    row = point(made[1], 32, "float32", "none")
    assert row["share"] == row["neighbours_at_10"] == 1
    assert row["pair_correlation"] == pytest.approx(1)
    assert row["sts"]["pairs"] == pytest.approx(Sts.read(files[1]).spearman(TorchEncoder.load(tiny)), abs=1e-3)
    eight = point(made[1], 8, "float32")
    assert eight["share"] == pytest.approx(eight["sts"]["pairs"] / row["sts"]["pairs"])


def test_components_keep_more_than_the_first_dimensions(made: tuple[Path, dict[str, Any]]) -> None:
    for dim in (8, 20):
        pca, cut = (point(made[1], dim, "float32", how)["neighbours_at_10"] for how in ("pca", "truncation"))
        assert pca > cut + 0.1


def test_more_bytes_keep_more(made: tuple[Path, dict[str, Any]]) -> None:
    for precision in ("float32", "int8", "binary"):
        kept = [point(made[1], dim, precision)["neighbours_at_10"] for dim in (8, 20)]
        assert kept[0] < kept[1]
    for dim in (8, 20):
        kept = [point(made[1], dim, precision)["neighbours_at_10"] for precision in ("binary", "int8", "float32")]
        assert kept[0] + 0.1 < kept[1] <= kept[2] + 0.02


def test_the_json_says_where_the_figures_come_from(made: tuple[Path, dict[str, Any]], tiny: Path) -> None:
    folder, results = made
    assert Artifact.open(folder).manifest["stage"] == "curve"
    assert results["model"] == {"name": str(tiny), "weights_sha256": find(str(tiny)).weights_sha256, "dim": 32}
    assert results["settings"]["dims"] == [20, 8]
    assert results["settings"]["truncate"] is True
    assert results["texts"]["fitted"] == 800
    assert results["texts"]["heldout"] == 100
    assert results["command"].split()[0] == "compressor"
    assert results["environment"]["versions"]["torch"]


def test_the_picture_has_a_line_for_each_precision(made: tuple[Path, dict[str, Any]]) -> None:
    folder, results = made
    drawn = (folder / "curve.svg").read_text()
    root = ET.fromstring(drawn)
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"float32", "int8", "binary", "float32, first components", "↑ STS pairs, Spearman × 100"} <= set(words)
    assert words.count("20") == 3
    assert len(root.findall("{http://www.w3.org/2000/svg}circle")) == 4 * 3
    assert f"{point(results, 8, 'int8')['sts']['pairs']:.4g} at 8 dimensions, 8 bytes" in drawn
    plain = results | {"points": [row | {"sts": {}} for row in results["points"] if row["reduction"] != "truncation"]}
    assert "rank correlation of similar held-out pairs" in picture(plain)
    assert "first components" not in picture(plain)
    assert picture(results | {"points": []}) == ""


def test_every_text_is_encoded_once(tiny: Path, files: tuple[Path, Path]) -> None:
    seen: list[str] = []

    class Counting(TorchEncoder):
        def encode(self, texts: Sequence[str], batch_size: int = 32) -> Vectors:
            seen.extend(texts)
            return super().encode(texts, batch_size)

    sts = Sts.read(files[1])
    judge = Judge.of(
        Counting(TorchEncoder.load(tiny).model), sentences(30), sentences(25, seed=8), sentences(20, seed=9), [sts]
    )
    assert seen == [*sentences(30), *sentences(25, seed=8), *sentences(20, seed=9), *sts.texts]
    assert {name: len(vectors) for name, vectors in judge.vectors.items()} == {
        "sample": 30,
        "dev": 25,
        "heldout": 20,
        f"sts {sts.key}": 160,
    }


@pytest.mark.parametrize("name", ["minilm-vectors", "minilm-l3-matryoshka-vectors"])
def test_committed_points_are_read_as_they_were_written(name: str) -> None:
    rows = json.loads((FIGURES / f"{name}.json").read_text("utf-8"))["points"]
    for row in rows:
        stated = row | {"retrieval": {}}  # of before collections were searched
        read = Point.read(stated)
        assert json.dumps(read.as_dict()) == json.dumps(stated)  # keys in their order
        assert read.reduced == Reduced(row["dim"], row["reduction"], row.get("centered"))
    assert {"centered" in row for row in rows} >= {False}


def test_sizes() -> None:
    assert Curve().sizes(384, 1000) == [32, 64, 96, 128, 192, 256]
    assert Curve().sizes(100, 1000) == [32, 64, 96]
    assert Curve(dims=(384, 16)).sizes(384, 1000) == [16]


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ((16, 500), "curve.dims = [16, 500]: 500 is not in 2..384, the length of the vectors"),
        ((16, 16), "curve.dims = [16, 16]: a size is repeated"),
        ((), "curve.dims = []: give at least one"),
        ((300,), "250 texts are too few to fit 300 components; at least 300 are needed"),
    ],
)
def test_bad_sizes(dims: tuple[int, ...], message: str) -> None:
    with pytest.raises(CompressorError) as caught:
        Curve(dims=dims).sizes(384, 250)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--dims", "8,99", "error: curve.dims = [8, 99]: 99 is not in 2..32, the length of the vectors"),
        ("--dims", "8,x", 'error: options: dims.1 = "x": input should be a valid integer'),
        ("--dims", "1", "error: options: dims.0 = 1: input should be greater than or equal to 2"),
        ("--sts", "none.csv", "error: none.csv: no such file"),
    ],
)
def test_what_is_refused_is_one_line_and_leaves_nothing(
    tiny: Path,
    files: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    value: str,
    message: str,
) -> None:
    words = ["curve", str(tiny), "--out", str(tmp_path / "curve"), "--texts", str(files[0]), option, value]
    monkeypatch.setattr(sys, "argv", ["compressor", *words])
    assert guarded(lambda: app(words)) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1] == message
    assert not list(tmp_path.iterdir())


def test_two_sts_files_of_one_name(files: tuple[Path, Path]) -> None:
    with pytest.raises(RecipeError, match="two files of one name; figures are told apart by it$"):
        read_sets((str(files[1]), str(files[1])), Path(), "curve.sts")


def test_without_sts_agreement_stands_alone(tiny: Path, files: tuple[Path, Path], tmp_path: Path) -> None:
    corpus = Texts(source=str(files[0])).load()
    results = Curve(dims=(8,), sample=100).run(find(str(tiny)), corpus, False, "compressor curve", Draft(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"curve.json", "curve.svg"}
    assert len(results["points"]) == 6
    assert {row["share"] for row in results["points"]} == {None}
    assert results["texts"]["fitted"] == 100


def test_sizes_are_measured_by_what_they_find(tiny: Path, tmp_path: Path) -> None:
    collection = Collection.read(of_sentences(tmp_path / "sentences"))
    encoder, texts = TorchEncoder.load(tiny), sentences(200)
    judge = Judge.of(encoder, texts[:150], texts[150:175], texts[175:], [], [collection])
    by = {point.precision: point.retrieval["sentences"] for point in judge.points(Reduced(32, "none"), judge.vectors)}
    assert by["float32"]["ndcg_at_10"] == pytest.approx(
        retrieval(collection, *sides(encoder, collection))["ndcg_at_10"]
    )
    assert "rescored" not in by["float32"]
    assert by["int8"]["ndcg_at_10"] == pytest.approx(by["float32"]["ndcg_at_10"], abs=3)
    # Four bytes of a vector find less than 128; ordered again by the queries in full, more.
    assert by["binary"]["ndcg_at_10"] < by["binary"]["rescored"]["ndcg_at_10"] <= by["float32"]["ndcg_at_10"] + 3
