"""What is measured has types: each writes the JSON that its readers know, and reads it again."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benched import SERVED, benched, offline, system_figures

from benchmarks.peers.results import AtBest, BesideFigures, Loaded, PeerAtLength, PeerFigures, PeerRow, ToPeer
from benchmarks.results import BenchFigures, MeasuredOn, Quality
from benchmarks.speed.figures import Attempt, Footprint, HighestRate, Offline, Ratio, SingleStream
from benchmarks.speed.growth import Grown
from benchmarks.speed.limit import Reached
from benchmarks.speed.loadgen import Compared
from benchmarks.speed.turns import AgainstItself
from compressor.vectors.retrieval import Found

FIGURES = Path(__file__).parents[2] / "docs" / "figures"
RUNS = ("minilm-l3-d256-int8", "minilm-l1", "minilm-german", "minilm-layers", "minilm-qa", "peers")


def committed(name: str) -> Any:
    return json.loads((FIGURES / f"{name}.json").read_text("utf-8"))


def as_read(figures: Any) -> Any:
    """Return figures as they come out of a file."""
    return json.loads(json.dumps(figures))


def ordered(figures: Any) -> str:
    """Return figures as text in which the order of keys shows."""
    return json.dumps(figures, indent=1)


SYSTEM = {
    "name": "onnx-int8",
    "label": "the onnx-int8",
    "provider": "CPUExecutionProvider",
    "stage": "int8",
    "size_bytes": 1000,
    "threads": 2,
    "imports_seconds": 0.5,
    "load_seconds": 0.25,
    "peak_memory_bytes": 70_000_000,
    "load_threads": 2,
    "offline": {
        "batch_size": 32,
        "by_batch_size": {"8": 100.0, "32": 200.0},
        "texts_per_second": 200.0,
        "rounds": [150.0, 250.0, 200.0],
        "ratio": 4.0,
        "ratio_min": 3.0,
        "ratio_max": 5.0,
    },
    "single_stream": {
        "queries": 40,
        "latency_ms_p50": 2.0,
        "latency_ms_p90": 3.0,
        "latency_ms_p99": 4.0,
        "turns_ms_p50": [2.0, 2.5],
    },
    "server": {
        "rate": 80.0,
        "queries": 1000,
        "latency_ms_p50": 11.0,
        "latency_ms_p99": 49.0,
        "held": True,
        "bound_ms": 50.0,
        "tried": [
            {"rate": 100.0, "queries": 1000, "latency_ms_p50": 30.0, "latency_ms_p99": 90.0, "held": False},
            {"rate": 100.0, "queries": 1000, "latency_ms_p50": None, "latency_ms_p99": None, "held": False},
            {"rate": 80.0, "queries": 1000, "latency_ms_p50": 11.0, "latency_ms_p99": 49.0, "held": True},
        ],
    },
    "by_length": [
        {
            "tokens": 16,
            "texts_per_second": 300.0,
            "ratio": 5.0,
            "ratio_min": 4.5,
            "ratio_max": 5.5,
            "latency_ms_p50": 1.5,
        }
    ],
    "agreement": {"cosine_mean": 0.98},
    "sts": {"en": 81.5},
    "retrieval": {},
    "parameters": 30,
}
SECTION = {
    "unit": "texts",
    "texts": {"source": "sentences", "count": 64, "tokens_mean": 14.5, "tokens_p50": 13.0, "tokens_p99": 37.0},
    "rounds": 3,
    "threads": 2,
    "a_a": {
        "system": "onnx-int8",
        "offline": {"ratio": 1.01, "low": 0.98, "high": 1.02, "confidence": 0.75, "holds": True},
        "single_stream": {"ratio": 1.04, "low": 1.02, "high": 1.05, "confidence": 0.5, "holds": False},
    },
    "limit": {
        "unit": "texts",
        "threads": 2,
        "peaks": {"fp32_gflops": 100.0, "int8_gops": 400.0},
        "by_length": [
            {
                "tokens": 16,
                "batch_size": 32,
                "texts_per_second": 5000.0,
                "operations_per_text": 2e7,
                "operators": [
                    {"operator": "QAttention", "nodes": 3, "ms": 30.0, "share": 0.75, "gops": 90.0, "of_peak": 0.45},
                    {"operator": "Add", "nodes": 7, "ms": 10.0, "share": 0.25},
                ],
                "gops": 100.0,
                "of_peak": {"int8": 0.25},
            }
        ],
    },
    "systems": [SYSTEM],
}
QUALITY = Quality(agreement={"cosine_mean": 0.98}, sts={"en": 81.5}, retrieval={}, parameters=30)


def test_the_section_is_written_as_its_readers_know_it() -> None:
    figures = benched(system_figures(server=SERVED, quality=QUALITY))
    assert ordered(figures.as_dict()) == ordered(SECTION)
    assert BenchFigures.read(as_read(SECTION)) == figures


def test_figures_of_questions_are_named_so() -> None:
    figures = benched(system_figures(server=SERVED, quality=QUALITY), unit="questions")
    written = figures.as_dict()
    assert written["systems"][0]["offline"]["questions_per_second"] == 200.0
    assert written["systems"][0]["by_length"][0]["questions_per_second"] == 300.0
    assert "texts_per_second" not in ordered(written["systems"])
    assert BenchFigures.read(as_read(written)) == figures


def test_what_was_not_measured_is_left_out_or_null() -> None:
    figures = benched(system_figures(stage=None, by_length=[], threads=1))
    written = figures.as_dict()
    [row] = written["systems"]
    assert (row["server"], row["stage"], row["by_length"]) == (None, None, [])
    assert list(row)[-1] == "by_length"
    assert BenchFigures.read(as_read(written)) == figures


def test_a_story_has_no_length_of_vectors_for_the_benchmark() -> None:
    story = [{"stage": "int8", "what": "", "dim": 4, "seconds": None, "sts": {"en": 1.0}, "agreement": {}}]
    [row] = benched(system_figures()).with_story(story).as_dict()["systems"]
    assert list(row)[-2:] == ["agreement", "sts"]
    candidate = Quality(dim=4, agreement={}, sts={"en": 1.0}, retrieval={})
    [row] = benched(system_figures()).with_quality([candidate]).as_dict()["systems"]
    assert list(row)[-4:] == ["dim", "agreement", "sts", "retrieval"]
    with pytest.raises(ValueError, match="shorter"):
        benched(system_figures()).with_quality([])


def test_a_rate_that_never_kept_the_bound_stands_alone() -> None:
    missed = HighestRate(0.0, 50.0, [Attempt(9.0, 1000, 60.0, None, held=False)])
    assert list(missed.as_dict()) == ["rate", "bound_ms", "tried"]
    assert HighestRate.read(as_read(missed.as_dict())) == missed
    assert SERVED.kept == SERVED.tried[2]


def test_a_missing_figure_is_named() -> None:
    for name in SYSTEM:
        if name not in ("agreement", "sts", "retrieval", "parameters"):
            with pytest.raises(KeyError, match=f"^'{name}'$"):
                BenchFigures.read(SECTION | {"systems": [{key: SYSTEM[key] for key in SYSTEM if key != name}]})


# Committed figures, of this release and of earlier ones, where they have today's shape.


@pytest.mark.parametrize("name", RUNS)
def test_committed_rates_are_read(name: str) -> None:
    unit = "questions" if name == "minilm-qa" else "texts"
    rows = [row for row in committed(name)["bench"]["systems"] if "offline" in row]
    assert len(rows) > 3
    for row in rows:
        stated = {key: value for key, value in row["offline"].items() if key != "setting"}
        read = Offline.read(stated, unit)
        assert ordered(read.as_dict(unit)) == ordered(stated)
        assert read.rate == stated[f"{unit}_per_second"]
        if "turns_ms_p50" in row["single_stream"]:
            assert ordered(SingleStream.read(row["single_stream"]).as_dict()) == ordered(row["single_stream"])


@pytest.mark.parametrize("name", ["limit-3-layers", "limit-6-layers"])
def test_committed_shares_of_the_peak_are_read(name: str) -> None:
    stated = {"unit": "texts"} | committed(name)["limit"]
    read = Reached.read(stated)
    assert ordered(read.as_dict()) == ordered(stated)
    for row in read.by_length:
        assert row.gops == pytest.approx(row.operations * row.rate / 1e9)


def test_committed_growth_is_read_and_summed_up_again() -> None:
    stated = committed("growth")["growth"]
    threads = [run | {"threads": 2} for run in stated["runs"]]
    written = Grown.read({"unit": "texts", "runs": threads}).as_dict()
    assert list(written) == ["unit", "rows", "speed_ratio", "memory_ratio", "tolerance", "holds", "runs"]
    assert written["runs"] == threads
    for name in ("rows", "speed_ratio", "memory_ratio", "holds"):
        assert ordered(written[name]) == ordered(stated[name])


def test_committed_figures_of_loadgen_are_read() -> None:
    stated = committed("loadgen")["loadgen"]
    read = Compared.read(stated)
    assert ordered(read.as_dict()) == ordered(stated)
    assert read.server is not None
    written = Compared(2, 20.0, read.offline, read.single_stream).as_dict()
    assert list(written) == ["threads", "tolerance", "server_p99_ms", "offline", "single_stream"]
    assert Compared.read(as_read(written)).server is None


def test_committed_peers_are_read() -> None:
    rows = [row for row in committed("peers")["bench"]["systems"] if "offline" in row]
    names = ("agreement", "sts", "offline", "single_stream", "by_length", "to_best_peer")
    for row in rows:
        stated = {name: row[name] for name in names if name in row}
        assert ordered(PeerFigures.read(stated).as_dict()) == ordered(stated)
    assert {row["kind"] for row in rows if "to_best_peer" in row} == {"artifact"}


def test_committed_peers_are_compared_as_they_were() -> None:
    bench = committed("peers")["bench"]
    rows = [_alone(row) for row in bench["systems"]]
    beside = BesideFigures(MeasuredOn.read(bench["texts"]), bench["rounds"], 2, rows)
    compared = beside.compared({"model2vec"}).as_dict()
    assert list(compared) == ["texts", "rounds", "threads", "best_peer", "systems"]
    assert compared["best_peer"] == bench["best_peer"]
    for own, stated in zip(compared["systems"], bench["systems"], strict=True):
        assert own.get("to_best_peer") == stated.get("to_best_peer")
        assert own.get("by_length") == stated.get("by_length")


def _alone(row: Mapping[str, Any]) -> PeerRow:
    """Return a row without its comparisons."""
    loaded = Loaded(row["load_seconds"], row["dim"], 256, [{}], row["size_bytes"], 2, row["versions"])
    lengths = [{key: value for key, value in one.items() if key != "to_best_peer"} for one in row["by_length"]]
    figures = {key: value for key, value in row.items() if key != "to_best_peer"} | {"by_length": lengths}
    return PeerRow(row["name"], row["label"], row["kind"], loaded, row["idle_share"], PeerFigures.read(figures))


# Peers.


def peer(rate: float, ratio: float, lengths: Mapping[int, float]) -> PeerFigures:
    by_length = [PeerAtLength(tokens, AtBest(offline(rate, own), {})) for tokens, own in lengths.items()]
    best = AtBest(offline(rate, ratio), {"streams": 2})
    return PeerFigures({}, {"en": 80.0}, best, SingleStream(20, 1.0, 2.0, 3.0, [1.0]), by_length)


def test_what_a_peer_finds_is_written_where_it_was_searched_and_read_again() -> None:
    plain = peer(100.0, 1.0, {16: 1.0})
    assert "retrieval" not in plain.as_dict()
    inner: Found = {
        "ndcg_at_10": 39.0,
        "recall_at_1": 9.0,
        "recall_at_10": 49.0,
        "recall_at_100": 80.0,
        "mrr_at_10": 44.0,
    }
    own: Found = {**inner, "ndcg_at_10": 42.5, "on_teachers_index": inner}
    written = replace(plain, retrieval={"cisi": own}).as_dict()
    assert list(written)[:3] == ["agreement", "sts", "retrieval"]
    assert written["retrieval"]["cisi"]["on_teachers_index"]["ndcg_at_10"] == 39
    assert PeerFigures.read(as_read(written)).as_dict() == written


def test_a_peer_that_does_not_run_has_its_reason() -> None:
    missing = PeerRow("p", "a peer", "peer", None, 0.0, reason="died")
    assert missing.as_dict() == {"name": "p", "label": "a peer", "kind": "peer", "reason": "died"}
    loaded = Loaded(1.5, 8, 64, [{}], 1000, 2, {"torch": "2"})
    died = PeerRow("p", "a peer", "peer", loaded, 0.25, peer(9.0, 1.0, {}), reason="died")
    assert ordered(died.as_dict()) == ordered(
        {"name": "p", "label": "a peer", "kind": "peer", "versions": {"torch": "2"}, "size_bytes": 1000, "dim": 8,
         "load_seconds": 1.5, "idle_share": 0.25, "threads": 2, "reason": "died"}
    )  # fmt: skip
    assert Loaded.read(as_read(loaded.as_dict()) | {"more": 1}) == loaded


def test_an_artifact_is_compared_with_the_fastest_peer_and_the_fastest_at_each_length() -> None:
    figures = {
        "teacher": ("teacher", peer(100.0, 1.0, {16: 1.0, 64: 1.0})),
        "ours": ("artifact", peer(400.0, 4.0, {16: 4.0, 64: 4.0})),
        "even": ("peer", peer(200.0, 2.0, {16: 2.0, 64: 1.5})),
        "long": ("peer", peer(160.0, 1.6, {16: 1.2, 64: 3.0})),
        "other": ("peer", peer(900.0, 9.0, {16: 9.0, 64: 9.0})),
    }
    rows = [PeerRow(name, name, kind, None, 0.0, own) for name, (kind, own) in figures.items()]
    found = BesideFigures(MeasuredOn("s", 2, 3.0, 3.0, 3.0), 3, 1, rows).compared({"other"})
    assert found.best_peer == "even"
    compared = {row.name: row.figures for row in found.systems if row.figures and row.figures.to_best_peer}
    assert list(compared) == ["ours"]
    own = compared["ours"]
    assert own.to_best_peer == ToPeer("even", Ratio(2.0, 2.0, 2.0))
    assert [row.to_best_peer for row in own.by_length] == [
        ToPeer("even", Ratio(2.0, 2.0, 2.0)),
        ToPeer("long", Ratio(2.5, 2.5, 2.5)),
    ]
    alone = BesideFigures(MeasuredOn("s", 2, 3.0, 3.0, 3.0), 3, 1, rows[:2]).compared(set())
    assert (alone.best_peer, alone.systems) == (None, rows[:2])


def test_plain_figures_read_what_they_write_and_no_more() -> None:
    for figures in (Footprint(0.5, 0.25, 7, 2), AgainstItself(1.0, 0.9, 1.1, 0.75), SERVED.tried[0]):
        assert type(figures).read(figures.as_dict() | {"other": 1}) == figures
