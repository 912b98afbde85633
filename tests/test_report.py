"""The page, the pictures and the README's figures say what the results say, and nothing that they do not."""

import copy
import io
import re
import tomllib
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks import charts, figures
from benchmarks.charts import Box, Measure, Scale, place, significant
from benchmarks.report import Gains, as_toml, print_table, write_report

SVG = "{http://www.w3.org/2000/svg}"


def agreement(mean: float) -> dict[str, float]:
    return {
        "cosine_mean": mean,
        "cosine_p1": mean - 0.02,
        "cosine_min": mean - 0.1,
        "neighbours_at_10": mean - 0.12,
    }


def system(name: str, label: str, size: int, sts: float, ratio: float, latency: float) -> dict[str, Any]:
    rounds = [515.0 * ratio * wobble for wobble in (0.97, 1.0, 1.02)]
    return {
        "name": name,
        "label": label,
        "provider": "CPUExecutionProvider" if name.startswith("onnx") else "PyTorch CPU",
        "size_bytes": size,
        "load_seconds": 0.41,
        "peak_memory_bytes": 3 * size + 210_000_000,
        "agreement": agreement(1.0 if name == "teacher" else 0.962),
        "sts": {"en-test": sts, "de-test": sts - 21.5},
        "offline": {
            "batch_size": 32,
            "by_batch_size": {"32": rounds[1], "128": 0.8 * rounds[1]},
            "texts_per_second": rounds[1],
            "rounds": rounds,
            "ratio": ratio,
            "ratio_min": ratio if name == "teacher" else 0.96 * ratio,
            "ratio_max": ratio if name == "teacher" else 1.03 * ratio,
        },
        "single_stream": {
            "queries": 500,
            "latency_ms_p50": latency,
            "latency_ms_p90": 1.1 * latency,
            "latency_ms_p99": 1.6 * latency,
        },
        "by_length": [
            {
                "tokens": tokens,
                "texts_per_second": 515 * ratio * 14 / tokens,
                "latency_ms_p50": latency * (0.6 + tokens / 40),
                "ratio": ratio,
            }
            for tokens in (16, 64, 128, 256)
        ],
    }


def limit(tokens: int, rate: int) -> dict[str, Any]:
    gops = rate * tokens * 0.01
    return {
        "tokens": tokens,
        "batch_size": 32,
        "texts_per_second": float(rate),
        "operations_per_text": tokens * 1e7,
        "gops": gops,
        "of_peak": {"fp32": gops / 130, "int8": gops / 1802},
        "operators": [
            {"operator": "QAttention", "nodes": 3, "ms": 30.0, "share": 0.6, "gops": 90.0, "of_peak": 0.1},
            {"operator": "BiasGelu", "nodes": 3, "ms": 20.0, "share": 0.4},
        ],
    }


def stage(name: str, what: str, layers: int, dim: int, size: int, sts: float) -> dict[str, Any]:
    return {
        "stage": name,
        "what": what,
        "layers": layers,
        "dim": dim,
        "parameters": size // 4,
        "size_bytes": size,
        "seconds": 731.0,
        "agreement": agreement(1.0 if name == "teacher" else 0.962),
        "sts": {"en-test": sts},
    }


