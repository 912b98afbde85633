"""A folder that has more tokens read than its graph has positions for is refused, whatever its manifest says."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from damage import reseal
from onnx import helper
from packed import edit_json

from compressor.artifact.folder import writing
from compressor.artifact.layout import GRAPH
from compressor.core.errors import ArtifactError, ModelError
from compressor.untrusted.inspection import inspect
from compressor.untrusted.inspector import Inspector, described
from compressor.untrusted.positions import MOST_RUN, lookups_of


def asked(folder: Path, tokens: int) -> str | None:
    """Return what the process says of a length, None where it lets it pass."""
    wanted = {name: described(folder / path) for name, path in (("graph", GRAPH), ("tokenizer", "tokenizer.json"))}
    with Inspector() as process:
        try:
            process.ask(folder / GRAPH, wanted, length={"stated": "length", "tokens": tokens})
        except ArtifactError as error:
            return str(error).removeprefix(f"{folder / GRAPH}: ")
    return None


@pytest.mark.parametrize(
    ("family", "most"), [(None, 64), ("distilbert", 66), ("mpnet", 64), ("roberta", 64), ("relu", 66)]
)
@pytest.mark.parametrize("form", ["plain", "int8"])
def test_the_table_tells_how_long_a_text_may_be(
    artifacts: Callable[..., Path], family: str | None, most: int, form: str
) -> None:
    folder = artifacts(family) / form
    assert asked(folder, most) is None
    for more in (most + 1, 100_000):
        assert asked(folder, more) == f"length = {more}: the graph has positions for {most} tokens"


def test_relative_positions_have_no_end(artifacts: Callable[..., Path]) -> None:
    folder = artifacts("t5") / "plain"
    assert [asked(folder, tokens) for tokens in (64, MOST_RUN, 100_000)] == [None] * 3


def hidden(folder: Path, to: Path) -> Path:
    """Copy an artifact whose table of positions is looked up behind an operator, so that nothing tells its rows."""
    shutil.copytree(folder, to)
    model = onnx.load(to / GRAPH)
    [gather] = [node for node in model.graph.node if "position_embeddings.weight" in str(node.input)]
    model.graph.node.insert(0, helper.make_node("Identity", [gather.input[0]], ["behind"]))
    gather.input[0] = "behind"
    onnx.save(model, to / GRAPH)
    assert lookups_of(model, onnx) is None
    return to


def test_where_nothing_tells_a_text_is_computed(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    folder = hidden(artifacts() / "fp32", tmp_path / "hidden")
    assert asked(folder, 64) is None
    for tokens in (65, MOST_RUN):
        refused = asked(folder, tokens)
        assert refused is not None
        assert refused.startswith(f"length = {tokens}: so many tokens cannot be computed: ")
    assert asked(folder, MOST_RUN + 1) is None  # it would take too long


def test_look_ups_are_a_graph_without_the_tables(artifacts: Callable[..., Path]) -> None:
    model = onnx.load(artifacts("wide") / "fp32" / GRAPH)
    found = lookups_of(model, onnx)
    assert found is not None
    assert list(found.rows.values()) == [66]
    assert len(found.graph) < 20_000 < len(model.SerializeToString()) / 20


def test_an_artifact_of_a_foreign_length_is_refused(handed_out: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(handed_out, tmp_path / "copy"))
    edit_json(folder / "sentence_bert_config.json", max_seq_length=100_000)
    reseal(folder)
    with pytest.raises(ArtifactError) as caught:
        list(inspect(folder))
    assert str(caught.value) == (
        f"{folder / GRAPH}: sentence_bert_config.json: max_seq_length = 100000: the graph has positions for 64 tokens"
    )


@pytest.fixture
def answers(reader: Path, tmp_path: Path) -> Path:
    """Return a reader's artifact, as a stage leaves it."""
    with writing(tmp_path / "reader", "optimise", "key", {}) as draft:
        shutil.copytree(reader / "o", draft.folder, dirs_exist_ok=True)
    return tmp_path / "reader"


def test_a_reader_of_foreign_windows_is_refused(answers: Path) -> None:
    assert [one.check for one in inspect(answers)] == ["files", "settings", "graph", "conformance"]
    edit_json(answers / "reading.json", max_length=65)
    reseal(answers)
    with pytest.raises(ArtifactError) as caught:
        list(inspect(answers))
    assert str(caught.value) == (
        f"{answers / GRAPH}: reading.json: max_length = 65: the graph has positions for 64 tokens"
    )


@pytest.mark.parametrize("length", [0, -1, 1.5, "48", True, 1 << 30])
def test_a_window_of_no_length_is_refused(answers: Path, length: Any) -> None:
    edit_json(answers / "reading.json", max_length=length)
    reseal(answers)
    with pytest.raises(ModelError) as caught:
        list(inspect(answers))
    line = f"max_length = {length!r}: must be a whole number from 1 to 1048576"
    assert str(caught.value) == f"{answers / 'reading.json'}: {line}"
