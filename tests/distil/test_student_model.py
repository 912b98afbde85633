"""A student of another make: found beside the recipe before any work, and part of what its training depends on."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import refusal
from running import write_recipe

from compressor.cli import make
from compressor.core.config import load
from compressor.core.errors import ModelError
from compressor.distil.training.embedding import Distil
from compressor.flow.embedding import EmbeddingFlow, Recipe

RECIPE = """
[teacher]
model = "{teacher}"
[texts]
source = "texts.txt"
heldout = 40
[distil]
model = "own"
[bench]
sts = ["sts.csv"]
"""


@pytest.fixture
def home(tmp_path: Path, tiny: Path, make_model: Callable[..., Path]) -> Path:
    (home := tmp_path / "home").mkdir()
    write_recipe(home, RECIPE, tiny)
    shutil.copytree(make_model(layers=2, width=16), home / "own")
    return home


def flow_of(home: Path, *changes: str) -> EmbeddingFlow:
    return EmbeddingFlow.of(load(home / "tiny.toml", Recipe, list(changes)), home, home / "runs")


def checkpoints(home: Path) -> Path:
    flow = flow_of(home)
    assert flow.recipe.distil is not None
    return flow.work.checkpoints("distil", flow.recipe.distil, flow._learnt)


def test_a_folder_relative_to_the_recipe_is_what_is_trained(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESSOR_CACHE", str(home / "cache"))
    given: list[Any] = []
    monkeypatch.setattr(Distil, "run", lambda self, *_, other, **__: given.append(other))
    flow = flow_of(home)
    flow.check()
    flow.distil()
    assert given == [home / "own"]


def test_other_weights_are_another_training(home: Path, make_model: Callable[..., Path]) -> None:
    first, again = checkpoints(home), checkpoints(home)
    assert first == again, "a stopped one is gone on with"
    shutil.rmtree(home / "own")
    shutil.copytree(make_model(layers=1, width=16), home / "own")
    assert checkpoints(home) != first


def test_a_student_that_is_not_there_is_refused_before_the_teacher_works(home: Path) -> None:
    with pytest.raises(ModelError) as caught:
        flow_of(home, "distil.model=./none").check()
    assert str(caught.value) == "distil.model = ./none: no such folder, and not a name on the hub"


def test_the_command_too(command: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[str] = []
    teacher = flow_of(home).recipe.teacher.model

    def stopped(source: Any, corpus: Any, key: str, kept: Path) -> None:
        keys.append(key)
        raise ModelError("far enough")

    monkeypatch.setattr(make, "check_together", stopped)
    words = ("distil", "--out", home / "out", "--texts", home / "texts.txt", "--teacher", teacher, "--model")
    for _ in range(2):
        assert command(*words, home / "own")[2].endswith("error: far enough\n")
        (home / "own" / "config_sentence_transformers.json").write_text('{"prompts": {"query": "q: "}}')
    assert keys[0] != keys[1]
    line = "error: distil.model = ./none: no such folder, and not a name on the hub"
    assert refusal(command(*words, "./none")) == line
