"""PyTorch dynamic int8: int8 weights a channel, activations quantized as they come; stored without pickle."""

import json
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sentence_transformers.models import Dense, Normalize, Pooling
from transformers import AutoConfig, AutoModel, AutoTokenizer

from compressor.artifact import Draft
from compressor.encoder import Vectors, length_sorted_batches
from compressor.errors import ModelError
from compressor.recipe import Config
from compressor.sentence_model import TorchEncoder, open_model, transformer_of
from compressor.weights import read_header

WEIGHTS = "int8.safetensors"
SETTINGS = "int8.json"
_LINEAR = torch.ao.nn.quantized.dynamic.Linear
_TAIL = {"Pooling": Pooling, "Dense": Dense, "Normalize": Normalize}


class TorchInt8(Config):
    """Quantize the linear layers of the transformer to int8 for PyTorch on CPUs."""

    def run(self, model: Path, draft: Draft) -> None:
        """Write the int8 form of the sentence-transformers folder ``model`` into ``draft``.

        Weights are symmetric int8 with one scale an output channel; activations are quantized dynamically,
        one range a batch, by ``torch.ao.quantization.quantize_dynamic``.
        """
        source = open_model(model)
        quantized = quantize(transformer_of(source))
        ignored = shutil.ignore_patterns("model.safetensors", "manifest.json", "projection.safetensors", ".*")
        shutil.copytree(model, draft.folder, ignore=ignored, dirs_exist_ok=True)
        for module in model.glob("*_Dense"):
            shutil.copy2(module / "model.safetensors", draft.folder / module.name)
        save_file(flatten(quantized), draft.folder / WEIGHTS)
        settings = {"max_length": source.max_seq_length, "dim": TorchEncoder(source).dim}
        (draft.folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")


def quantize(transformer: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of ``transformer`` with its linear layers in dynamic int8, weights per channel."""
    qconfig = torch.ao.quantization.per_channel_dynamic_qconfig
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces torchao; the eager API stays the one for CPU int8
        return torch.ao.quantization.quantize_dynamic(transformer, {torch.nn.Linear: qconfig})


def flatten(transformer: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return every weight as a plain tensor: int8 values, scales and biases of the int8 layers, the rest as is."""
    tensors: dict[str, torch.Tensor] = {}
    inside: tuple[str, ...] = ()
    for name, module in transformer.named_modules():
        if isinstance(module, _LINEAR):
            weight = module.weight()
            tensors[f"{name}.int8"] = weight.int_repr().contiguous()
            tensors[f"{name}.scale"] = weight.q_per_channel_scales().to(torch.float32)
            if module.bias() is not None:
                tensors[f"{name}.bias"] = module.bias().detach().contiguous()
            inside += (f"{name}.",)
    for name, value in transformer.state_dict().items():
        if isinstance(value, torch.Tensor) and not name.startswith(inside):
            tensors[name] = value.contiguous()
    return tensors


def restore(transformer: torch.nn.Module, weights: Path) -> None:
    """Put weights stored by ``flatten`` into a freshly built float ``transformer``, in place."""
    names = set(read_header(weights))
    with safe_open(weights, framework="pt") as stored:
        int8 = sorted(n.removesuffix(".int8") for n in names if n.endswith(".int8"))
        for name in int8:
            bias = stored.get_tensor(f"{name}.bias") if f"{name}.bias" in names else None
            layer = _int8_linear(stored.get_tensor(f"{name}.int8"), stored.get_tensor(f"{name}.scale"), bias)
            transformer.set_submodule(name, layer)
            names -= {f"{name}.int8", f"{name}.scale", f"{name}.bias"}
        plain = {name: stored.get_tensor(name) for name in names}
    expected = {n for n in transformer.state_dict() if not n.startswith(tuple(f"{name}." for name in int8))}
    if missing := sorted(expected - set(plain)):
        raise ModelError(f"{weights}: no weights for {missing[0]} (and {len(missing) - 1} more)")
    for name in expected:
        owner, _, leaf = name.rpartition(".")
        getattr(transformer.get_submodule(owner), leaf).data.copy_(plain[name])


def _int8_linear(values: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor | None) -> torch.nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = _LINEAR(values.shape[1], values.shape[0], bias_=bias is not None)
        zeros = torch.zeros(len(scales), dtype=torch.int64)
        weight = torch._make_per_channel_quantized_tensor(values, scales.to(torch.float64), zeros, 0)
        layer.set_weight_bias(weight, bias)
    return layer


class TorchInt8Encoder:
    """A dynamic int8 model run by PyTorch on the CPU."""

    def __init__(self, tokenizer: Any, modules: list[torch.nn.Module], max_length: int, dim: int) -> None:
        self._tokenizer, self._modules = tokenizer, modules
        self.max_length, self.dim = max_length, dim

    @classmethod
    def load(cls, folder: Path) -> "TorchInt8Encoder":
        """Open a folder written by ``TorchInt8``; ModelError if something is missing."""
        try:
            settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
            listed = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
            transformer = AutoModel.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"{folder}: not a PyTorch int8 folder: {str(error).splitlines()[0]}") from error
        restore(transformer, folder / WEIGHTS)
        tail = [_TAIL[m["type"].rsplit(".", 1)[-1]].load(str(folder / m["path"])) for m in listed[1:]]
        modules = [module.eval() for module in (transformer, *tail)]
        return cls(tokenizer, modules, settings["max_length"], settings["dim"])

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> Vectors:
        """Return float32 [len(texts), dim], rows in the order of ``texts``."""
        vectors = np.zeros((len(texts), self.dim), np.float32)
        lengths = np.array([len(text) for text in texts], dtype=np.int64)
        with torch.inference_mode():
            for rows in length_sorted_batches(lengths, batch_size):
                vectors[rows] = self._forward([texts[i] for i in rows])
        return vectors

    def _forward(self, texts: list[str]) -> Vectors:
        inputs = self._tokenizer(texts, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt")
        features: dict[str, Any] = dict(inputs)
        features["token_embeddings"] = self._modules[0](**inputs).last_hidden_state
        for module in self._modules[1:]:
            features = module(features)
        return features["sentence_embedding"].numpy()
