"""What is picked from a fixed trade-off, by each rule, in which words; what the picture draws of it."""

import copy
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.report.results import systems
from benchmarks.tradeoff import chart as tradeoff_chart
from benchmarks.tradeoff.recommend import Bounds, Choice, Recommendation, knee, pareto, recommend
from benchmarks.tradeoff.table import FORMAT, table, with_share
from compressor.cli.app import app, guarded
from compressor.core.errors import ArtifactError, GateError, RecipeError

SVG = "{http://www.w3.org/2000/svg}"
Give = Callable[..., Recommendation]


def row(
    layers: int, sts: float, speed: tuple[float, float, float], size: float, gate: str = "passed"
) -> dict[str, Any]:
    low, ratio, high = speed
    name = f"{layers}-layers-int8"
    return {
        "name": name,
        "label": "1 layer, ONNX int8" if layers == 1 else f"{layers} layers, ONNX int8",
        "layers": layers,
        "precision": "int8",
        "size_bytes": size * 1e6,
        "sts": {"en-test": sts},
        "agreement": {"cosine_mean": sts / 85, "neighbours_at_10": 0.7},
        "offline": {"texts_per_second": 390 * ratio, "ratio": ratio, "ratio_min": low, "ratio_max": high},
        "single_stream": {"latency_ms_p50": 3 / ratio, "latency_ms_p99": 4 / ratio},
        "train_seconds": 600.0,
        "gate": gate,
        "artifact": f"artifacts/{name}" if gate == "passed" else None,
    }


@pytest.fixture
def results() -> dict[str, Any]:
    """A trade-off as the command writes it. 4 layers: worse than 3, slower and larger. 2: misses the gate."""
    teacher = row(6, 80.0, (1.0, 1.0, 1.0), 90.0) | {"name": "teacher", "label": "teacher", "precision": None}
    own = [
        row(6, 80.4, (4.8, 5.0, 5.2), 24.0),
        row(5, 79.8, (5.7, 6.0, 6.3), 22.0),
        row(4, 79.0, (7.0, 7.2, 7.4), 21.0),
        row(3, 79.4, (8.4, 8.8, 9.2), 19.0),
        row(2, 78.0, (11.0, 12.0, 13.0), 17.0, "missed: verify int8: agreement: cosine_mean = 0.8, must be >= 0.9"),
        row(1, 72.0, (18.0, 20.0, 22.0), 15.0),
    ]
    measure = {"sts": "en-test"}
    rows = with_share([teacher | {"gate": None, "artifact": None}, *own], measure)
    return {
        "format": FORMAT,
        "name": "minilm",
        "command": "compressor tradeoff r.toml",
        "sts": [{"name": "en-test", "pairs": 1379}],
        "measure": measure,
        "bench": {"texts": {"count": 2000, "source": "en-test"}, "systems": rows},
    }


@pytest.fixture
def give(results: dict[str, Any], tmp_path: Path) -> Give:
    """Write the trade-off and recommend from it, the options as a person types them."""

    def pick(**options: str) -> Recommendation:
        (tmp_path / "tradeoff.json").write_text(json.dumps(results))
        return recommend(tmp_path, Bounds.read(**options))

    return pick


@pytest.mark.parametrize(
    ("options", "name", "why"),
    [
        ({"quality": "0.99"}, 3, "quality ≥ 99 %: the fastest of the 3 rows on the Pareto front that keep it"),
        ({"quality": "99.6%"}, 5, "quality ≥ 99.6 %: the fastest of the 2 rows on the Pareto front that keep it"),
        ({"speed": "6x"}, 5, "speed ≥ 6×: the best in quality of the 3 rows on the Pareto front that keep it; in its "
         "slowest round 5.70×"),
        ({"speed": "9"}, 1, "speed ≥ 9×: the only row on the Pareto front that keeps it"),
        ({"size": "20 MB"}, 3, "size ≤ 20.0 MB: the best in quality of the 2 rows on the Pareto front that keep it"),
        ({"quality": "0.9", "speed": "5x"}, 1, "quality ≥ 90 %, speed ≥ 5×: the smallest of the 4 rows on the Pareto "
         "front that keep it"),
        ({"quality": "0.95", "size": "23MB"}, 3, "quality ≥ 95 %, size ≤ 23.0 MB: the fastest of the 2 rows on the "
         "Pareto front that keep it"),
        ({"speed": "5.5x", "size": "23MB"}, 5, "speed ≥ 5.5×, size ≤ 23.0 MB: the best in quality of the 3 rows on the "
         "Pareto front that keep it"),
        ({"quality": "0.9", "speed": "7x", "size": "23MB"}, 3, "quality ≥ 90 %, speed ≥ 7×, size ≤ 23.0 MB: the best "
         "in quality of the 2 rows on the Pareto front that keep it"),
        ({}, 3, "no bound given: the knee of the Pareto front, farthest above the line from its best in quality to its "
         "fastest (speed on a log scale), of 4 on it"),
    ],
)  # fmt: skip
def test_each_rule_and_its_words(give: Give, options: dict[str, str], name: int, why: str) -> None:
    found = give(**options)
    assert found.pick["name"] == f"{name}-layers-int8"
    assert found.why == why


