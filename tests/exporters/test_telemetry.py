"""Nothing that this project runs or hands out reports to anyone, unless its user says so."""

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import compressor
from compressor.answering.readers.reader import Reading
from compressor.artifact.layout import INPUTS
from exporters.publish.card import PublishReader
from exporters.publish.template import CONSUMERS, TEMPLATES
from exporters.verify.conformance import RUNNERS_FOLDER, write_conformance

SWITCH = "ORT_DISABLE_TELEMETRY"
READER = PublishReader(recipe={"name": "tiny"}, teacher="org/teacher", teacher_sha256="ab", precision="int8")
PAGES = {
    "consumers": CONSUMERS.read_text("utf-8"),
    "card": (TEMPLATES / "card.md.j2").read_text("utf-8"),
    "embedding": (TEMPLATES / "embedding.md.j2").read_text("utf-8"),
    "reader": READER.card([], {"inputs": INPUTS, "reading": Reading(no_answer_threshold=0.5)}),
}
BLOCKS = [
    (name, *block) for name, page in PAGES.items() for block in re.findall(r"```(\w+)\n(.+?)```", page, re.DOTALL)
]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def left_behind(home: Path, *command: str | Path) -> list[str]:
    """Run a command as someone new to this machine, without what would keep ONNX Runtime quiet; list what it left."""
    without = ("CI", "TF_BUILD", "GITHUB_ACTIONS", *compressor.REPORTS_OFF)
    env = {name: value for name, value in os.environ.items() if name not in without}
    env |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    subprocess.run([sys.executable, *command], env=env, check=True, capture_output=True)
    return [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "module", ["exporters.session", "benchmarks.speed.footprint, onnxruntime", "compressor, onnxruntime"]
)
def test_no_import_leaves_anything_behind(module: str, home: Path) -> None:
    assert left_behind(home, "-c", f"import {module}") == []


def test_the_command_leaves_nothing_behind(home: Path) -> None:
    assert left_behind(home, "-m", "compressor.cli", "doctor", "--quick") == []


def test_the_conformance_runner_leaves_nothing_behind(
    artifacts: Callable[..., Path], home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    for path in (artifacts() / "fp32").iterdir():
        (folder / path.name).symlink_to(path)
    write_conformance(folder)
    assert left_behind(home, folder / "conformance" / "run.py") == []


@pytest.mark.parametrize(("given", "kept"), [(None, "1"), ("", "1"), ("0", "0"), ("1", "1")])
def test_what_the_user_has_set_stays(given: str | None, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, given or "")
    if given is None:
        monkeypatch.delenv(SWITCH)
    importlib.reload(compressor)
    assert os.environ[SWITCH] == kept


@pytest.mark.parametrize(("page", "language", "code"), BLOCKS)
def test_every_snippet_that_is_handed_out_switches_it_off_first(page: str, language: str, code: str) -> None:
    if "onnxruntime-web" in code:  # WebAssembly reports nothing, and a browser has no environment
        return
    first = {"python": r"^(import|from) (?!os$|json$)", "javascript": r"^const ", "c": r"OrtGetApiBase\(\)"}[language]
    found = re.search(first, code, re.MULTILINE)
    assert found is not None
    assert SWITCH in code[: found.start()], f"{page}: {code.splitlines()[0]}"


def test_the_runner_in_javascript_switches_it_off_before_its_first_session() -> None:
    code = (RUNNERS_FOLDER / "run.mjs").read_text("utf-8")
    assert 0 < code.index(SWITCH) < code.index("InferenceSession.create")


def test_the_texts_of_both_cards_are_complete() -> None:
    assert json.dumps(sorted({page for page, *_ in BLOCKS})) == '["card", "consumers", "embedding", "reader"]'
