"""One ONNX graph for the whole encoder: transformer, pooling, Dense and Normalize layers."""

import contextlib
import inspect
import io
import logging
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import torch
from optimum.utils import DummyTextInputGenerator, NormalizedConfigManager
from optimum.utils.normalized_config import NormalizedConfig, NormalizedTextConfig
from pydantic import Field
from sentence_transformers import SentenceTransformer

from compressor.artifact.folder import Draft
from compressor.artifact.layout import EMBEDDING, GRAPH, INPUTS, TAIL
from compressor.core.config import Config
from compressor.core.errors import ModelError, first_line
from compressor.distil.student.prune import compact
from compressor.models.sentence_model import open_model, transformer_of
from exporters.graph.additive import add_masks
from exporters.graph.consumers import check_modules, write_consumer_files
from exporters.graph.decoders import decoder_inputs
from exporters.graph.files import write
from exporters.graph.static import as_transformer
from exporters.verify.folder import check_folder

AXES = {0: "batch_size", 1: "sequence_length"}


class Export(Config):
    """Write the encoder as one ONNX graph in fp32."""

    opset: int = Field(default=17, ge=17, le=20)
    """Version of the ONNX operator set; 17 is the first with LayerNormalization."""

    def run(self, model: Path, draft: Draft) -> None:
        """Write ``onnx/model.onnx`` and the files its consumers read into ``draft``.

        Inputs int64 [batch_size, sequence_length]: input_ids, attention_mask, and token_type_ids where the
        model has them. Outputs float32: last_hidden_state [batch_size, sequence_length, hidden],
        sentence_embedding [batch_size, dim].
        """
        # Attention written out in plain operators is the form that ONNX Runtime fuses.
        encoder = as_transformer(open_model(model, attention="eager"))
        check_modules(model, encoder)
        draft.figures["heads_removed"] = compact(encoder)
        path = draft.folder / GRAPH
        path.parent.mkdir(parents=True, exist_ok=True)
        write_graph(encoder, path, self.opset)
        write_consumer_files(encoder, draft.folder)
        check_folder(model, encoder, draft.folder)


def write_graph(encoder: SentenceTransformer, path: Path, opset: int) -> None:
    """Trace ``encoder`` into one self-contained file with static vector lengths; ModelError if it cannot be."""
    transformer = transformer_of(encoder)
    axes = {EMBEDDING[0]: AXES, EMBEDDING[1]: {0: AXES[0]}}
    model = traced(Graph(encoder), example_inputs(transformer), axes, path, opset, transformer.config.model_type)
    _state_widths(model, transformer.config.hidden_size, encoder)
    check_and_save(model, path)


def traced(
    graph: torch.nn.Module,
    inputs: dict[str, torch.Tensor],
    outputs: dict[str, dict[int, str]],
    path: Path,
    opset: int,
    family: str,
) -> onnx.ModelProto:
    """Trace a function of ``inputs``, whose axes are AXES, into a graph; ``outputs`` by name with their free axes.

    It is written aside, near ``path``: a large model's tensors have a file each. Raises ModelError, naming ``family``,
    where it cannot be.
    """
    dynamic: dict[str, dict[int, str]] = dict.fromkeys(inputs, AXES) | outputs
    add_masks(graph)
    try:
        with _quiet(), torch.inference_mode(), TemporaryDirectory(dir=path.parent) as aside:
            torch.onnx.export(
                graph.eval(),
                tuple(inputs.values()),
                to := str(Path(aside) / path.name),
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes=dynamic,
                opset_version=opset,
                # The tracing exporter's graph is the one that ONNX Runtime fuses whole: the newer exporter's
                # keeps its attention apart.
                dynamo=False,
            )
            return onnx.load(to)
    except OSError:
        raise
    except Exception as error:  # the tracer raises its own kinds, and whatever the model's code does
        raise ModelError(f"{family}: cannot be traced into one ONNX graph: {first_line(error)}") from error


class Graph(torch.nn.Module):
    """The module list of a sentence-transformers model as one function of tensors."""

    transformer: Any

    def __init__(self, encoder: SentenceTransformer) -> None:
        super().__init__()
        self.transformer = transformer_of(encoder)
        setattr(self, TAIL, torch.nn.ModuleList(list(encoder)[1:]))
        self.names = input_names(self.transformer)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = dict(zip(self.names, tensors, strict=True))
        masks = decoder_inputs(self.transformer, inputs["attention_mask"])
        hidden = self.transformer(**inputs | masks).last_hidden_state
        features: dict[str, Any] = {"token_embeddings": hidden, "attention_mask": inputs["attention_mask"]}
        for module in getattr(self, TAIL):
            features = module(features)
        return hidden, features["sentence_embedding"]


def input_names(transformer: Any) -> tuple[str, ...]:
    """Return the graph's inputs: token_type_ids only where the model really reads them."""
    takes = "token_type_ids" in inspect.signature(transformer.forward).parameters
    return INPUTS if takes and getattr(transformer.config, "type_vocab_size", 0) > 1 else INPUTS[:2]


def example_inputs(transformer: Any) -> dict[str, torch.Tensor]:
    """Return inputs to trace with, int64 [2, 16], the second text padded."""
    facts = model_facts(transformer.config)
    generator = DummyTextInputGenerator("feature-extraction", facts, batch_size=2, sequence_length=16)
    inputs = {name: generator.generate(name, framework="pt") for name in input_names(transformer)}
    inputs["attention_mask"] = torch.ones(2, 16, dtype=torch.int64)
    inputs["attention_mask"][1, 12:] = 0
    return inputs


def model_facts(config: Any) -> NormalizedConfig:
    """Return heads, width, layers and vocabulary under one name for every family (optimum's table)."""
    try:
        return NormalizedConfigManager.get_normalized_config_class(config.model_type)(config)
    except KeyError:
        return NormalizedTextConfig(config)


def _state_widths(model: onnx.ModelProto, hidden: int, encoder: SentenceTransformer) -> None:
    """State static last dimensions of the outputs, which several consumers need, in place."""
    try:
        dim = encoder.encode(["x"]).shape[1]
    except Exception as error:  # what the tokenizer gives and the model does not take
        family = transformer_of(encoder).config.model_type
        raise ModelError(f"{family}: cannot be run by PyTorch: {first_line(error)}") from error
    widths = dict(zip(EMBEDDING, (hidden, dim), strict=True))
    for output in model.graph.output:
        last = output.type.tensor_type.shape.dim[-1]
        last.Clear()
        last.dim_value = widths[output.name]


def check_and_save(model: onnx.ModelProto, path: Path) -> None:
    """Save a graph under a name that says nothing of the machine; ModelError where it is not valid ONNX."""
    model.producer_name, model.producer_version = "compressor", ""
    model.graph.name = "encoder"
    write(model, path)
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"{path}: the exported graph is not valid ONNX: {error}") from error


@contextlib.contextmanager
def _quiet() -> Any:
    """Keep the tracer's notes on constants and deprecation to itself; the result is verified by figures."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