def test_what_is_picked_and_what_it_costs(give: Give, tmp_path: Path) -> None:
    assert give(quality="0.99").lines() == [
        "3 layers, ONNX int8: 99.2 % of the teacher's quality, 8.80× [8.40–9.20] its speed, 19.0 MB",
        "why: quality ≥ 99 %: the fastest of the 3 rows on the Pareto front that keep it",
        "given up: 0.60 points of STS benchmark test, Spearman × 100, of the teacher's 80.00",
        "next better: 5 layers, ONNX int8: 0.40 points more; 1.47× slower, 1.16× larger",
        f"artifact: {tmp_path / 'artifacts' / '3-layers-int8'}",
    ]


def test_nothing_given_up_and_nothing_better(give: Give) -> None:
    found = give(quality="1")
    assert found.pick["name"] == "6-layers-int8"
    assert found.given_up == "no quality: 0.40 points of STS benchmark test, Spearman × 100 above the teacher's 80.00"
    assert found.next_better == "none; no row that passed has a better quality"


def test_only_what_passed_and_no_other_beats(give: Give) -> None:
    assert give().front == [f"{n}-layers-int8" for n in (6, 5, 3, 1)]


def test_overlapping_ranges_are_equal_in_speed(give: Give, results: dict[str, Any]) -> None:
    five, three = systems(results)[2], systems(results)[4]
    five["offline"] |= {"ratio": 8.6, "ratio_min": 8.0, "ratio_max": 9.0}
    found = give(quality="0.99")
    assert found.pick["name"] == "5-layers-int8", "3 layers is faster by its median alone"
    assert found.why.endswith("; equal in speed (ranges overlap), and not better in quality: 3 layers, ONNX int8")
    assert "equal in speed (ranges overlap), 1.16× larger" in give(speed="5", size="20MB").next_better
    three["size_bytes"] = five["size_bytes"]
    assert "3-layers-int8" not in give().front, "equal in speed and size, better in quality"


def choice(share: float, ratio: float, size: float = 1.0, spread: float = 0.0) -> Choice:
    return Choice("", "", share, ratio, ratio - spread, ratio + spread, size, "", share)


def test_pareto_front() -> None:
    best, middle, fast = choice(1, 1, 3), choice(0.9, 4, 2), choice(0.5, 8, 1)
    worse = [choice(0.9, 3, 2), choice(0.8, 4, 2), choice(0.9, 4, 2.5), choice(0.89, 4.5, 2, spread=1)]
    assert pareto([best, *worse, middle, fast]) == [best, middle, fast]
    assert pareto([choice(1, 1), choice(1, 1)]) == [choice(1, 1)] * 2, "neither is better"


def test_knee() -> None:
    ends = [choice(1, 1), choice(0.5, 16)]
    assert knee([*ends, choice(0.9, 8), choice(0.97, 2)]) == choice(0.9, 8)
    assert knee([*ends, choice(0.55, 2)]) == ends[0], "below the line from end to end"
    assert knee(ends[:1]) == ends[0]


def test_nothing_keeps_the_bounds(give: Give, tmp_path: Path) -> None:
    with pytest.raises(GateError) as caught:
        give(quality="0.98", speed="10x")
    assert str(caught.value) == (
        f"{tmp_path}: nothing keeps quality ≥ 98 %, speed ≥ 10×; closest is 1 layer, ONNX int8: 90.0 % of the "
        "teacher's quality, 20.0× [18.00–22.00] its speed, 15.0 MB, which misses --quality"
    )


