"""An artifact over HTTP is measured beside the same work in process."""

import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from builders import sentences
from rich.console import Console

from benchmarks.over_http.figures import OverHttpFigures
from benchmarks.over_http.measure import OverHttp, _Run
from benchmarks.report.limits import print_over_http
from compressor.core.errors import DependencyError, PeerError, RecipeError

TEXTS = sentences(64)


def test_without_the_packages_one_line_says_how_to_get_them(
    servable: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(DependencyError, match=r"^uvicorn: not installed; pip install 'compressor\[serve\]'$"):
        OverHttp().measure(servable["fp32"], TEXTS)


def test_fewer_texts_than_a_request_has_are_refused(servable: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", sys)
    line = r"^texts_a_request = 65: must be at most 64, as many texts as there are$"
    with pytest.raises(RecipeError, match=line):
        OverHttp(texts_a_request=65).measure(servable["fp32"], TEXTS)


def test_a_server_of_ours_that_fails_is_named(servable: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.speed.throughput.SETTLE_SECONDS", 0.0)
    run = _Run(OverHttp(threads=1), servable["fp32"], TEXTS)
    run._folder = Path("/nowhere")
    with pytest.raises(PeerError, match=r"^compressor serve: its server ended with status 1: error: "):
        run._turn("compressor serve")


@pytest.mark.packages
def test_both_are_measured_and_told_of(servable: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("starlette", "uvicorn", "orjson", "prometheus_client"):
        pytest.importorskip(name, reason=f"{name} is not installed: make test-serve")
    monkeypatch.setattr("benchmarks.speed.throughput.SETTLE_SECONDS", 0.0)
    monkeypatch.setenv("COMPRESSOR_API_KEY", "of another server")
    load = OverHttp(seconds=0.3, rounds=1, queries=20, clients=2, threads=1)
    found = load.measure(servable["fp32"], TEXTS)
    served = found.served
    assert 0.1 < served.start_seconds < 60
    assert found.served_share == pytest.approx(served.texts_per_second / found.encode_texts_per_second)
    assert 0.001 < found.served_share < 2
    assert served.single_ms_p50 > 0.05
    assert 0 < served.load_ms_p50 <= served.load_ms_p99
    assert served.texts_per_second > served.singles_per_second  # a request of 32 texts costs less than 32 of one
    assert OverHttpFigures.read(found.as_dict()) == replace(found, peers=[])
    told = io.StringIO()
    print_over_http(found.as_dict(), Console(file=told, width=120))
    assert "share of encode" in told.getvalue()
