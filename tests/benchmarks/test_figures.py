"""The README and the docs hold the committed figures, and say so when they do not."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks.pages import answers, figures, limits, searching, sizes, students
from benchmarks.report import peers
from benchmarks.report.markdown import source
from compressor.core.errors import ArtifactError, TextError

ROOT = Path(__file__).parents[2]
PAGES = (students.PAGE, students.LAYERS, students.VECTORS, answers.PAGE, answers.PICTURE, peers.PAGE,
         limits.PAGE, searching.PAGE)  # fmt: skip


@pytest.fixture
def results() -> dict[str, Any]:
    """Return the committed results by name."""
    paths = {name: ROOT / figures.FIGURES / f"{name}.json" for name in (*figures.NAMES, *figures.OPTIONAL)}
    return {name: json.loads(path.read_text("utf-8")) for name, path in paths.items() if path.exists()}


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Return a folder with the pages that are written into, the committed results, and no page or picture."""
    shutil.copytree(ROOT / figures.FIGURES, tmp_path / figures.FIGURES)
    for page in (figures.README, *sizes.LINKS):
        shutil.copy(ROOT / page, tmp_path / page)
    return tmp_path


def test_what_is_committed_is_up_to_date(results: dict[str, Any]) -> None:
    assert figures.update(results, ROOT, check=True) == []


def test_pages_and_pictures_are_written_once(results: dict[str, Any], copied: Path) -> None:
    optional = [page for name, pages in figures.OPTIONAL.items() if name in results for page in pages]
    written = [copied / path for path in (figures.PICTURE, *PAGES, *optional)]
    assert figures.update(results, copied, check=True) == written
    assert not any(path.exists() for path in written)
    assert figures.update(results, copied, check=False) == written
    assert figures.update(results, copied, check=True) == []
    for path in written:
        assert path.read_text("utf-8") == (ROOT / path.relative_to(copied)).read_text("utf-8")


@pytest.mark.parametrize(("name", "page"), [(figures.RESULTS, figures.README), ("minilm-layers", students.PAGE)])
def test_a_table_is_stale_when_a_figure_changes(results: dict[str, Any], copied: Path, name: str, page: Path) -> None:
    figures.update(results, copied, check=False)
    changed = copy.deepcopy(results)
    changed[name]["bench"]["systems"][-1]["sts"]["en-test"] = 12.34
    assert copied / page in figures.update(changed, copied, check=True)
    figures.update(changed, copied, check=False)
    assert "| 12.34 |" in (copied / page).read_text("utf-8")


def test_a_picture_is_stale_when_it_is_another(results: dict[str, Any], copied: Path) -> None:
    figures.update(results, copied, check=False)
    (copied / figures.PICTURE).write_text("<svg/>", "utf-8")
    assert figures.update(results, copied, check=True) == [copied / figures.PICTURE]


def test_the_page_holds_every_kind_of_student(results: dict[str, Any]) -> None:
    page = students.pages(results, source, figures.table)[students.PAGE]
    layers = results["minilm-layers"]["bench"]["systems"]
    counts = {row["layers"] for row in layers}
    assert counts >= {0, 1, 2, 3, 6}
    assert len(layers) == 1 + 2 * len(counts)  # the teacher, and each in fp32 and int8
    for row in layers:
        assert f"{row['sts']['en-test']:.2f}" in page
    for name in students.NAMES[-2:]:
        tried = {point["reduction"] for point in results[name]["points"]}
        hidden = "pca" if "truncation" in tried else "truncation"
        for point in results[name]["points"]:
            assert point["reduction"] == hidden or f"| {point['sts']['en-test']:.2f} |" in page
    german = results["minilm-german"]["languages"]["int8"]
    assert f"| {german['sts'][0]['new']:.2f} |" in page
    for ways in german["matching"].values():
        assert f"{100 * ways['source_to_translation']:.1f} % / {100 * ways['translation_to_source']:.1f} %" in page


def test_the_page_of_readers_holds_every_system_step_and_variant(results: dict[str, Any]) -> None:
    page = answers.pages(results, source)[answers.PAGE]
    run, variants = results[answers.RESULTS], results[answers.ABLATION]["rows"]
    for row in (*run["bench"]["systems"], *run["story"]):
        assert f"| {row['answers']['f1']:.2f} | {row['answers']['exact']:.2f} |" in page
    for row in variants:
        assert f"| {row['group']} | {row['name']} | {row['f1']:.2f} | {row['exact']:.2f} |" in page
    for one in run["teacher"]["tries"]:
        assert f"| {one['f1']:.2f} | {one['exact']:.2f} |" in page
    assert {row["group"] for row in variants} == {"", "ingredients", "temperature", "weight", "twice the epochs"}


def test_the_page_of_peers_has_each_of_them(results: dict[str, Any]) -> None:
    page = peers.pages(results, source)[peers.PAGE]
    rows = results[peers.NAME]["bench"]["systems"]
    assert len(rows) > 10
    for row in rows:
        assert f"{row['offline']['ratio']:.2f}×" in page if "offline" in row else row["reason"][:40] in page


def test_the_page_of_limits_has_each_length_figure_and_count(results: dict[str, Any]) -> None:
    page = limits.pages(results, source)[limits.PAGE]
    for name in limits.LIMITS:
        for row in results[name]["limit"]["by_length"]:
            assert f"{100 * row['of_peak']['int8']:.1f}\N{NO-BREAK SPACE}%" in page
            assert f"{row['texts_per_second']:,.0f}" in page
    for trial in results[limits.SEARCH]["trials"]:
        assert f"| {trial['name']} |" in page
    for row in results[limits.GROWTH]["growth"]["rows"]:
        assert f"| {row['count']:,} | {row['texts_per_second']:,.0f} |" in page
    for scenario in ("offline", "single_stream", "server"):
        for row in results[limits.LOADGEN]["loadgen"][scenario].values():
            assert f"| {row['ratio']:.3f} [{row['low']:.3f}" in page


def test_a_readme_without_markers_is_refused(results: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# compressor\n", "utf-8")
    with pytest.raises(TextError, match="no place for the figures between <!-- figures:start --> and"):
        figures.update(results, tmp_path, check=False)


def test_the_command_exits_with_one_line_when_stale(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(copied)
    assert figures.main(["--check"]) == 1
    assert capsys.readouterr().err.endswith("docs/searching.md: stale; run python -m benchmarks.pages.figures\n")
    assert figures.main([]) == 0
    assert figures.main(["--check"]) == 0
    (copied / "docs/figures/minilm-light.json").unlink()
    assert figures.main(["--check"]) == 1
    assert capsys.readouterr().err == "docs/figures/minilm-light.json: no such results\n"


def test_broken_results_are_named(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{", "utf-8")
    with pytest.raises(ArtifactError, match=r"results\.json: not readable as JSON"):
        figures._read(tmp_path / "results.json")
