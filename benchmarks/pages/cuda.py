"""The page of what a GPU reaches, from results that are committed, where there are any: speed, latency, checks."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report.markdown import Source, escaped, page
from benchmarks.report.numbers import MISSING, count, digits, fixed, ratio_range
from benchmarks.report.results import Row
from benchmarks.report.table import Column, Table
from compressor.core.errors import ArtifactError

PAGE, NAME = Path("docs/cuda.md"), "cuda"
_MODES = {"text": "texts in", "ids": "token ids in", "recorded": "token ids in, launches recorded"}
_PLAIN = ("torch-fp16", "torch-fp16-plain")  # sentence-transformers as it is, with either attention
_AGAIN = "torch-fp16-again"
_TEMPLATE = Path(__file__).with_name("templates") / "cuda.md.j2"
Group = tuple[str, int]
"""What goes in, and how many tokens a text has."""


@dataclass(frozen=True)
class Best:
    """The system that reaches most, or waits least, and at which batch size."""

    name: str
    batch: int
    value: float


def pages(results: Mapping[str, Row], source: Source) -> dict[Path, str]:
    """Write the page from the ``results`` by name; none where there are none. ``source`` says where figures come from.

    ArtifactError for a rehearsal, which has no figures, and for rows of several machines, which are not to be compared.
    """
    if NAME not in results:
        return {}
    run = results[NAME]
    if run["rehearsal"]:
        raise ArtifactError(f"docs/figures/{NAME}.json: a rehearsal on a CPU; no figures of a card")
    if len(machines := {tuple(row["machine"].items()) for row in run["rows"]}) != 1:
        raise ArtifactError(f"docs/figures/{NAME}.json: rows of {len(machines)} machines; measure all on one")
    text = page(_TEMPLATE).render(
        machine=run["rows"][0]["machine"],
        teacher=run["teacher"],
        students=sorted(((int(layers), made) for layers, made in run["students"].items()), reverse=True),
        attention=next((one["attention"] for one in run["systems"] if "attention" in one), MISSING),
        best=best(run),
        latency=latency(run),
        again=again(run),
        cells=[{"title": _title(group), "table": cells(run, group)} for group in _groups(run)],
        left=[key for key in run["planned"] if key not in {row["key"] for row in run["rows"]}],
        reasons=reasons(run),
        checks=checks(run),
        source=source(run),
    )
    return {PAGE: text}


def best(run: Row) -> str:
    """Render texts a second at each system's best batch size, a row a length."""
    labels, torch = _labels(run), _torch(run)
    columns = [
        _INPUT,
        Column("PyTorch fp16", lambda group: _rate(_fastest(run, group, _PLAIN))),
        Column("fastest PyTorch", lambda group: _rate(_fastest(run, group, torch), labels)),
        *(Column(_depth(layers), _against(run, layers)) for layers in _depths(run)),
    ]
    return Table(columns, [group for group in _groups(run) if group[0] != "recorded"]).markdown()


def latency(run: Row) -> str:
    """Render milliseconds until one text's vector is there, half of all within, a row a length."""
    labels, torch = _labels(run), _torch(run)
    columns = [
        _INPUT,
        Column("fastest PyTorch", lambda group: _wait(_soonest(run, group, torch), labels)),
        *(Column(_depth(layers), _sooner(run, layers)) for layers in _depths(run)),
    ]
    return Table(columns, _groups(run)).markdown()


def cells(run: Row, group: Group) -> str:
    """Render every system at one length, a column a batch size: texts a second, and against PyTorch fp16."""
    rows = {row["batch"]: row for row in _rows(run, group)}
    columns = [Column("system", lambda system: system["label"], words=True)]
    columns += [Column(f"batch {batch:,}", _cell(row)) for batch, row in sorted(rows.items())]
    shown = {one["name"] for row in rows.values() for one in row["systems"] if "reason" not in one}
    return Table(columns, [one for one in run["systems"] if one["name"] in shown]).markdown()


def checks(run: Row) -> str:
    """Render what was looked at before anything was timed."""
    labels = _labels(run)
    columns = [
        Column("system", lambda check: labels.get(check["artifact"], check["artifact"]), words=True),
        Column("check", lambda check: check["check"], words=True),
        Column("figure", lambda check: check["figure"], words=True),
        Column("value", lambda check: f"{check['value']:.6g}"),
        Column("bar", lambda check: MISSING if check["bar"] is None else f"{check['direction']} {check['bar']:g}"),
        Column("passed", lambda check: "yes" if check["passed"] else "**no**"),
    ]
    return Table(columns, run["checks"]).markdown()


