"""Question-answering models as one ONNX graph."""

from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from compressor.answering.readers.base import tokenizer_of
from compressor.answering.readers.model import open_reader, position_limit
from compressor.answering.readers.reader import Reading, write_reading
from compressor.artifact.folder import Draft
from compressor.artifact.layout import ANSWERING, GRAPH
from compressor.core.config import Config
from compressor.models.positions import check_tokens
from exporters.graph.consumers import write_config, write_tokenizer
from exporters.graph.export import AXES, check_and_save, example_inputs, traced


class ReaderExport(Config):
    """Write a question-answering model as one ONNX graph in fp32."""

    opset: int = Field(default=17, ge=17, le=20)
    """Version of the ONNX operator set; 17 is the first with LayerNormalization."""

    def run(self, model: Path, reading: Reading, draft: Draft) -> None:
        """Write ``onnx/model.onnx`` and the files its consumers read into ``draft``.

        Inputs int64 [batch_size, sequence_length]: input_ids, attention_mask, and token_type_ids where the model has
        them. Outputs float32 [batch_size, sequence_length]: start_logits, end_logits. How windows are cut stands in
        ``reading.json``.
        """
        reader = open_reader(model, attention="eager")  # the form that ONNX Runtime fuses
        check_tokens(model, reader.get_input_embeddings().num_embeddings, tokenizer_of(model))
        path = draft.folder / GRAPH
        path.parent.mkdir(parents=True, exist_ok=True)
        inputs = example_inputs(reader)
        outputs = dict.fromkeys(ANSWERING, AXES)
        graph = _Graph(reader, tuple(inputs))
        check_and_save(traced(graph, inputs, outputs, path, self.opset, reader.config.model_type), path)
        limit = min(reading.max_length, position_limit(reader) or reading.max_length)
        write_config(reader.config, draft.folder)
        write_tokenizer(tokenizer_of(model), limit, draft.folder)
        write_reading(reading.model_copy(update={"max_length": limit}), draft.folder)


class _Graph(torch.nn.Module):
    """A question-answering model as a function of tensors, in the order of ``names``."""

    def __init__(self, model: Any, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        output = self.model(**dict(zip(self.names, tensors, strict=True)))
        return output.start_logits, output.end_logits
