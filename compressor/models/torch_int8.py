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
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling
from transformers import AutoConfig, AutoModel, AutoTokenizer

from compressor.artifact.folder import MANIFEST, Draft
from compressor.artifact.prompts import DOCUMENT, QUERY, Prompts
from compressor.core.config import Config
from compressor.core.encoder import Vectors, check_texts, check_whole, length_sorted_batches, listed
from compressor.core.errors import ModelError, first_line
from compressor.models.loading import check_finite
from compressor.models.sentence_model import TorchEncoder, is_static, open_model, transformer_of
from compressor.models.source import check_parts, transformer_folder
from compressor.untrusted.weights import INDEX, read_header

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
        if is_static(source):
            raise ModelError(f"{model}: a static model has no linear layers; leave quantize out")
        for path in ("", transformer_folder(model).relative_to(model)):
            copy_files(model / path, draft.folder / path, ".json", ".txt", ".model")
        for _, path in _tail(model):
            copy_files(model / path, draft.folder / path, ".json", ".safetensors")
        save_file(flatten(quantize(transformer_of(source))), draft.folder / WEIGHTS)
        prompt = source.prompts.get(source.default_prompt_name or "", "")
        settings = {"max_length": source.max_seq_length, "dim": TorchEncoder(source).dim, "prompt": prompt}
        (draft.folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _tail(folder: Path) -> list[tuple[str, str]]:
    """Return kind and folder of the modules after the transformer; ModelError for a kind not known here."""
    listed = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    modules = [(module["type"].rpartition(".")[2], module["path"]) for module in listed[1:]]
    for kind, _ in modules:
        if kind not in _TAIL:
            raise ModelError(f"{folder}: module {kind} cannot be quantized; known: {', '.join(_TAIL)}")
    return modules


def copy_files(folder: Path, to: Path, *suffixes: str) -> None:
    """Copy files of the named kinds only: a model's folder may hold pickles, and other forms of its weights."""
    to.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*"):
        if file.suffix in suffixes and file.name not in (MANIFEST, INDEX):
            shutil.copyfile(file, to / file.name)


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


def restore(transformer: torch.nn.Module, weights: Path, within: str = "") -> None:
    """Put weights stored by ``flatten`` into a freshly built float ``transformer``, in place.

    Linear layers whose name begins with ``within`` are int8.

    Raises ModelError where the weights are not, name by name and shape by shape, those of the transformer.
    """
    linear = [
        name
        for name, module in transformer.named_modules()
        if isinstance(module, torch.nn.Linear) and name.startswith(within)
    ]
    expected = _stored_shapes(transformer, linear)
    found = {name: list(entry["shape"]) for name, entry in read_header(weights).items()}
    if missing := sorted(expected.keys() - found.keys()):
        raise ModelError(f"{weights}: no weights for {missing[0]} (and {len(missing) - 1} more)")
    if wrong := sorted(name for name, shape in expected.items() if found[name] != shape):
        name = wrong[0]
        raise ModelError(f"{weights}: {name} is {found[name]}, config.json says {expected[name]}")
    with safe_open(weights, framework="pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in expected}
    check_finite(weights, tensors.items())
    for name in linear:
        values, scales, bias = (tensors.pop(f"{name}.{part}", None) for part in ("int8", "scale", "bias"))
        transformer.set_submodule(name, _int8_linear(values, scales, bias))
    for name, values in tensors.items():
        owner, _, leaf = name.rpartition(".")
        getattr(transformer.get_submodule(owner), leaf).data.copy_(values)


def _stored_shapes(transformer: torch.nn.Module, linear: Sequence[str]) -> dict[str, list[int]]:
    """Return the names and shapes under which ``flatten`` stores a float transformer with these linear layers."""
    shapes = {name: list(value.shape) for name, value in transformer.state_dict().items()}
    for name in linear:
        shapes[f"{name}.int8"] = shapes.pop(f"{name}.weight")
        shapes[f"{name}.scale"] = shapes[f"{name}.int8"][:1]
    return shapes


def _int8_linear(values: Any, scales: Any, bias: torch.Tensor | None) -> torch.nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = _LINEAR(values.shape[1], values.shape[0], bias_=bias is not None)
        zeros = torch.zeros(len(scales), dtype=torch.int64)
        weight = torch._make_per_channel_quantized_tensor(values, scales.to(torch.float64), zeros, 0)
        layer.set_weight_bias(weight, bias)
    return layer


class TorchInt8Encoder:
    """A dynamic int8 model run by PyTorch on the CPU."""

    def __init__(
        self,
        tokenizer: Any,
        modules: list[torch.nn.Module],
        max_length: int,
        dim: int,
        prompt: str = "",
        prompts: Prompts | None = None,
    ) -> None:
        self._tokenizer, self._modules = tokenizer, modules
        self.max_length, self.dim = max_length, dim
        self.prompts = prompts or Prompts({}, prompt)

    @classmethod
    def load(cls, folder: Path) -> "TorchInt8Encoder":
        """Open a folder written by ``TorchInt8``; ModelError if something is missing."""
        try:
            settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
            check_parts(folder)
            inner = transformer_folder(folder)
            config = AutoConfig.from_pretrained(inner, local_files_only=True, trust_remote_code=False)
            transformer = AutoModel.from_config(config, trust_remote_code=False, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(inner, local_files_only=True, trust_remote_code=False)
            tail = [_TAIL[kind].load(str(folder), path, local_files_only=True) for kind, path in _tail(folder)]
        except (OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
            raise ModelError(f"{folder}: not a PyTorch int8 folder: {first_line(error)}") from error
        restore(transformer, folder / WEIGHTS)
        for (_, path), module in zip(_tail(folder), tail, strict=True):
            check_finite(folder / path, module.named_parameters())
        modules = [module.eval() for module in (transformer, *tail)]
        return cls(tokenizer, modules, **settings, prompts=Prompts.load(folder))

    def encode(
        self, texts: Sequence[str], batch_size: int = 32, prompt_name: str | None = None, prompt: str | None = None
    ) -> Vectors:
        """Return float32 [len(texts), dim], rows in the order of ``texts``; TextError for what is no text.

        TextError, too, for a ``prompt_name`` that the model has not, and for a prompt that its pooling leaves out.
        """
        return self._behind(self.prompts.choose(prompt_name, prompt), texts, batch_size)

    def encode_query(self, texts: Sequence[str], batch_size: int = 32) -> Vectors:
        """Encode queries, behind the model's prompt for them."""
        return self._behind(self.prompts.choose(self.prompts.first(QUERY)), texts, batch_size)

    def encode_document(self, texts: Sequence[str], batch_size: int = 32) -> Vectors:
        """Encode documents, behind the model's prompt for them."""
        return self._behind(self.prompts.choose(self.prompts.first(DOCUMENT)), texts, batch_size)

    def _behind(self, prompt: str, texts: Sequence[str], batch_size: int) -> Vectors:
        texts, batch_size = listed(texts), check_whole("batch_size", batch_size)
        check_texts(texts)
        vectors = np.zeros((len(texts), self.dim), np.float32)
        lengths = np.array([len(text) for text in texts], dtype=np.int64)
        with torch.inference_mode():
            for rows in length_sorted_batches(lengths, batch_size):
                vectors[rows] = self._forward([prompt + texts[i] for i in rows])
        return vectors

    def _forward(self, texts: list[str]) -> Vectors:
        inputs = self._tokenizer(texts, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt")
        features: dict[str, Any] = dict(inputs)
        features["token_embeddings"] = self._modules[0](**inputs).last_hidden_state
        for module in self._modules[1:]:
            features = module(features)
        return features["sentence_embedding"].numpy()
