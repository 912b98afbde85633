"""The page and the README's figures say what the results say, and nothing that they do not."""

import copy
import io
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from measured import circles
from rich.console import Console

from benchmarks.pages import figures
from benchmarks.report import charts
from benchmarks.report.gains import Gains
from benchmarks.report.page import as_toml, print_table, write_report
from benchmarks.report.results import COSINE, F1, similarity, spearman

STS = spearman("en-test")


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


def test_headline_is_computed(results: dict[str, Any], tmp_path: Path) -> None:
    assert similarity(results) == STS
    gains = Gains.of(results, STS)
    assert gains.smaller == pytest.approx(5.0)
    assert gains.faster == pytest.approx(8.13)
    assert gains.sooner == pytest.approx(7.9 / 1.37)
    assert gains.kept == pytest.approx(81.70 / 82.03)
    headline = "5.0× smaller, 8.1× faster, 99.6\u00a0% of the teacher's quality"
    assert gains.headline(STS) == headline
    assert f"<h1>{headline.replace(chr(39), '&#39;')}</h1>" in page(results, tmp_path)


def test_headline_owns_up_to_a_loss(results: dict[str, Any]) -> None:
    artifact = results["bench"]["systems"][-1]
    artifact["offline"]["ratio"], artifact["size_bytes"] = 0.5, 181_800_000
    assert Gains.of(results, STS).headline(STS).startswith("2.0× larger, 2.0× slower, ")


def test_headline_without_test_sets_gives_the_cosine(results: dict[str, Any]) -> None:
    for row in [*results["bench"]["systems"], *results["story"]]:
        row["sts"] = {}
    results["bench"]["systems"][0]["agreement"] = None
    assert similarity(results) == COSINE
    assert Gains.of(results, COSINE).headline(COSINE).endswith("faster, cosine 0.962 to the teacher")
    assert len(circles(charts.quality_against_speed(results, COSINE))) == 5


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


@pytest.mark.parametrize("measured", ["results", "reader_results"])
def test_any_figure_may_be_null(request: pytest.FixtureRequest, measured: str, tmp_path: Path) -> None:
    results: dict[str, Any] = request.getfixturevalue(measured)
    for path in every_path(results):
        if isinstance(path[-1], int) or any(isinstance(key, int) and key > 1 for key in path):
            continue  # of a list, the first two: the teacher and another
        changed = copy.deepcopy(results)
        *parents, last = path
        inner = changed
        for key in parents:
            inner = inner[key]
        inner[last] = None
        assert page(changed, tmp_path).endswith("</html>"), path
        figures.table(changed)
        print_table(changed, Console(file=io.StringIO()))


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


def test_page_says_which_bars_no_model_could_miss(results: dict[str, Any], tmp_path: Path) -> None:
    before = page(results, tmp_path)
    assert "off" not in before.split("<h2>Verification</h2>")[1].split("</table>")[0]
    row = next(row for row in results["verify"] if row["bar"] is not None and row["passed"])
    row |= {"bar": -1.0, "direction": ">=", "off": True}
    judged = sum(row["bar"] is not None for row in results["verify"]) - 1
    text = page(results, tmp_path)
    assert f" of {judged} checks hold. A figure without a bar is reported, not judged; bars that no model" in text
    assert "bars that no model could miss are off: 1." in text
    assert '<td class="failed">bar off</td>' in text


def test_page_says_how_near_the_limit_is(results: dict[str, Any], tmp_path: Path) -> None:
    text = page(results, tmp_path)
    assert "on the same 2 threads: fp32 130, int8 1,802 billions of operations a second" in text
    assert "<th>of the int8 peak</th><td>53.3\N{NO-BREAK SPACE}%</td><td>49.7\N{NO-BREAK SPACE}%</td>" in text
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
    assert "The machine was not quiet" not in page(results, tmp_path), "by a hundredth"
    results["bench"]["a_a"]["offline"] |= {"ratio": 1.32, "low": 1.04, "high": 1.33}
    assert "The machine was not quiet: onnx-int8 against itself came to 1.32× [1.04–1.33]" in page(results, tmp_path)
    console = Console(file=io.StringIO(), width=80)
    print_table(results, console)
    assert "the machine was not quiet: measure again" in console.file.getvalue()  # type: ignore[attr-defined]


