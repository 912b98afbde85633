"""Draw the trade-off of depth as one SVG: quality against speed, both against the teacher, students joined in line."""

import math
from typing import NamedTuple

from benchmarks.report import svg
from benchmarks.report.charts import disc_and_bar
from benchmarks.report.numbers import significant, size
from benchmarks.report.results import Row, number, ratio_of, size_of, systems
from benchmarks.report.svg import WIDTH, Box, Dot, Scale, place
from benchmarks.tradeoff.table import PASSED, label_of, measure_label


class Peer(NamedTuple):
    """A published point: layers kept, Spearman x 100 on STS benchmark test, sentences a second."""

    layers: int
    spearman: float
    speed: float


# https://sbert.net/examples/sentence_transformer/training/distillation/README.html
TEACHER = Peer(12, 85.44, 2300)
PEERS = (
    Peer(8, 85.54, 3200),
    Peer(6, 85.23, 4000),
    Peer(4, 84.92, 5300),
    Peer(3, 84.39, 6500),
    Peer(2, 83.32, 7700),
    Peer(1, 80.86, 9200),
)
# https://sbert.net/docs/sentence_transformer/usage/efficiency.html: an average over models, data sets and lengths,
# so a speed alone: its quality is no single data set's.
BACKENDS = {"onnx": 1.06, "onnx-qint8": 3.23, "openvino-qint8": 5.29}
_STS_TEST, _STS_TEST_PAIRS = "en-test", 1379
_LEGEND = (
    "dashed, published by sentence-transformers: layers of stsb-roberta-base on a V100 against its own 12; same test",
    "dotted, published: speed of its backends on a Core i7-13700K against PyTorch there, mean of models and data sets",
)


def picture(results: Row) -> str:
    """Plot every row's share of the teacher's quality over its speed; empty text where nothing was measured."""
    shown = [row for row in systems(results) if number(row, "share") is not None and number(row, "offline", "ratio")]
    if len(shown) < 2:
        return ""
    peers = PEERS if has_peers(results) else ()
    plot = Box(56, 40, WIDTH - 4, 440)
    backends = list(BACKENDS.values()) if peers else []
    speeds = [s for row in shown for s in ratio_of(row)] + [p.speed / TEACHER.speed for p in peers] + backends
    x = Scale.around(speeds, plot.left, plot.right, log=True)
    shares = [_percent(row) for row in shown] + [100 * p.spearman / TEACHER.spearman for p in peers]
    y = Scale.around(shares, plot.bottom, plot.top)
    body = svg.grid(plot, x, y, [(tick, f"{tick:g}×") for tick in x.ticks()])
    dots = [(x(p.speed / TEACHER.speed), y(100 * p.spearman / TEACHER.spearman)) for p in peers]
    line = [(x(1), y(100)), *dots] if peers else []
    body += [*_backends(plot, x), *_published(peers, line)] if peers else []
    taken = [*svg.along(line), *(Box(a - 4, b - 6, a + 16, b + 6) for a, b in dots)]
    drawn, summaries = _own(shown, plot, x, y, taken)
    return _framed(results, [*body, *drawn], summaries, plot, bool(peers))


def has_peers(results: Row) -> bool:
    """Whether quality is of STS benchmark test, so that the published points are of the same data set."""
    files = results.get("sts") or []
    whole = any(file.get("name") == _STS_TEST and file.get("pairs") == _STS_TEST_PAIRS for file in files)
    return whole and (results.get("measure") or {}).get("sts") == _STS_TEST


def _framed(results: Row, body: list[str], summaries: list[str], plot: Box, peers: bool) -> str:
    body.append(svg.text(4, 20, f"↑ share of the teacher's quality, % ({measure_label(results)})", "muted"))
    body.append(
        svg.text(
            4,
            plot.bottom + 48,
            "layers kept, int8 unless said · circle area: size on disk · bar: lowest to highest round",
            "muted",
        )
    )
    body.append(svg.text(plot.right, plot.bottom + 48, "throughput against the teacher, log →", "muted", "end"))
    legend = _LEGEND if peers else ()
    body += [svg.text(4, plot.bottom + 68 + 18 * i, line, "muted") for i, line in enumerate(legend)]
    height = round(plot.bottom + 60 + 18 * len(legend))
    return svg.framed("tradeoff", height, "Layers kept: quality against speed", [*summaries, *legend], body)


def _own(shown: list[Row], plot: Box, x: Scale, y: Scale, taken: list[Box]) -> tuple[list[str], list[str]]:
    """Draw the teacher and the students, those of one precision joined; return the drawing and it in words."""
    unit = 26 / math.sqrt(max(map(size_of, shown)) or 1.0)
    discs, bars = zip(*(disc_and_bar(row, x, y(_percent(row)), unit) for row in shown), strict=True)
    names = [_name(row) for row in shown]
    lines = {
        role: [(x(ratio_of(row)[1]), y(_percent(row))) for row in shown if row.get("precision") == precision]
        for role, precision in (("teacher", "fp32"), ("accent", "int8"))
    }
    body = [svg.path(line, role, 2) for role, line in lines.items() if len(line) > 1]
    taken = [*taken, *discs, *bars, *(box for line in lines.values() for box in svg.along(line))]
    labels = place(discs, [(7.6 * len(name), 17.0) for name in names], taken, plot)
    for row, disc, bar, label, name in zip(shown, discs, bars, labels, names, strict=True):
        body += svg.labelled(disc, bar, label, (name, _role(row), ""))
    return body, [f"{name}: {_caption(row)}" for name, row in zip(names, shown, strict=True)]


def _published(peers: tuple[Peer, ...], line: list[Dot]) -> list[str]:
    body = [svg.path(line, "other", 1, "5 4")]
    for peer, (left, top) in zip(peers, line[1:], strict=True):
        body += [svg.circle(left, top, 3, "other", 0.5), svg.text(left + 6, top + 4, str(peer.layers), "muted")]
    return body


def _backends(plot: Box, x: Scale) -> list[str]:
    body = []
    for i, (name, speed) in enumerate(BACKENDS.items()):
        body.append(svg.path([(x(speed), plot.top), (x(speed), plot.bottom)], "other", 1, "1 4"))
        body.append(svg.text(x(speed) + 4, plot.bottom - 8 - 15 * (i % 2), f"{name} {speed:g}×", "muted"))
    return body


def _percent(row: Row) -> float:
    return 100 * (number(row, "share") or 0.0)


def _name(row: Row) -> str:
    if row.get("precision") is None:
        return "teacher"
    depth = "static" if row["layers"] == 0 else label_of(row["layers"])
    return depth + (", fp32" if row["precision"] == "fp32" else "") + ("" if _passed(row) else ", gate missed")


def _role(row: Row) -> str:
    if row.get("precision") is not None and not _passed(row):
        return "other"
    return "accent" if row.get("precision") == "int8" else "teacher"


def _passed(row: Row) -> bool:
    return row.get("gate") == PASSED


def _caption(row: Row) -> str:
    return f"{significant(ratio_of(row)[1])}×, {_percent(row):.1f} %, {size(row.get('size_bytes'))}"