def test_no_row_passed(give: Give, results: dict[str, Any], tmp_path: Path) -> None:
    for one in systems(results):
        one["gate"] = "missed: parity"
    with pytest.raises(GateError, match=f"^{tmp_path}: no row passed the gate; nothing to recommend$"):
        give()


def test_quality_by_agreement_where_no_sts_was_measured(give: Give, results: dict[str, Any]) -> None:
    results["measure"] = {"agreement": "cosine_mean"}
    results["bench"]["systems"] = with_share(systems(results), results["measure"])
    found = give(quality="0.93")
    assert found.pick["name"] == "3-layers-int8"
    assert found.given_up == "0.0659 of mean cosine to the teacher, of the teacher's 1.0000"
    assert found.next_better.startswith("5 layers, ONNX int8: 0.0047 more; ")


@pytest.mark.parametrize(
    ("given", "bounds"),
    [
        ({"quality": "0.99"}, Bounds(quality=0.99)),
        ({"quality": "99%"}, Bounds(quality=0.99)),
        ({"quality": "1"}, Bounds(quality=1.0)),
        ({"speed": "10"}, Bounds(speed=10.0)),
        ({"speed": "2.5x"}, Bounds(speed=2.5)),
        ({"speed": "3×"}, Bounds(speed=3.0)),
        ({"size": "10MB"}, Bounds(size=10e6)),
        ({"size": "10 MiB"}, Bounds(size=10 * 2**20)),
        ({"size": "1.5gb"}, Bounds(size=1.5e9)),
        ({"size": "20_000_000"}, Bounds(size=20e6)),
        ({"size": "1,500.5 kB"}, Bounds(size=1_500_500)),
        ({"speed": "1,000x"}, Bounds(speed=1000.0)),
        ({"size": "512 kB"}, Bounds(size=512e3)),
        ({"size": "1e6"}, Bounds(size=1e6)),
    ],
)
def test_bounds_are_read(given: dict[str, str], bounds: Bounds) -> None:
    assert Bounds.read(**given) == bounds


