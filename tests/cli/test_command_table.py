"""The commands by name: what each one's help says, and how soon."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from compressor.cli import table as command_table
from compressor.cli.app import app
from compressor.cli.reference import stated_help
from compressor.cli.table import COMMANDS, GROUPS, HELP, Deferred, Entry, help_of

HEAVY = ("torch", "transformers", "sentence_transformers", "onnx", "onnxruntime", "scipy", "pandas", "datasets",
         "matplotlib", "sklearn", "numpy", "compressor.flow.embedding", "compressor.cli.make",
         "compressor.cli.common")  # fmt: skip
ALL_HELP = f"""
import json, sys
from compressor.cli.app import app
for words in [["--help"], ["nothing"], *([name, "--help"] for name in {list(COMMANDS)!r})]:
    try:
        app(words)
    except SystemExit:
        pass
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""


def shown(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), prog_name="compressor")
    assert result.exit_code == 0
    return result.stdout


def parent() -> Any:
    return typer.main.get_command(app).make_context("compressor", [], resilient_parsing=True)


def test_help_is_what_the_functions_say() -> None:
    assert json.loads(HELP.read_text("utf-8")) == json.loads(json.dumps(stated_help()))


@pytest.mark.parametrize("name", ["pca", "verify", "run", "pack", "distil-reader"])
@pytest.mark.parametrize("width", [50, 80, 200])
def test_help_is_laid_out_as_the_functions_own(name: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    deferred = shown(name, "--help")
    monkeypatch.setattr(command_table, "_stated", dict)  # none: the function is loaded
    assert shown(name, "--help") == deferred
    assert f"Usage: compressor {name}" in deferred


def test_all_are_listed_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown("--help")
    _, *groups = text.partition("--help")[2].split("\n\n")
    listed = {group.splitlines()[0]: [line.split()[0] for line in group.splitlines()[1:]] for group in groups}
    assert listed == {f"{group}:": list(commands) for group, commands in GROUPS.items()}
    monkeypatch.setattr(command_table, "_stated", dict)
    assert shown("--help") == text


def test_help_imports_nothing_of_the_commands() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", ALL_HELP], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert "No such command 'nothing'" in done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5


@pytest.mark.parametrize(("words", "status"), [(["--help"], 0), (["pca", "--help"], 0), (["nothing"], 2)])
def test_help_comes_at_once(words: list[str], status: int) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "compressor.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == status
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


def test_what_is_started_ahead_is_started_before_the_import(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(command_table, "import_module", lambda name: order.append(name) or sys.modules[__name__])
    entry = Entry("anywhere:parent", ahead=lambda: order.append("ahead"))
    assert entry.load("verify").name == "verify"
    assert order == ["ahead", "anywhere"]
    assert [name for name, entry in COMMANDS.items() if entry.ahead] == ["verify", "serve"]


def test_a_deferred_command_shows_what_is_stated() -> None:
    stated = {"help": "Do it.", "usage": ["[OPTIONS]", "{X}"], "arguments": [["x", "What."]], "options": []}
    text = Deferred("do", stated).shown("do", parent())
    assert text.split() == ["Usage:", "compressor", "do", "[OPTIONS]", "{X}", "Do", "it.", "Arguments:", "x", "What."]
    assert help_of("sign", parent())["arguments"][0][0].startswith("ARTIFACT")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("verfy",), "No such command 'verfy'. Did you mean verify?"),
        (("nothing",), "No such command 'nothing'."),
        (("pca", "--dims", "3"), "No such option: --dims. Did you mean --dim?"),
        (("bench", "folder", "--nope=3"), "No such option: --nope."),
        (("run", "recipe.toml", "--set", "--nope", "--json", "--also-nope"), "No such option: --also-nope."),
    ],
)
def test_what_is_not_there_is_named_with_what_is_near(words: tuple[str, ...], message: str) -> None:
    code = f"""
import sys
from compressor.cli.app import app
try:
    app({list(words)!r}, prog_name="compressor")
except SystemExit as end:
    print(end.code, [name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2 []\n"
    assert done.stderr.rstrip().endswith(message)
    assert "Usage: compressor" in done.stderr
