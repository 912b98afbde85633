"""ONNX folders as other exporters write them: a graph of the transformer alone, or of all, beside its settings."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from builders import sentences

from compressor.core.encoder import Vectors
from compressor.core.errors import CompressorError
from compressor.models.pooling import Pooling
from compressor.models.sentence_model import open_model
from exporters.foreign.adopt import adopted
from exporters.foreign.find import Foreign, foreign_in
from exporters.graph.export import Graph, example_inputs
from exporters.session import OnnxEncoder

TEXTS = ["", "a", *sentences(40), " ".join(sentences(20))]  # none, one and more tokens than are read
GRAPH = "onnx/model.onnx"
BATCH, LENGTH = "batch_size", "sequence_length"


def export_as_others(
    model: Path, to: Path, gives: Sequence[str] = ("last_hidden_state",), name: str = "onnx/model.onnx", opset: int = 14
) -> Path:
    """Write the graph of a sentence-transformers folder and its settings, without its weights, and return ``to``.

    The graph ``gives`` a vector a token by the first name that is none of a text's, and ``sentence_embedding`` where
    that is named.
    """
    if not to.is_dir():
        shutil.copytree(model, to, ignore=lambda folder, _: ["model.safetensors"] if Path(folder) == model else [])
    encoder = open_model(model, attention="eager")
    graph = _Outputs(Graph(encoder), gives)
    inputs = example_inputs(encoder[0].auto_model)
    (to / name).parent.mkdir(exist_ok=True)
    axes = {part: {0: BATCH, 1: LENGTH} for part in (*inputs, *gives)}
    axes |= {"sentence_embedding": {0: BATCH}} if "sentence_embedding" in gives else {}
    with torch.inference_mode():
        torch.onnx.export(
            graph.eval(),
            tuple(inputs.values()),
            str(to / name),
            input_names=list(inputs),
            output_names=list(gives),
            dynamic_axes=axes,
            opset_version=opset,
            dynamo=False,
        )
    return to


class _Outputs(torch.nn.Module):
    """Of a token's and a text's vectors, those that are asked for."""

    def __init__(self, graph: Graph, gives: Sequence[str]) -> None:
        super().__init__()
        self.graph, self.gives = graph, gives

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        hidden, vectors = self.graph(*tensors)
        return tuple(vectors if name == "sentence_embedding" else hidden for name in self.gives)


def changed(graph: Path, change: Any) -> None:
    """Change a graph in place by ``change(model)``."""
    model = onnx.load(graph)
    change(model)
    onnx.save(model, graph)


def found(path: Path) -> Foreign:
    foreign = foreign_in(path)
    assert foreign is not None
    return foreign


def vectors(path: Path, pooling: Pooling | None = None) -> Vectors:
    with adopted(found(path), pooling) as (folder, _):
        return OnnxEncoder(folder, threads=2).encode(TEXTS, batch_size=8)


def refused(path: Path, pooling: Pooling | None = None) -> str:
    with pytest.raises(CompressorError) as caught:
        vectors(path, pooling)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def restate(path: Path, **fields: Any) -> None:
    """Change fields of a JSON file; None takes one away."""
    stated = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in stated.items() if value is not None}))
