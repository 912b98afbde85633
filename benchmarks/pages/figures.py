"""Keep the README's table, the pictures and the pages true to the committed results:
``python -m benchmarks.pages.figures``."""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.pages import answers, cuda, limits, searching, sizes, students
from benchmarks.report import peers
from benchmarks.report.charts import quality_against_speed
from benchmarks.report.markdown import source
from benchmarks.report.results import Row, found_of, similarity, systems
from benchmarks.report.table import Table
from benchmarks.report.tables import LATENCY, MODEL, RATIO, RETRIEVAL, SIZE, TEXTS, quality
from compressor.core.errors import ArtifactError, CompressorError, TextError
from compressor.core.files import replace_text

FIGURES = Path("docs/figures")
RESULTS = "minilm-l3-d256-int8"
NAMES = (RESULTS, *students.NAMES, *answers.NAMES, peers.NAME, *limits.NAMES, *searching.NAMES)
OPTIONAL = {cuda.NAME: (cuda.PAGE,), sizes.NAME: (sizes.PAGE, sizes.PICTURE)}
"""Results that are there once somebody measured them, with what is written of them, which is not there without them."""
README = Path("README.md")
PICTURE = Path("docs/quality-against-speed.svg")


def update(results: Mapping[str, Row], folder: Path, check: bool) -> list[Path]:
    """Bring the README's table, the pages and all pictures in ``folder`` up to date.

    ``results`` by name: ``NAMES``, and what there is of ``OPTIONAL``. Returns what was stale; ``check`` writes nothing.
    Raises TextError for a page without the markers of what is written into it.
    """
    readme = folder / README
    texts = {
        readme: _between(readme, "figures", f"\n{table(results[RESULTS])}\n"),
        folder / PICTURE: quality_against_speed(results[RESULTS], similarity(results[RESULTS])),
    }
    texts |= {folder / path: text for path, text in students.pages(results, source, table).items()}
    for module in (answers, peers, limits, searching, cuda, sizes):
        texts |= {folder / path: text for path, text in module.pages(results, source).items()}
    links = {folder / path: link if sizes.NAME in results else "" for path, link in sizes.LINKS.items()}
    texts |= {path: _between(path, "sizes", link) for path, link in links.items()}
    stale = [path for path, text in texts.items() if text and not _holds(path, text)]
    pages = (folder / page for name, pages in OPTIONAL.items() if name not in results for page in pages)
    unfounded = [page for page in pages if page.exists()]
    if not check:
        for path in stale:
            replace_text(path, texts[path])
        for path in unfounded:
            path.unlink()
    return stale + unfounded


def table(results: dict[str, Any]) -> str:
    """Write the systems as a Markdown table, and below it where the figures come from."""
    rows = systems(results)
    searched = [RETRIEVAL] if any(found_of(row) for row in rows) else []
    columns = [MODEL, SIZE, quality(similarity(results)), *searched, TEXTS, RATIO, LATENCY]
    return f"{Table(columns, rows, lambda row: row is rows[-1]).markdown()}\n\n{source(results)}"


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text("utf-8") == text


def _between(path: Path, name: str, words: str) -> str:
    """Return a page's text with ``words`` between its markers of a name."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise TextError(f"{path}: no such file") from error
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    before, opened, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise TextError(f"{path}: no place for the {name} between {start} and {end}")
    return f"{before}{start}{words}{end}{after}"


def _read(path: Path) -> dict[str, Any]:
    try:
        results: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: no such results") from error
    except ValueError as error:
        raise ArtifactError(f"{path}: not readable as JSON: {error}") from error
    return results


def main(arguments: list[str] | None = None) -> int:
    """Update the README and the docs of the current folder, or say what is stale; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages.figures", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if anything is stale")
    check = parser.parse_args(arguments).check
    try:
        there = [name for name in OPTIONAL if (FIGURES / f"{name}.json").exists()]
        results = {name: _read(FIGURES / f"{name}.json") for name in (*NAMES, *there)}
        stale = update(results, Path(), check)
    except CompressorError as error:
        print(error, file=sys.stderr)
        return 1
    if check and stale:
        print(f"{', '.join(map(str, stale))}: stale; run python -m benchmarks.pages.figures", file=sys.stderr)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
