"""The page of families says of each what the code says of it."""

from pathlib import Path

import pytest
import transformers

from benchmarks.pages.families import FAMILIES, Family, page

HAS_ALL = all(hasattr(transformers, f"{name}Config") for name in FAMILIES)


@pytest.mark.skipif(not HAS_ALL, reason=f"transformers {transformers.__version__} lacks a family")
def test_the_page_is_what_the_code_gives() -> None:
    assert (Path(__file__).parents[2] / "docs" / "families.md").read_text("utf-8") == page()


def test_of_some_families() -> None:
    bert, albert, mpnet = (Family.of(name) for name in ("Bert", "Albert", "MPNet"))
    assert (bert.reasons, bert.fused) == ([], True)
    assert albert.possible.uncut
    assert not mpnet.possible.uncut + mpnet.possible.unfitted + mpnet.possible.unnarrowed
    assert mpnet.possible.unheaded == "mpnet: its layers share a bias a head"
    assert mpnet.fused
