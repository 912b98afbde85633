"""Nothing is written for the hub before all is known that can be known without it."""

import json
from pathlib import Path

import pytest
from commands import Command, refusal
from huggingface_hub import constants
from packed import contents

from exporters.publish import hub as module

TO = ("--target", "hub", "--push", "me/model")


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all be looked at but the artifact itself, as with a network; nobody is logged in."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(module, "check", lambda folder: None)
    monkeypatch.setattr(module, "get_token", lambda: None)


def test_a_base_model_that_is_a_path(
    servable: dict[str, Path], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "get_token", lambda: "hf_token")
    words = (*TO, "--license", "mit", "--base-model", "/home/me/model", "--out", tmp_path / "view")
    line = refusal(command("pack", servable["int8"], *words))
    assert line.endswith("README.md: base_model: /home/me/model: no name on the hub; give one by --base-model")
    assert not (tmp_path / "view").exists()


def test_no_token(servable: dict[str, Path], command: Command, tmp_path: Path) -> None:
    earlier = command("pack", servable["int8"], "--target", "hub", "--license", "mit", "--out", tmp_path / "view")
    before = contents(tmp_path / "view")
    assert earlier[0] == 0
    words = (*TO, "--license", "apache-2.0", "--base-model", "org/model", "--out", tmp_path / "view")
    assert "me/model: no token for " in refusal(command("pack", servable["int8"], *words))
    assert contents(tmp_path / "view") == before
    assert json.loads(before["manifest.json"])["config"]["license"] == "mit"