def test_page_shows_the_server_scenario_where_it_was_measured(results: dict[str, Any], tmp_path: Path) -> None:
    assert "<h2>Server</h2>" not in page(results, tmp_path)
    artifact = results["bench"]["systems"][-1]
    artifact["server"] = {"rate": 2000.0, "bound_ms": 20.0, "latency_ms_p50": 2.41, "latency_ms_p99": 19.3}
    text = page(results, tmp_path)
    share = 100 * 2000 / artifact["offline"]["texts_per_second"]
    assert "within 20.0 ms of when they were due" in text
    assert f"<td>2,000</td><td>{share:.1f}\N{NO-BREAK SPACE}%</td>" in text


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_a_readers_page_says_what_its_task_does(reader_results: dict[str, Any], tmp_path: Path) -> None:
    text = text_of(page(reader_results, tmp_path))
    assert "5.0× smaller, 8.1× faster, 97.9 % of the teacher's F1" in text.replace("&#39;", "'")
    for words in (
        "F1 50.10 teacher 51.20, 0 to 100",
        "EM 25.05 teacher 25.60, exact match, 0 to 100",
        "Questions a second 4,187 8.13× [7.80–8.37] of the teacher&#39;s 515",
        "One question, p50 1.37 ms",
        "Question and context in, answer out. The ratio is the median over 5 rounds of questions a second",
        "Tokenizing, windows, the graph and the choice of the span all count.",
        "over 1,761 questions.",
        "How the teacher was chosen learning rate epochs F1, held-out questions EM 0.0001 2 50.00 25.00",
        "Distil-1 layers 0, 2, 5 of 6; trained 12.0 min 17.4 69.6 12.30 6.15 12.2 min",
    ):
        assert words in text, words
    assert "vectors out" not in text
    assert "Cosine" not in text


def test_a_readers_page_has_the_sections_of_every_task(reader_results: dict[str, Any], tmp_path: Path) -> None:
    reader_results["verify"][0]["passed"] = False
    server = {"rate": 2000.0, "bound_ms": 20.0, "latency_ms_p50": 2.41, "latency_ms_p99": 19.3}
    reader_results["bench"]["systems"][-1]["server"] = server
    html = page(reader_results, tmp_path)
    text = text_of(html)
    for words in (
        "1 of 2 checks failed",
        "for questions a second and 0.99× [0.97–1.01], 98 % sure for the latency of one question",
        "Questions a second by batch size System 32 128",
        "Figures by length System Tokens p50 ms Questions/s Ratio to teacher teacher, PyTorch fp32 encode 16 7.90 451",
        "Questions arrive at random times (Poisson)",
        "ONNX Runtime int8 2,000 47.8 % 2.41 19.3",
        "questions/s 6,000 700",
        "Questions. test.json: 500 questions, 14.1 tokens on average (median 13, p99 37).",
    ):
        assert words in text.replace("</b>", ""), words
    assert html.count("<svg") == 4  # F1 against speed, F1 and exact match, latency by length, the stages
    assert len(circles(charts.quality_against_speed(reader_results, F1))) == 5


def test_earlier_results_of_readers_have_their_page(reader_results: dict[str, Any], tmp_path: Path) -> None:
    """Once they had the number of questions alone, and no A/A, limit or lengths."""
    bench = reader_results["bench"]
    for name in ("texts", "a_a", "limit"):
        del bench[name]
    for row in bench["systems"]:
        del row["by_length"]
    bench["questions"] = 500
    text = text_of(page(reader_results, tmp_path))
    assert "All 500 questions are there at once" in text
    assert "A/A" not in text
    assert "Figures by length" not in text


