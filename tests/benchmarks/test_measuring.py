"""The commands that measure one artifact: their figures carry command, machine and graph; bad input is one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Command, refusal

from compressor.artifact.folder import sha256
from compressor.artifact.layout import GRAPH

SMALL = {
    "profile": ("--lengths", "8,16", "--threads", "1"),
    "growth": ("--counts", "1000,2000", "--threads", "1"),
}


@pytest.fixture
def artifact(artifacts: Callable[..., Path]) -> Path:
    return artifacts() / "int8"


@pytest.mark.parametrize(("name", "section"), [("profile", "limit"), ("growth", "growth")])
def test_figures_carry_what_they_were_taken_on(
    name: str,
    section: str,
    command: Command,  # noqa: F811
    texts: Path,  # noqa: F811
    artifact: Path,
    tmp_path: Path,
) -> None:
    to = tmp_path / "figures.json"
    status, out, _ = command(name, artifact, "--texts", texts, *SMALL[name], "--out", to, "--json")
    assert status == 0
    results: dict[str, Any] = json.loads(out)
    assert results == json.loads(to.read_text())
    assert results["command"].startswith(f"compressor {name} {artifact} --texts")
    assert results["environment"]["versions"]["onnxruntime"]
    assert results["artifact"]["graph_sha256"] == sha256(artifact / GRAPH)
    assert results[section]
    status, out, _ = command(name, artifact, "--texts", texts, *SMALL[name])
    assert status == 0
    assert "texts/s" in out


def test_growth_goes_on_from_its_file(
    command: Command,  # noqa: F811
    texts: Path,  # noqa: F811
    artifact: Path,
    tmp_path: Path,
) -> None:
    to = tmp_path / "growth.json"
    words = ("growth", artifact, "--texts", texts, *SMALL["growth"], "--out", to)
    assert command(*words)[0] == 0
    first = json.loads(to.read_text())
    _, _, err = command(*words)
    assert "a second" not in err  # nothing was streamed again
    assert json.loads(to.read_text())["growth"] == first["growth"]
    _, _, err = command(*words[:-2], "--batch-size", "8", "--out", to)
    assert err.count("a second") == 3  # another measurement
    to.write_text("{")
    assert "growth.json: not readable as earlier figures" in refusal(command(*words))
    assert to.read_text() == "{"


@pytest.mark.parametrize("name", ["profile", "growth", "loadgen"])
def test_what_is_no_artifact_is_refused_at_once(
    name: str,
    command: Command,  # noqa: F811
    texts: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    line = refusal(command(name, tmp_path, "--texts", texts))
    assert line.endswith("no onnx/model.onnx; not an artifact with an ONNX graph")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("profile", "--lengths", "4"), "= 4"),
        (("growth", "--counts", "10000"), "counts = [10000]"),
        (("loadgen", "--server-p99-ms", "0"), "server_p99_ms = 0.0"),
    ],
)
def test_what_is_not_allowed_is_named(words: tuple[str, ...], message: str, command: Command, artifact: Path) -> None:  # noqa: F811
    name, *options = words
    assert message in refusal(command(name, artifact, *options))
