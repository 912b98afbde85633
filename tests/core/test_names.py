"""Brackets, colons and bars in a name are the name's: on the terminal, in Markdown, in HTML."""

import html
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from rich.console import Console

from benchmarks.inspect import print_facts
from benchmarks.pages import figures
from benchmarks.pages.answers import ablation
from benchmarks.report import peers
from benchmarks.report.curve_table import print_curve
from benchmarks.report.markdown import source
from benchmarks.report.page import print_table, write_report
from benchmarks.tradeoff import table as tradeoff
from compressor.answering.readers.reader import Reading
from compressor.artifact import workspace as stages
from compressor.artifact.layout import INPUTS
from compressor.cli.common import out
from compressor.core import progress
from compressor.core.errors import TextError, guarded
from compressor.core.markdown import code, escaped
from compressor.core.progress import plain_console, say, track
from exporters.publish.card import Publish, PublishReader
from exporters.runtime.running import Running
from exporters.search.forms import Form
from exporters.search.report import print_search
from exporters.search.results import Choice, Searched, Trial

NAMES = ("corpus[/b] [v2].txt", "[bold]x[/]", "a :smile: b", "link[https://a.b]")
ROOT = Path(progress.__file__).parents[2]


def shown(show: Callable[[Any], object], width: int = 400) -> str:
    console = plain_console()
    console.file, console.width = io.StringIO(), width
    show(console)
    return console.file.getvalue()


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    written = io.StringIO()
    monkeypatch.setattr(progress.console, "_file", written)
    return written


def test_a_line_of_the_story(name: str, terminal: io.StringIO) -> None:
    say(f"texts: {name}: 3 to train")
    say((name, "bold"), f": made again: {name}")
    assert terminal.getvalue().splitlines() == [f"texts: {name}: 3 to train", f"{name}: made again: {name}"]
    terminal.truncate(0)
    say("long " * 50 + name)  # no line is broken inside a name
    assert terminal.getvalue().endswith(f"{name}\n")


def test_a_bar(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=200)  # one that would read markup
    monkeypatch.setattr(progress, "console", console)
    with track(name, 10, name) as advance:
        advance(3)
    written = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())  # type: ignore[attr-defined]
    assert f"  {name} " in written
    assert f" {name}/s" in written


def test_a_line_now_and_then(name: str, terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY_SECONDS", -1.0)
    with track(name, 10) as advance:
        advance(3)
    assert f"  {name}: 3 of 10" in terminal.getvalue()


def test_a_refusal(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    def refuse() -> None:
        raise TextError(f"{name}: no such file")

    assert guarded(refuse) == 1
    assert capfd.readouterr().err == f"error: {name}: no such file\n"


def test_what_a_command_prints(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    out.print(f"{name}: 1.0 MB", soft_wrap=True)
    assert capfd.readouterr().out == f"{name}: 1.0 MB\n"


def test_tables(name: str, results: dict[str, Any]) -> None:
    for system in results["bench"]["systems"]:
        system["name"] = system["label"] = name
    point = {"dim": 8, "precision": "int8", "reduction": "pca", "bytes": 8, "sts": {name: 1.0}, "share": None}
    curve = {"points": [point | {"neighbours_at_10": 1.0, "pair_correlation": 1.0}]}
    choice = Choice(Form(), Running(), 0, "this", name, [name], {}, None)
    searched = Searched({}, {}, [Trial(name, name, {}, None, name)], "", choice)
    facts = {"folder": name, "files": {name: 3}, "inputs": {name: name}}
    assert name in shown(lambda console: print_table(results, console))
    assert name in shown(lambda console: peers.print_peers(results, console))
    assert name in shown(lambda console: print_curve(curve, console))
    assert shown(lambda console: print_facts(facts, console)).count(name) == 4
    assert shown(lambda console: print_search(searched, console)).count(name) == 5
    row = {"label": name, "name": name, "size_bytes": 1, "answers": {"f1": 1.0, "exact": 1.0}}
    readers = {"task": "question-answering", "bench": {"systems": [row | {"offline": {}, "single_stream": {}}]}}
    assert name in shown(lambda console: print_table(readers, console))


def test_a_stage_is_named_as_it_is(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, terminal: io.StringIO
) -> None:
    monkeypatch.setattr(stages, "is_artifact", lambda to: False)
    monkeypatch.setattr(stages, "stage_key", lambda *_: "key")

    def stop(draft: Any) -> None:
        raise TextError(name)

    with pytest.raises(TextError):
        stages.Workspace(tmp_path).stage("pca", Publish.model_construct(), [], stop, title=name)
    assert terminal.getvalue() == f"pca: {name}\n"


def test_no_text_is_read_as_markup() -> None:
    """Styles are arguments; what prints is one kind of console, which reads none out of text."""
    for path in [path for name in ("compressor", "exporters", "benchmarks") for path in (ROOT / name).rglob("*.py")]:
        text = path.read_text("utf-8")
        assert not re.search(r"\[(/|/?(bold|red|green|yellow))\]", text), path
        assert "rich.markup" not in text, path
        assert path.name == "progress.py" or not re.search(r"(?<!plain_)\bConsole\(", text), path


HOSTILE = ("a|b", "<script>alert(1)</script>", "`code`", "[v2](http://a.b)", "**x**", "a\\|b", "``", "a\nb|")


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown(text: str, results: dict[str, Any]) -> None:
    results["bench"]["systems"][0]["label"] = results["command"] = text
    columns = figures.table(results).splitlines()[0].count("|")
    for line in figures.table(results).splitlines()[2:-2]:
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == columns
        assert "<script" not in line
    assert html.unescape(re.sub(r"\\(.)", r"\1", escaped(text))) == " ".join(text.split())
    assert escaped(text).count("`") == escaped(text).count("\\`")
    fence = re.match("`+", code(text))
    assert fence is not None
    inside = code(text)[len(fence[0]) : -len(fence[0])]
    assert fence[0] not in re.findall("`+", inside)
    assert inside.strip() == " ".join(text.split())
    assert code(text) in source(results)
    assert escaped(text) in ablation({"rows": [{"group": text, "name": text, "f1": 1.0, "exact": 1.0}]})
    assert escaped(text) in tradeoff.page(results | {"name": text})


@pytest.mark.parametrize("text", HOSTILE)
def test_html(text: str, results: dict[str, Any], tmp_path: Path) -> None:
    results["bench"]["systems"][0]["label"] = results["name"] = results["texts"]["source"] = text
    write_report(results, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "<script>alert" not in page
    assert html.escape(text, quote=False).split("\n")[0] in page


@pytest.mark.parametrize(
    ("teacher", "as_code"),
    [
        ("models [v2]: `a`", "`` models [v2]: `a` ``"),
        ("org/all-MiniLM", "`org/all-MiniLM`"),
        ("{{ 7 * 7 }}", None),
    ],
)
def test_a_model_card(teacher: str, as_code: str | None) -> None:
    stage = PublishReader(recipe={"name": "tiny"}, precision="int8", teacher=teacher, teacher_sha256="ab")
    card = stage.card([], {"inputs": INPUTS, "reading": Reading()})
    assert ModelCard(card).data.to_dict()["base_model"] == teacher
    assert f"Made from {as_code or f'`{teacher}`'} (weights sha256 `ab`), whose card states no licence." in card
