"""Fixtures of the tests of exporters."""

import shutil
from pathlib import Path

import pytest
from others import export_as_others


@pytest.fixture(scope="module")
def plain(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tiny teacher as optimum exports it; never write into it."""
    return export_as_others(tiny, tmp_path_factory.mktemp("others") / "plain")


@pytest.fixture
def own(plain: Path, tmp_path: Path) -> Path:
    """Return a copy to write into."""
    return Path(shutil.copytree(plain, tmp_path / "own"))
