"""The command that needs no recipe, as a person types it."""

import json
import tomllib
from pathlib import Path

import pytest
from commands import Command, refusal

SHORT = [
    word
    for field in ("rounds=1", "queries=20", "count=64", "lengths=[16]", "batch_sizes=[8]")
    for word in ("--set", f"bench.{field}")
]


def test_a_model_and_texts_are_enough(command: Command, tiny: Path, texts: Path, tmp_path: Path) -> None:
    to = tmp_path / "small"
    status, out, err = command("compress", tiny, "--texts", texts, "--out", to, "--layers", "all", *SHORT)
    assert status == 0, err
    assert f"artifact {to / 'artifacts' / 'int8'}   recipe {to / 'recipe.toml'}   report {to / 'report.html'}" in out
    said = [line.partition(":")[0] for line in err.splitlines()]
    heads = ["model", "graph", "student", "int8", "plan", "machine", "expected", "recipe"]
    assert [head for head in said if head in heads][:8] == heads
    stated = (to / "recipe.toml").read_text("utf-8")
    assert stated.startswith("# compressor compress ")
    assert tomllib.loads(stated)["bench"]["rounds"] == 1
    assert json.loads((to / "results.json").read_text("utf-8"))["command"].startswith("compressor compress ")


def test_a_dry_run_prints_the_recipe(command: Command, tiny: Path, texts: Path, tmp_path: Path) -> None:
    to = tmp_path / "small"
    words = ("compress", tiny, "--texts", texts, "--out", to, "--dim", "8", "--time-budget", "10m", "--dry-run")
    status, out, _ = command(*words)
    assert status == 0
    values = tomllib.loads(out)
    assert (values["distil"]["layers"], values["distil"]["time_budget"], values["pca"]["dim"]) == (2, "300s", 8)
    assert not to.exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--layers", "5"), "--layers 5: must be 0 to 4, the model's layers, or all"),
        (("--layers", "few"), 'options: layers = "few": '),
        (("--layers", "2", "--size", "1MB"), "--size: chooses the layers; not with --layers 2"),
        (("--dim", "33"), "--dim 33: must be at most 32, the length of the model's vectors"),
        (("--size", "1kB"), "--size 1kB: the smallest that can be had takes about "),
        (("--quality", "150%"), "--quality 150%: must be a share of the teacher's above 0 and at most 1"),
        (("--time-budget", "soon"), 'options: time_budget = "soon": must be a number above 0 with s, m or h'),
    ],
)
def test_what_cannot_be_is_one_line(
    command: Command, tiny: Path, texts: Path, tmp_path: Path, words: tuple[str, ...], line: str
) -> None:
    result = command("compress", tiny, "--texts", texts, "--out", tmp_path / "small", *words)
    assert refusal(result).startswith(f"error: {line}")
    assert not (tmp_path / "small").exists()