@pytest.fixture
def results() -> dict[str, Any]:
    """A run as the pipeline writes it: three layers, 256 dimensions, int8."""
    return {
        "name": "minilm-l3-d256-int8",
        "command": "compressor run recipes/minilm-l3-d256-int8.toml",
        "created": "2025-11-21T02:14:09+00:00",
        "seconds": 1460.0,
        "recipe": {
            "name": "minilm",
            "distil": {"layers": [0, 2, 5], "lr": 3e-4, "queries": None},
            "pca": {"dim": 256},
        },
        "environment": {
            "cpu": "Intel(R) Xeon(R) Processor @ 2.70GHz",
            "cores": 2,
            "features": ["avx512_vnni", "amx_int8"],
            "memory_bytes": 8_200_000_000,
            "os": "Linux 6.1, Debian 12",
            "python": "3.11.2",
            "versions": {"torch": "2.13.0", "transformers": "5.0.1", "onnxruntime": "1.31.1"},
            "providers": ["CPUExecutionProvider"],
        },
        "teacher": {
            "name": "all-MiniLM-L6-v2",
            "source": "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
            "weights_sha256": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        },
        "texts": {"source": "docstrings", "count": 374_000, "heldout": 2000, "fingerprint": "9f2c41d07be1"},
        "story": [
            stage("teacher", "as it comes", 6, 384, 90_900_000, 82.03),
            stage("distil", "layers 0, 2, 5 of 6; trained 12.0 min", 3, 384, 69_600_000, 82.48),
            stage("pca", "256 of 384 dimensions, mean kept", 3, 256, 70_000_000, 82.34),
            stage("quantize", "PyTorch dynamic int8", 3, 256, 53_900_000, 80.90),
            stage("fp32", "one graph with pooling, Dense and Normalize", 3, 256, 70_100_000, 82.34),
            stage("int8", "MatMul per channel, embedding table per row", 3, 256, 18_180_000, 81.70),
        ],
        "verify": [
            {
                "artifact": "fp32",
                "check": "parity with PyTorch",
                "figure": "largest difference",
                "value": 3.1e-7,
                "bar": 1e-5,
                "direction": "<=",
                "passed": True,
            },
            {
                "artifact": "int8",
                "check": "agreement",
                "figure": "mean cosine",
                "value": 0.9874,
                "bar": 0.98,
                "direction": ">=",
                "passed": True,
            },
            {
                "artifact": "int8",
                "check": "batch invariance",
                "figure": "lowest cosine",
                "value": 0.9991,
                "bar": None,
                "direction": ">=",
                "passed": True,
            },
        ],
        "graphs": {
            "fp32": {"MatMul": 26, "Add": 31, "LayerNormalization": 7, "Softmax": 3, "Gather": 6},
            "int8": {"MatMulInteger": 20, "MatMul": 6, "DynamicQuantizeLinear": 14, "Add": 31, "Gather": 6},
        },
        "bench": {
            "texts": {
                "source": "STS benchmark",
                "count": 2758,
                "tokens_mean": 14.1,
                "tokens_p50": 13,
                "tokens_p99": 37,
            },
            "rounds": 5,
            "threads": 2,
            "a_a": {
                "system": "onnx-int8",
                "offline": {"ratio": 1.006, "low": 0.981, "high": 1.024, "confidence": 0.96875, "holds": True},
                "single_stream": {"ratio": 0.99, "low": 0.97, "high": 1.01, "confidence": 0.97852, "holds": True},
            },
            "limit": {
                "threads": 2,
                "peaks": {"fp32_gflops": 130.0, "int8_gops": 1802.0},
                "by_length": [limit(16, 6000), limit(128, 700)],
            },
            "systems": [
                system("teacher", "teacher, PyTorch fp32 encode", 90_900_000, 82.03, 1.0, 7.9),
                system("student", "student, PyTorch fp32", 70_000_000, 82.34, 1.86, 4.3),
                system("torch-int8", "student, PyTorch dynamic int8", 53_900_000, 80.90, 2.31, 3.6),
                system("onnx-fp32", "ONNX Runtime fp32", 70_100_000, 82.34, 3.04, 2.2),
                system("onnx-int8", "ONNX Runtime int8", 18_180_000, 81.70, 8.13, 1.37),
            ],
        },
    }