def reasons(run: Row) -> list[str]:
    """Say of each system that was not measured somewhere, why: the first reason that it gave."""
    found = dict(run["failed"])
    for row in run["rows"]:
        for one in row["systems"]:
            if "reason" in one:
                found.setdefault(one["name"], f"at {row['key']}: {one['reason']}")
    labels = _labels(run)
    return [f"{escaped(labels.get(name, name))}: {escaped(reason)}" for name, reason in found.items()]


def again(run: Row) -> str:
    """Say how far the baseline is from itself, over all rows."""
    ratios = [one["ratio"] for row in run["rows"] for one in row["systems"] if one["name"] == _AGAIN and "ratio" in one]
    return f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else MISSING


def _rows(run: Row, group: Group) -> Iterable[Row]:
    return (row for row in run["rows"] if (row["mode"], row["tokens"]) == group)


def _groups(run: Row) -> list[Group]:
    return sorted(
        {(row["mode"], row["tokens"]) for row in run["rows"]},
        key=lambda group: (list(_MODES).index(group[0]), group[1]),
    )


def _title(group: Group) -> str:
    return f"{_MODES[group[0]]}, {group[1]} tokens"


_INPUT = Column("input", _title)


def _depth(layers: int) -> str:
    return f"{layers} layer{'s' if layers > 1 else ''}, ONNX fp16"


def _labels(run: Row) -> dict[str, str]:
    return {one["name"]: one["label"] for one in run["systems"]}


def _depths(run: Row) -> list[int]:
    return sorted(map(int, run["students"]), reverse=True)


def _torch(run: Row) -> Sequence[str]:
    return [one["name"] for one in run["systems"] if one["name"].startswith("torch-") and one["name"] != _AGAIN]


def _half(run: Row, layers: int) -> Sequence[str]:
    own = [one["name"] for one in run["systems"] if one["layers"] == layers and one["name"].startswith("onnx-")]
    return [name for name in own if not name.endswith("fp32")]


def _fastest(run: Row, group: Group, names: Sequence[str]) -> Best | None:
    found = [
        Best(one["name"], row["batch"], one["texts_per_second"])
        for row in _rows(run, group)
        for one in row["systems"]
        if one["name"] in names and "reason" not in one
    ]
    return max(found, key=lambda one: one.value, default=None)


def _soonest(run: Row, group: Group, names: Sequence[str]) -> Best | None:
    found = [
        Best(one["name"], 1, one["pass_ms_p50"])
        for row in _rows(run, group)
        for one in row["systems"]
        if row["batch"] == 1 and one["name"] in names and "reason" not in one
    ]
    return min(found, key=lambda one: one.value, default=None)


def _rate(found: Best | None, labels: Mapping[str, str] | None = None) -> str:
    if found is None:
        return MISSING
    named = f", {escaped(labels[found.name])}" if labels else ""
    return f"{count(found.value)} at {found.batch:,}{named}"


def _wait(found: Best | None, labels: Mapping[str, str]) -> str:
    return MISSING if found is None else f"{digits(found.value)} ms, {escaped(labels[found.name])}"


def _against(run: Row, layers: int) -> Callable[[Group], str]:
    def cell(group: Group) -> str:
        own, plain = _fastest(run, group, _half(run, layers)), _fastest(run, group, _PLAIN)
        fastest = _fastest(run, group, _torch(run))
        if own is None or plain is None or fastest is None:
            return _rate(own)
        times = f"{fixed(own.value / plain.value, 2)}× PyTorch fp16, {fixed(own.value / fastest.value, 2)}× the fastest"
        return f"{_rate(own)}: {times}"

    return cell


def _sooner(run: Row, layers: int) -> Callable[[Group], str]:
    def cell(group: Group) -> str:
        own, other = _soonest(run, group, _half(run, layers)), _soonest(run, group, _torch(run))
        if own is None:
            return MISSING
        times = MISSING if other is None else f"{fixed(other.value / own.value, 2)}×"
        return f"{digits(own.value)} ms, {times}"

    return cell


def _cell(row: Row) -> Callable[[Row], str]:
    found = {one["name"]: one for one in row["systems"] if "reason" not in one}

    def cell(system: Row) -> str:
        if system["name"] not in found:
            return MISSING
        one = found[system["name"]]
        rate = count(one["texts_per_second"])
        return f"{rate}, {ratio_range(one)}" if "ratio" in one else rate

    return cell
