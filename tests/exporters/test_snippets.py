"""Every snippet of another library or language that a model card shows is run by a test of that consumer."""

import re
from pathlib import Path

import pytest

from exporters.publish.template import CONSUMERS

TESTS = Path(__file__).parents[1]
PAGE = CONSUMERS.read_text(encoding="utf-8")
HEADINGS = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)


def test_every_consumer_has_one_snippet() -> None:
    sections = PAGE.split("\n## ")[1:]
    assert [section.count("```") for section in sections] == [2] * len(HEADINGS)


@pytest.mark.parametrize("heading", HEADINGS)
def test_every_snippet_is_run_with_its_consumer(heading: str) -> None:
    sources = [path.read_text(encoding="utf-8") for path in (TESTS / "consumers").glob("test_*.py")]
    assert sum(f'snippet("{heading}")' in source for source in sources) >= 1
