"""The page of what bounds an artifact, from the results that are committed: peaks, operators, what was tried."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.report.limits import growth, limit, loadgen, peaks
from benchmarks.report.markdown import Source, page
from benchmarks.report.results import Row
from exporters.search.report import summary, trials
from exporters.search.results import Searched

PAGE = Path("docs/limits.md")
LIMITS = ("limit-6-layers", "limit-3-layers")
SEARCH, GROWTH, LOADGEN = "search-6-layers", "growth", "loadgen"
NAMES = (*LIMITS, SEARCH, GROWTH, LOADGEN)
_TEMPLATE = Path(__file__).with_name("templates") / "limits.md.j2"


def pages(results: Mapping[str, Row], source: Source) -> dict[Path, str]:
    """Write the page from the ``results`` by name (``NAMES``); ``source`` says where figures come from."""
    searched = Searched.read(results[SEARCH])
    text = page(_TEMPLATE).render(
        limits=[_limit(name, results[name], source) for name in LIMITS],
        chosen=summary(searched),
        trials=trials(searched),
        search_source=source(results[SEARCH]),
        growth=growth(results[GROWTH]["growth"]).markdown(),
        grown=results[GROWTH]["growth"],
        growth_source=source(results[GROWTH]),
        loadgen=loadgen(results[LOADGEN]["loadgen"]).markdown(),
        bound=results[LOADGEN]["loadgen"]["server_p99_ms"],
        loadgen_source=source(results[LOADGEN]),
    )
    return {PAGE: text}


def _limit(name: str, results: Row, source: Source) -> dict[str, Any]:
    found = results["limit"]
    return {
        "title": name.removeprefix("limit-").replace("-", " "),
        "peaks": peaks(found),
        "table": limit(found).markdown(),
        "threads": found["threads"],
        "source": source(results),
    }
