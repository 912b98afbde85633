"""Graph optimisation: fuse what ONNX Runtime has one fast kernel for."""

import contextlib
import io
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model
from transformers import AutoConfig

from compressor.artifact import Draft
from compressor.errors import ArtifactError
from compressor.recipe import Config
from exporters.layout import GRAPH, copy_consumer_files
from exporters.onnx import model_facts


class Optimise(Config):
    """Fuse attention, Gelu and normalization into ONNX Runtime's own operators."""

    attention: bool = True
    """Fuse each layer's attention into one operator."""
    gelu: bool = True
    """Fuse each feed-forward layer's bias and Gelu into one operator."""
    skip_normalization: bool = False
    """Fuse residual and normalization; on CPUs the fused operator is slower than the two it replaces."""

    def run(self, exported: Path, draft: Draft) -> None:
        """Write the optimised form of an exported folder into ``draft``."""
        facts = model_facts(AutoConfig.from_pretrained(exported, local_files_only=True))
        copy_consumer_files(exported, draft.folder)
        with _quiet():
            fused = optimize_model(
                str(exported / GRAPH),
                model_type="bert",
                # 0 where a family has no such thing: then the optimiser looks for itself.
                num_heads=getattr(facts, "num_attention_heads", 0),
                hidden_size=getattr(facts, "hidden_size", 0),
                optimization_options=self._fusions(),
                opt_level=0,
            ).model
        _state_heads(fused, facts)
        save(fused, draft.folder / GRAPH)
        draft.figures["operators"] = run_operators(draft.folder / GRAPH)

    def _fusions(self) -> FusionOptions:
        options = FusionOptions("bert")
        options.enable_attention = self.attention
        options.enable_bias_gelu = options.enable_gelu = self.gelu
        options.enable_skip_layer_norm = options.enable_bias_skip_layer_norm = self.skip_normalization
        options.enable_embed_layer_norm = False  # its operator wants int32 ids and forbids an int8 table
        return options


def _state_heads(model: onnx.ModelProto, facts: Any) -> None:
    """State each fused attention's own count of heads, in place: pruned layers have fewer than the config says."""
    sizes = {tensor.name: tensor.dims[-1] for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Attention" and node.input[1] in sizes:
            for attribute in node.attribute:
                if attribute.name == "num_heads":
                    # The weights are query, key and value side by side; a head's size is what the config says.
                    attribute.i = sizes[node.input[1]] * facts.num_attention_heads // (3 * facts.hidden_size)


def load(path: Path) -> onnx.ModelProto:
    """Read a graph; ArtifactError if it is none, or not whole."""
    try:
        return onnx.load(path, load_external_data=False)
    except (OSError, DecodeError) as error:
        raise ArtifactError(f"{path}: missing, or not a whole ONNX graph") from error


def save(model: onnx.ModelProto, path: Path) -> None:
    """Save with stable names and no trace of the machine, so that equal models give equal bytes."""
    model.producer_name, model.producer_version = "compressor", ""
    if not any(entry.domain == "com.microsoft" for entry in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    del model.metadata_props[:]
    del model.graph.value_info[:]
    model.doc_string = model.graph.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    onnx.save(model, path)


def run_operators(graph: Path, providers: tuple[str, ...] = ("CPUExecutionProvider",)) -> dict[str, int]:
    """Count the operators of the graph as ONNX Runtime runs it, after its own optimisations at load.

    ArtifactError if it cannot be loaded.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    with TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "run.onnx")
        try:
            onnxruntime.InferenceSession(str(graph), options, providers=list(providers))
        except Exception as error:  # ONNX Runtime raises its own kinds, one a status code
            reason = str(error).strip().splitlines()[0]
            raise ArtifactError(f"{graph}: cannot be loaded: {reason}") from error
        model = onnx.load(options.optimized_model_filepath, load_external_data=False)
    return dict(sorted(Counter(node.op_type for node in model.graph.node).items()))


@contextlib.contextmanager
def _quiet() -> Iterator[Any]:
    logger = logging.getLogger("onnxruntime.transformers")
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            yield logger
        finally:
            logging.disable(disabled)