def test_the_unit_is_what_the_benchmark_says(reader_results: dict[str, Any], tmp_path: Path) -> None:
    reader_results["bench"]["unit"] = "pairs"
    for row in reader_results["bench"]["systems"]:
        row["offline"]["pairs_per_second"] = row["offline"].pop("questions_per_second") + 1000
    text = text_of(page(reader_results, tmp_path))
    assert "Pairs a second 5,187" in text
    assert "One pair, p50" in text


def test_a_task_that_is_not_known_has_what_all_have(results: dict[str, Any], tmp_path: Path) -> None:
    results["task"] = "summarization"
    text = text_of(page(results, tmp_path))
    assert "minilm-l3-d256-int8 5.0× smaller, 8.1× faster Measured against" in text
    assert "ONNX Runtime int8 CPUExecutionProvider 18.2 4,187 8.13× [7.80–8.37] 32 1.37 1.51 2.19 265 0.410" in text
    assert "Quality" not in text
    console = Console(file=io.StringIO(), width=80)
    print_table(results, console)
    assert "4,187" in console.file.getvalue()  # type: ignore[attr-defined]


def test_the_terminal_has_a_readers_scores(reader_results: dict[str, Any]) -> None:
    console = Console(file=io.StringIO(), width=80)
    print_table(reader_results, console)
    lines = [line.strip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    row = next(line for line in lines if line.startswith("onnx-int8"))
    assert row.split() == ["onnx-int8", "18.2", "50.10", "25.05", "4,187", "8.13×", "1.37/2.19", "265"]
    assert lines[lines.index(row) + 1] == "[7.80..8.37]"
    assert "F1: 0 to 100; EM: exact match, 0 to 100; to teacher: median [lowest..highest]" in " ".join(lines)
    assert any(line.startswith("A/A: onnx-int8 against itself") and line.endswith("questions/s") for line in lines)


def test_a_table_on_a_page(results: dict[str, Any], tmp_path: Path) -> None:
    """Its titles break where they say, the artifact's row is coloured, a note stands below the name."""
    html = page(results, tmp_path).split("<h2>Systems</h2>")[1]
    assert "<th>System</th><th>Size<br>MB</th><th>Quality</th>" in html
    rows = re.findall(r"<tr.*?</tr>", html.split("</table>")[0], flags=re.DOTALL)
    assert [row.startswith('<tr class="artifact">') for row in rows] == [False] * 5 + [True]
    name = "<th>ONNX Runtime int8<small>CPUExecutionProvider</small></th><td>18.2</td><td>81.70</td><td>4,187</td>"
    assert name in rows[-1]


def test_page_shows_what_is_found(results: dict[str, Any], tmp_path: Path) -> None:
    for place, system in enumerate(results["bench"]["systems"]):
        own = {"ndcg_at_10": 40.0 - place, "recall_at_10": 30.0, "mrr_at_10": 66.6}
        other = {"ndcg_at_10": 90.0 - place} | ({"on_teachers_index": {"ndcg_at_10": 77.7}} if place else {})
        system["retrieval"] = {"abstracts": own, "<b>questions": other}
    last = len(results["bench"]["systems"]) - 1
    write_report(results, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert f"{65 - last:.1f}" in page
    assert f"{100 * (65 - last) / 65:.1f}" in page  # of the teacher's 65.0
    assert "teacher\u2019s 65.0" in page or "teacher&#39;s 65.0" in page
    assert "Retrieval by collection" in page
    assert "77.7" in page
    assert "<b>questions" not in page
    out = io.StringIO()
    print_table(results, Console(file=out, width=100))
    assert "nDCG@10" in out.getvalue()
    assert f"{65 - last:.1f}" in out.getvalue()
