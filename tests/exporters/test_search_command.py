"""A search by its command and in a recipe: on which texts forms are timed, and what is handed out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import sentences
from searching import faster
from typer.testing import CliRunner

from compressor.artifact.folder import Artifact
from compressor.artifact.manifest import read_manifest
from compressor.cli.app import app
from compressor.core.config import load
from compressor.core.errors import RecipeError
from compressor.flow.base import run
from compressor.flow.embedding import EmbeddingFlow, Recipe
from compressor.untrusted.inspection import inspect
from exporters.search.embedding import EmbeddingSubject
from exporters.session import OnnxEncoder

RECIPE = """
[teacher]
model = "{teacher}"
[texts]
source = "texts.txt"
heldout = 80
[search]
speed_texts = "dev.csv"
count = 64
turns = 3
cosine_min = 0.5
neighbours_at_10 = 0.5
[bench]
speed_texts = "sts.csv"
count = 64
rounds = 1
queries = 20
batch_sizes = [8]
lengths = [8]
"""


def dev_texts(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[list[str]]]:
    """Write an STS file; return its sentences, and a list of the texts that each graph is timed on."""
    pairs = [(f"{text} again", text) for text in sentences(40, seed=3)]
    path.write_text("".join(f"{again},{text},{at % 5}\n" for at, (again, text) in enumerate(pairs)), "utf-8")
    timed: list[list[str]] = []
    graph_pass = EmbeddingSubject.graph_pass

    def watched(self: EmbeddingSubject, folder: Path) -> Any:
        timed.append(list(self.timed))
        return graph_pass(self, folder)

    monkeypatch.setattr(EmbeddingSubject, "graph_pass", watched)
    return [pair[side] for side in (0, 1) for pair in pairs], timed


def test_the_command(artifacts: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(sentences(800)), "utf-8")
    chosen_on, timed = dev_texts(tmp_path / "sts.csv", monkeypatch)
    line = f"optimise {artifacts('wide') / 'fp32'} --out {tmp_path / 'made'} --texts {tmp_path / 'texts.txt'}"
    line += f" --speed-texts {tmp_path / 'sts.csv'}"
    options = "--count 64 --turns 3 --cosine-min 0.5 --neighbours-at-10 0.5"
    done = CliRunner().invoke(app, [*line.split(), *options.split()], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "Chosen for" in done.output
    assert Artifact.open(tmp_path / "made").manifest["stage"] == "optimise"
    assert not list(tmp_path.glob(".made-checkpoints-*"))
    assert timed
    assert all(sorted(texts) == sorted(chosen_on[:64]) for texts in timed)


def test_a_recipe_hands_out_what_was_found(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faster(monkeypatch, {"products": 1.2, "= 128": 1.2})
    (tmp_path / "texts.txt").write_text("\n".join(sentences(400)))
    chosen_on, timed = dev_texts(tmp_path / "dev.csv", monkeypatch)
    rows = [f"{text},another text,{i % 5}\n" for i, text in enumerate(chosen_on[:10] + sentences(60, seed=4))]
    (tmp_path / "sts.csv").write_text("".join(rows), "utf-8")
    (tmp_path / "tiny.toml").write_text(RECIPE.format(teacher=tiny.as_posix()))
    recipe = load(tmp_path / "tiny.toml", Recipe, [])
    results = run(EmbeddingFlow.of(recipe, tmp_path, tmp_path / "runs"), "compressor run tiny.toml")
    assert all(check["passed"] for check in results["verify"])  # attention by products counts as fused
    assert results["graphs"]["int8"]["If"] == 4
    assert timed
    others = [text for text in chosen_on if text not in chosen_on[:10]]  # those are reported on
    assert all(sorted(texts) == sorted(others[:64]) for texts in timed)
    handed = tmp_path / "runs" / "tiny" / "artifacts" / "int8"
    assert len(list(inspect(handed))) >= 3  # its operators are among those that are let in
    figures = read_manifest(handed)["figures"]
    assert figures["choice"]["form"]["attention"] == "products"
    assert figures["needs"]["onnxruntime"]
    assert OnnxEncoder(handed).running.batch_tokens == 128
    card = (handed / "README.md").read_text("utf-8")
    assert "searched for" in card
    assert "batch_tokens 128" in card
    other = load(tmp_path / "tiny.toml", Recipe, ["search.precision=fp32"])
    with pytest.raises(RecipeError, match=r'^search\.precision = "fp32": in a recipe'):
        run(EmbeddingFlow.of(other, tmp_path, tmp_path / "other"), "")
    same = ["search.speed_texts=sts.csv", "bench.count=200"]
    with pytest.raises(RecipeError, match=r"^search\.speed_texts = sts\.csv: 0 texts that are not bench\.speed_texts'"):
        run(EmbeddingFlow.of(load(tmp_path / "tiny.toml", Recipe, same), tmp_path, tmp_path / "other"), "")