class Loads(HTMLParser):
    """Collect what a browser would fetch for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [str(value) for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "data")]


def page(results: dict[str, Any], folder: Path) -> str:
    write_report(results, folder / "report.html")
    return (folder / "report.html").read_text("utf-8")


def circles(svg: str) -> list[tuple[float, float, float]]:
    found = ElementTree.fromstring(svg).iter(f"{SVG}circle")
    return [(float(c.get("cx", "")), float(c.get("cy", "")), float(c.get("r", ""))) for c in found]


def test_headline_is_computed(results: dict[str, Any], tmp_path: Path) -> None:
    gains = Gains.of(results)
    assert gains.smaller == pytest.approx(5.0)
    assert gains.faster == pytest.approx(8.13)
    assert gains.sooner == pytest.approx(7.9 / 1.37)
    assert gains.kept == pytest.approx(81.70 / 82.03)
    headline = "5.0× smaller, 8.1× faster, 99.6\u00a0% of the teacher's quality"
    assert gains.headline(Measure.choose(results)) == headline
    assert f"<h1>{headline.replace(chr(39), '&#39;')}</h1>" in page(results, tmp_path)


def test_headline_owns_up_to_a_loss(results: dict[str, Any]) -> None:
    artifact = results["bench"]["systems"][-1]
    artifact["offline"]["ratio"], artifact["size_bytes"] = 0.5, 181_800_000
    assert Gains.of(results).headline(Measure("en-test")).startswith("2.0× larger, 2.0× slower, ")


def test_headline_without_test_sets_gives_the_cosine(results: dict[str, Any]) -> None:
    for row in [*results["bench"]["systems"], *results["story"]]:
        row["sts"] = {}
    results["bench"]["systems"][0]["agreement"] = None
    assert Measure.choose(results) == Measure(None)
    assert Gains.of(results).headline(Measure(None)).endswith("faster, cosine 0.962 to the teacher")
    assert len(circles(charts.quality_against_speed(results))) == 5


def test_page_shows_the_figures(results: dict[str, Any], tmp_path: Path) -> None:
    html = page(results, tmp_path)
    for figure in (
        "8.13× [7.80–8.37]",
        "18.2 MB",
        "1.37 ms",
        "≤ 1e-05",
        "3.1e-07",
        "374,000",
        "✓ passed",
        "6.0",
    ):
        assert figure in html
    assert html.count("<svg") == 3
    assert "checks failed" not in html


def test_page_names_failed_checks(results: dict[str, Any], tmp_path: Path) -> None:
    results["verify"][1]["passed"] = False
    html = page(results, tmp_path)
    assert "1 of 2 checks failed" in html
    assert "✗ failed" in html


def test_page_loads_nothing(results: dict[str, Any], tmp_path: Path) -> None:
    html = page(results, tmp_path)
    loads = Loads()
    loads.feed(html)
    assert loads.found == ["data:,"]
    assert not re.search(r"@import|url\(|<script|<iframe|<object|\son\w+=", html)


def test_page_escapes_names(results: dict[str, Any], tmp_path: Path) -> None:
    hostile = "<script>alert('x')</script>"
    results["name"] = results["teacher"]["name"] = results["command"] = hostile
    results["bench"]["systems"][-1]["label"] = results["story"][1]["what"] = hostile
    results["verify"][0]["figure"] = results["recipe"]["name"] = hostile
    results["graphs"]["int8"][hostile] = 3
    html = page(results, tmp_path)
    assert "<script" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize(
    ("key", "heading"),
    [
        ("verify", "Verification"),
        ("story", "Stage by stage"),
        ("graphs", "Graph operators"),
        ("bench", "Systems"),
        ("bench", "How it was measured"),
        ("recipe", "Recipe"),
    ],
)
@pytest.mark.parametrize("absent", ["missing", "null", "empty"])
def test_section_without_data_is_left_out(
    results: dict[str, Any], tmp_path: Path, key: str, heading: str, absent: str
) -> None:
    mark = f">{heading}</"
    assert mark in page(results, tmp_path)
    full = results.pop(key)
    if absent != "missing":
        results[key] = None if absent == "null" else type(full)()
    assert mark not in page(results, tmp_path)


def test_nothing_measured_still_makes_a_page(tmp_path: Path) -> None:
    html = page({"name": "bare"}, tmp_path)
    assert "<h1>bare</h1>" in html
    assert "<svg" not in html
    assert "<h2>" not in html


def every_path(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, inner in items for found in [(*path, key), *every_path(inner, (*path, key))]]


def test_any_figure_may_be_null(results: dict[str, Any], tmp_path: Path) -> None:
    for path in every_path(results):
        if isinstance(path[-1], int):
            continue
        changed = copy.deepcopy(results)
        *parents, last = path
        inner = changed
        for key in parents:
            inner = inner[key]
        inner[last] = None
        assert page(changed, tmp_path).endswith("</html>"), path
        figures.table(changed)
        print_table(changed, Console(file=io.StringIO()))


def test_pictures_are_well_formed(results: dict[str, Any]) -> None:
    results["bench"]["systems"][1]["label"] = 'a & b < "c"'
    for draw in (charts.quality_against_speed, charts.latency_by_length, charts.story):
        root = ElementTree.fromstring(draw(results))
        assert root.get("viewBox", "").startswith("0 0 820 ")
        assert root.get("role") == "img"
        named = {element.get("id") for element in root if element.tag in (f"{SVG}title", f"{SVG}desc")}
        assert named == set(root.get("aria-labelledby", "").split())
        assert "prefers-color-scheme:dark" in (root.findtext(f"{SVG}style") or "")


def test_points_stand_where_their_figures_say(results: dict[str, Any]) -> None:
    systems = results["bench"]["systems"]
    points = circles(charts.quality_against_speed(results))
    by_speed = sorted(zip([s["offline"]["ratio"] for s in systems], points, strict=True))
    assert all(slow[1][0] < fast[1][0] for slow, fast in pairwise(by_speed))
    by_quality = sorted(zip([s["sts"]["en-test"] for s in systems], points, strict=True))
    assert all(worse[1][1] >= better[1][1] for worse, better in pairwise(by_quality))
    areas = [radius**2 / s["size_bytes"] for s, (_, _, radius) in zip(systems, points, strict=True)]
    assert areas == pytest.approx([areas[0]] * 5, rel=1e-3)


def test_latency_rises_on_the_page_as_in_the_figures(results: dict[str, Any]) -> None:
    points = circles(charts.latency_by_length(results))
    assert len(points) == 5 * 4
    for line in (points[i : i + 4] for i in range(0, 20, 4)):
        assert all(a[0] < b[0] and a[1] > b[1] for a, b in pairwise(line))


def test_story_bars_are_as_long_as_the_stages_are_large(results: dict[str, Any]) -> None:
    bars = [r for r in ElementTree.fromstring(charts.story(results)).iter(f"{SVG}rect") if r.get("rx")]
    widths = [float(bar.get("width", "")) for bar in bars]
    sizes = [row["size_bytes"] for row in results["story"]]
    assert [w / widths[0] for w in widths] == pytest.approx([s / sizes[0] for s in sizes], abs=1e-4)


def test_labels_keep_clear_of_each_other() -> None:
    marks = [Box(x - 12, y - 12, x + 12, y + 12) for x, y in [(200, 200), (215, 202), (190, 215), (700, 60), (60, 380)]]
    bounds = Box(40, 40, 800, 400)
    labels = place(marks, [(180.0, 32.0)] * 5, marks, bounds)
    assert all(a.overlap(b) == 0 for a, b in combinations(labels, 2))
    assert all(label.overlap(mark) == 0 for label in labels for mark in marks)
    assert all(label.overlap(bounds) == pytest.approx(180 * 32) for label in labels)


@pytest.mark.parametrize(
    ("low", "high", "log"), [(1, 8.13, True), (0.9, 1.3, True), (80.9, 82.3, False), (0.9, 200, True)]
)
def test_ticks_are_few_and_inside(low: float, high: float, log: bool) -> None:
    scale = Scale.around([low, high], 0, 100, log=log)
    assert 3 <= len(scale.ticks()) <= 9
    assert all(0 <= scale(tick) <= 100 for tick in scale.ticks())


@pytest.mark.parametrize(
    ("value", "text"), [(0.3124, "0.312"), (7.914, "7.91"), (90.9, "90.9"), (1234.5, "1,234"), (0, "0.00")]
)
def test_figures_keep_three_digits(value: float, text: str) -> None:
    assert significant(value) == text


def test_recipe_reads_as_toml(results: dict[str, Any]) -> None:
    text = as_toml(results["recipe"])
    assert "# queries: not set" in text
    assert tomllib.loads(text) == {
        "name": "minilm",
        "distil": {"layers": [0, 2, 5], "lr": 3e-4},
        "pca": {"dim": 256},
    }


def test_terminal_table_has_a_row_a_system(results: dict[str, Any]) -> None:
    results["bench"]["systems"][1]["name"] = "[bold]student"
    console = Console(file=io.StringIO(), width=80)
    print_table(results, console)
    lines = [line.strip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    row = next(line for line in lines if line.startswith("onnx-int8"))
    assert row.split() == ["onnx-int8", "18.2", "81.70", "4,187", "8.13×", "1.37/2.19", "265"]
    assert lines[lines.index(row) + 1] == "[7.80..8.37]"
    assert any(line.startswith("[bold]student") for line in lines)


def test_readme_cells_hold_hostile_names(results: dict[str, Any]) -> None:
    results["bench"]["systems"][0]["label"] = "a | <script>\n| b"
    assert "| a \\| &lt;script&gt; \\| b | 90.9 MB |" in figures.table(results)


def test_page_is_replaced_whole(results: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = page(results, tmp_path)

    def broken(source: object, target: object) -> None:
        raise OSError("gone")

    monkeypatch.setattr("os.replace", broken)
    results["name"] = "other"
    with pytest.raises(OSError, match="gone"):
        write_report(results, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text("utf-8") == before
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_page_says_how_near_the_limit_is(results: dict[str, Any], tmp_path: Path) -> None:
    text = page(results, tmp_path)
    assert "on the same 2 threads: fp32 130, int8 1,802 billions of operations a second" in text
    assert "<th>Share of the int8 peak</th><td>53.3\N{NO-BREAK SPACE}%</td><td>49.7\N{NO-BREAK SPACE}%</td>" in text
    assert text.count("60.0\N{NO-BREAK SPACE}% (10.0\N{NO-BREAK SPACE}%)") == 2
    assert text.count("<td>40.0\N{NO-BREAK SPACE}%</td>") == 2
    del results["bench"]["limit"]
    assert "The limit" not in page(results, tmp_path)


def test_page_states_what_noise_is(results: dict[str, Any], tmp_path: Path) -> None:
    text = page(results, tmp_path)
    assert "1.01× [0.98–1.02], 97\N{NO-BREAK SPACE}% sure for texts a second" in text
    assert "0.99× [0.97–1.01], 98\N{NO-BREAK SPACE}% sure for the latency of one text" in text
    assert "1 lies outside" not in text
    results["bench"]["a_a"]["offline"]["holds"] = False
    assert "1 lies outside: measure again on a quieter machine" in page(results, tmp_path)


def test_page_shows_the_server_scenario_where_it_was_measured(results: dict[str, Any], tmp_path: Path) -> None:
    assert "<h2>Server</h2>" not in page(results, tmp_path)
    artifact = results["bench"]["systems"][-1]
    artifact["server"] = {"rate": 2000.0, "bound_ms": 20.0, "latency_ms_p50": 2.41, "latency_ms_p99": 19.3}
    text = page(results, tmp_path)
    share = 100 * 2000 / artifact["offline"]["texts_per_second"]
    assert "within 20.0 ms of when they were due" in text
    assert f"<td>2,000</td><td>{share:.1f}\N{NO-BREAK SPACE}%</td>" in text
