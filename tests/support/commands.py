"""Commands as a person types them, and what is printed of one that is refused."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import sentences

from compressor.cli.app import app, guarded

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command in this process; return exit status, stdout and stderr."""

    def run(*arguments: Any) -> tuple[int, str, str]:
        words = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["compressor", *words])
        capsys.readouterr()
        status = guarded(lambda: app(words))
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(sentences(300)))
    return path


def refusal(result: tuple[int, str, str]) -> str:
    """Return the one line of a refused command, after checking that it is one line and the status is 1."""
    status, _, err = result
    line = err.strip().splitlines()[-1]
    assert status == 1, (status, err)
    assert line.startswith("error: ")
    assert "Traceback" not in err
    return line