@pytest.mark.parametrize("value", ["99", "0", "-1", "1.01", "nan", "most", "", "101%", "0.9x", "0,99"])
def test_bad_quality(value: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Bounds.read(quality=value)
    allowed = "a share of the teacher's above 0 and at most 1, as 0.99 or 99%"
    assert str(caught.value) == f"--quality {value}: must be {allowed}"


@pytest.mark.parametrize("value", ["0", "-2x", "inf", "fast", "10y", "x", "1e999", "1,5x", "1_5"])
def test_bad_speed(value: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Bounds.read(speed=value)
    assert str(caught.value) == f"--speed {value}: must be a factor above 0, as 10 or 10x"


@pytest.mark.parametrize(
    "value", ["0MB", "ten", "10 pounds", "MB", "-1", "1.2.3MB", "13,5MB", "1,2345MB", "1_000,000", "1000,000"]
)
def test_bad_size(value: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Bounds.read(size=value)
    assert str(caught.value) == f"--size {value}: must be a size above 0, as 10MB, 10 MiB or a count of bytes"


def test_no_trade_off_there(tmp_path: Path) -> None:
    file = tmp_path / "tradeoff.json"
    with pytest.raises(ArtifactError, match="no such trade-off; `compressor tradeoff` writes it$"):
        recommend(tmp_path, Bounds())
    file.write_text("{")
    with pytest.raises(ArtifactError, match="not readable as a trade-off"):
        recommend(file, Bounds())
    file.write_text("{}")
    with pytest.raises(ArtifactError, match="format is not compressor-tradeoff/1; not a trade-off$"):
        recommend(file, Bounds())


def test_the_command(give: Give, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = give(quality="0.99")
    parts = ["pick", "bounds", "summary", "why", "given_up", "next_better", "front", "artifact"]
    assert list(wanted.as_dict()) == parts
    assert wanted.as_dict()["bounds"] == {"quality": 0.99, "speed": None, "size": None, "retrieval": None}
    shown = CliRunner().invoke(app, ["recommend", str(tmp_path), "--quality", "0.99", "--json"])
    assert json.loads(shown.stdout) == wanted.as_dict()
    file = str(tmp_path / "tradeoff.json")
    assert guarded(lambda: app(["recommend", file, "--quality", "0.99"])) == 0
    assert capsys.readouterr().out.splitlines() == wanted.lines()
    assert guarded(lambda: app(["recommend", file, "--speed", "100x"])) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert guarded(lambda: app(["recommend", file, "--size", "big"])) == 1
    line = "error: --size big: must be a size above 0, as 10MB, 10 MiB or a count of bytes"
    assert capsys.readouterr().err.strip() == line


def words(svg: str) -> str:
    drawing = ElementTree.fromstring(svg)
    return "\n".join(text.text or "" for text in drawing.iter(f"{SVG}text"))


def test_the_picture_holds_every_row_and_the_published_points(results: dict[str, Any]) -> None:
    svg = tradeoff_chart.picture(results)
    for name in ("teacher", "6 layers", "5 layers", "4 layers", "3 layers", "2 layers, gate missed", "1 layer"):
        assert name in words(svg).splitlines()
    circles = [*ElementTree.fromstring(svg).iter(f"{SVG}circle")]
    assert len(circles) == len(systems(results)) + len(tradeoff_chart.PEERS)
    assert "layers of stsb-roberta-base on a V100 against its own 12; same test" in words(svg)
    assert "2 layers, gate missed: 12.0×, 97.5 %, 17.0 MB" in svg


def test_published_points_are_left_out_on_another_data_set(results: dict[str, Any]) -> None:
    results["sts"][0]["pairs"] = 250
    svg = tradeoff_chart.picture(results)
    assert len([*ElementTree.fromstring(svg).iter(f"{SVG}circle")]) == len(systems(results))
    assert "V100" not in words(svg)


def test_no_picture_of_nothing(results: dict[str, Any]) -> None:
    alone = copy.deepcopy(results)
    alone["bench"]["systems"] = alone["bench"]["systems"][:1]
    assert tradeoff_chart.picture(alone) == ""


def test_a_row_of_the_table(results: dict[str, Any]) -> None:
    lines = table(results).splitlines()
    assert lines[0].startswith("| layers kept | STS benchmark test, Spearman × 100 | share of the teacher's |")
    assert lines[6] == (
        "| 3 layers, ONNX int8 | 79.40 | 99.2 % | 0.9341 | 0.700 | 3,432 | 8.80× [8.40–9.20] | 0.341 / 0.455 ms "
        "| 19.0 MB | 10.0 min |"
    )


def test_retrieval_is_a_bound_of_its_own(results: dict[str, Any], give: Give) -> None:
    rows = systems(results)
    for place, found in enumerate((40.0, 39.6, 39.2, 38.0, 36.0, 33.0, 30.0)):
        rows[place]["retrieval"] = {"a": {"ndcg_at_10": found - 5}, "b": {"ndcg_at_10": found + 5}}
    results["bench"]["systems"] = with_share(rows, results["measure"])
    assert systems(results)[1]["retrieval_share"] == pytest.approx(0.99)
    best = give(retrieval="97%")
    assert best.pick["name"] == "5-layers-int8"  # the fastest of those that keep it
    assert best.summary.startswith("5 layers, ONNX int8: 99.8 % of the teacher's quality, 98.0 % of what it finds,")
    assert "retrieval ≥ 97 %" in best.why
    # 4 layers is beaten by 3 in all but what it finds, and so stays on the front.
    assert "4-layers-int8" in best.front
    with pytest.raises(GateError, match=r"nothing keeps retrieval ≥ 99\.5 %"):
        give(retrieval="0.995")
    text = table(results)
    assert "| retrieval, nDCG@10 × 100 | share of what the teacher finds |" in text
    assert "| 39.6 | 99.0 % |" in text


def test_a_bound_that_was_not_measured_is_refused(give: Give) -> None:
    with pytest.raises(RecipeError, match=r"^--retrieval: .* was measured without collections; give bench\.retrieval"):
        give(retrieval="0.9")
    with pytest.raises(RecipeError, match=r"^--retrieval 2: must be a share of the teacher's above 0"):
        give(retrieval="2")
