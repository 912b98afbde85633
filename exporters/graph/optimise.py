"""Graph optimisation: fuse what ONNX Runtime has one fast kernel for."""

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model
from transformers import AutoConfig

from compressor.artifact.copying import copy_consumer_files
from compressor.artifact.folder import Draft
from compressor.artifact.layout import GRAPH
from compressor.core.config import Config
from compressor.models.decoders import is_decoder
from compressor.models.source import check_module
from exporters.graph.attention import fuse_attention
from exporters.graph.export import model_facts
from exporters.graph.files import run_operators, save
from exporters.graph.rewrite import unmasked_where_whole


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
        check_module(exported)
        config = AutoConfig.from_pretrained(exported, local_files_only=True, trust_remote_code=False)
        facts = model_facts(config)
        copy_consumer_files(exported, draft.folder)
        with _quiet():
            fused = optimize_model(
                str(exported / GRAPH),
                model_type="bert",
                # 0 where a family has no such thing: then the optimiser looks for itself.
                num_heads=getattr(facts, "num_attention_heads", 0),
                hidden_size=getattr(facts, "hidden_size", 0),
                optimization_options=self._fusions(is_decoder(config.model_type)),
                opt_level=0,
            ).model
        _state_heads(fused, facts)
        if self.attention:
            _fuse_rest(fused, facts)
        save(fused, draft.folder / GRAPH)
        draft.figures["operators"] = run_operators(draft.folder / GRAPH)

    def _fusions(self, decoder: bool) -> FusionOptions:
        options = FusionOptions("bert")
        options.enable_attention = self.attention
        options.enable_bias_gelu = options.enable_gelu = self.gelu
        options.enable_skip_layer_norm = options.enable_bias_skip_layer_norm = self.skip_normalization
        options.enable_embed_layer_norm = False  # its operator wants int32 ids and forbids an int8 table
        options.enable_rotary_embeddings = not decoder  # its operator wants the positions of every text
        return options


_LONG = 1024  # tokens of a model's limit: above it scores, tokens squared, are not kept where that can be had
_WINDOWS = ("local_attention", "sliding_window")
_SIZES = ("head_dim", "d_kv")  # of a head, where it is not its share of the width


def _fuse_rest(model: onnx.ModelProto, facts: Any) -> None:
    """Fuse the attention of families that the optimiser does not know, in place."""
    positions = getattr(facts, "max_position_embeddings", None)
    window = max(int(getattr(facts, name, None) or 0) for name in _WINDOWS)
    size = next((own for name in _SIZES if (own := getattr(facts, name, None))), None)
    fuse_attention(model, size or facts.hidden_size // facts.num_attention_heads, positions, window)
    if positions is None or positions > _LONG:
        unmasked_where_whole(model)


def _state_heads(model: onnx.ModelProto, facts: Any) -> None:
    """State each fused attention's own count of heads, in place: pruned layers have fewer than the config says."""
    sizes = {tensor.name: tensor.dims[-1] for tensor in model.graph.initializer if tensor.dims}
    for node in model.graph.node:
        if node.op_type == "Attention" and node.input[1] in sizes:
            for attribute in node.attribute:
                if attribute.name == "num_heads":
                    # The weights are query, key and value side by side; a head's size is what the config says.
                    attribute.i = sizes[node.input[1]] * facts.num_attention_heads // (3 * facts.hidden_size)


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
