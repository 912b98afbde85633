"""Rows of few bits in graphs of others: past the last one ONNX Runtime gives zeros, and no error."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from compressor.artifact.layout import GRAPH
from compressor.core.errors import ArtifactError
from compressor.untrusted.graph import FOREIGN, Refusal
from compressor.untrusted.inspector import Inspector, described
from compressor.untrusted.positions import BLOCK_LOOKUP, check_words, lookups_of, words_of


def with_blocks(source: Path, to: Path, table: str) -> Path:
    """Copy an artifact, one of its tables looked up in rows of 4 bits as others export them."""
    shutil.copytree(source, to)
    model = onnx.load(to / GRAPH)
    [gather] = [node for node in model.graph.node if node.op_type == "Gather" and table in str(node.input)]
    [stored] = [tensor for tensor in model.graph.initializer if tensor.name == gather.input[0]]
    rows = numpy_helper.to_array(stored)
    scales = np.abs(rows).max(axis=1, keepdims=True) / 7 + np.float32(1e-9)
    codes = (np.rint(rows / scales) + 8).astype(np.uint8)
    values = {"rows": codes[:, 0::2] | (codes[:, 1::2] << 4), "scales": scales}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    settings: dict[str, Any] = {"bits": 4, "block_size": 32}
    inputs = ["rows", gather.input[1], "scales"]
    gather.CopyFrom(helper.make_node(BLOCK_LOOKUP, inputs, gather.output, "l", domain="com.microsoft", **settings))
    onnx.save(model, to / GRAPH)
    return to


def asked(folder: Path, tokens: int) -> None:
    wanted = {name: described(folder / path) for name, path in (("graph", GRAPH), ("tokenizer", "tokenizer.json"))}
    with Inspector() as process:
        process.ask(folder / GRAPH, wanted, FOREIGN, length={"stated": "length", "tokens": tokens})


def test_positions_tell_their_length(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    folder = with_blocks(artifacts() / "fp32", tmp_path / "copy", "position_embeddings.weight")
    found = lookups_of(onnx.load(folder / GRAPH), onnx)
    assert found is not None
    assert list(found.rows.values()) == [64]
    asked(folder, 64)
    with pytest.raises(ArtifactError, match=r"length = 65: the graph has positions for 64 tokens$"):
        asked(folder, 65)


def test_a_token_without_a_row_is_refused(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    folder = with_blocks(artifacts() / "fp32", tmp_path / "copy", "word_embeddings.weight")
    rows = words_of(onnx.load(folder / GRAPH))
    asked(folder, 64)
    path = folder / "tokenizer.json"
    tokens = json.loads(path.read_text(encoding="utf-8"))
    tokens["model"]["vocab"][list(tokens["model"]["vocab"])[-1]] = rows
    path.write_text(json.dumps(tokens), encoding="utf-8")
    message = rf"tokenizer\.json: a token has id {rows}; the graph has rows for {rows}, and zeros past them$"
    with pytest.raises(ArtifactError, match=message):
        asked(folder, 64)


def test_a_plain_look_up_needs_no_such_check(artifacts: Callable[..., Path]) -> None:
    assert words_of(onnx.load(artifacts() / "fp32" / GRAPH)) is None
    tokenizer = Tokenizer(WordLevel({"a": 0, "b": 999}, unk_token="a"))
    check_words(tokenizer, 1000)
    with pytest.raises(Refusal):
        check_words(tokenizer, 999)
