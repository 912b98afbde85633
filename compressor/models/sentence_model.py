"""Sentence-transformers models: opened safely, and run by PyTorch."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, StaticEmbedding

from compressor.core.encoder import Vectors, check_texts, check_whole, listed
from compressor.core.errors import ModelError, TextError, one_line
from compressor.machine.card import require_card
from compressor.models.decoders import check_direction, keep_windows
from compressor.models.loading import check_finite, whole_weights
from compressor.models.positions import check_tables, check_tokens, drop_special
from compressor.models.settings import check_module_settings, check_transformer_settings
from compressor.models.source import check_folder, module_folders, read_config, transformer_folder

ComputePrecision = Literal["fp32", "bf16", "fp16"]
"""What PyTorch computes in; what an artifact stores is ``compressor.artifact.cases.Precision``."""
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEncoder:
    """A sentence-transformers model run by PyTorch."""

    def __init__(self, model: SentenceTransformer) -> None:
        self.model = model.eval()

    @classmethod
    def load(
        cls,
        folder: Path,
        precision: ComputePrecision = "fp32",
        device: str = "cpu",
        max_length: int | None = None,
    ) -> "TorchEncoder":
        """Open a folder after checking it; ProviderError if ``device`` is not there."""
        model = open_model(folder, device)
        if max_length is not None:
            limit_tokens(model, max_length)
        return cls(model.to(_DTYPES[precision]))

    @property
    def dim(self) -> int:
        return int(embedding_dimension(self.model))

    @property
    def max_length(self) -> int:
        return token_limit(self.model) or 512

    def encode(
        self, texts: Sequence[str], batch_size: int = 32, prompt_name: str | None = None, prompt: str | None = None
    ) -> Vectors:
        """Return float32 [len(texts), dim] by sentence-transformers' own ``encode``; TextError for what is no text.

        TextError, too, for a ``prompt_name`` that the model has not.
        """
        if prompt is None and prompt_name is not None and prompt_name not in list(self.model.prompts):
            allowed = " or ".join(f"{name!a:.80}" for name in self.model.prompts)
            raise TextError(f"prompt_name = {prompt_name!a:.80}: must be {allowed}")
        return self._by(partial(self.model.encode, prompt_name=prompt_name, prompt=prompt), texts, batch_size)

    def encode_query(self, texts: Sequence[str], batch_size: int = 32) -> Vectors:
        """Encode queries: with the prompt that sentence-transformers puts before them, where the model has one."""
        return self._by(self.model.encode_query, texts, batch_size)

    def encode_document(self, texts: Sequence[str], batch_size: int = 32) -> Vectors:
        """Encode documents: with the prompt that sentence-transformers puts before them, where the model has one."""
        return self._by(self.model.encode_document, texts, batch_size)

    def _by(self, encode: Callable[..., Any], texts: Sequence[str], batch_size: int) -> Vectors:
        texts, batch_size = list(listed(texts)), check_whole("batch_size", batch_size)
        check_texts(texts)
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        return np.asarray(encode(texts, batch_size=batch_size, show_progress_bar=False), dtype=np.float32)


def open_model(folder: Path, device: str = "cpu", attention: str | None = None) -> SentenceTransformer:
    """Load a checked sentence-transformers folder in fp32, from disk alone and without remote code."""
    check_folder(folder)
    check_module_settings(folder)
    keep_windows()
    if device.startswith("cuda"):
        require_card("device cuda")
    arguments: dict[str, Any] = {"dtype": torch.float32}
    if attention:
        arguments["attn_implementation"] = attention
    try:
        with whole_weights(folder):
            model = SentenceTransformer(
                str(folder),
                device=device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs=arguments,
            )
    except ModelError:
        raise
    except Exception as error:  # a stranger's settings: the libraries raise whatever they run into
        raise ModelError(f"{folder}: cannot be loaded: {one_line(error)}") from error
    for path, module in zip(module_folders(folder), model, strict=True):
        if getattr(module, "auto_model", None) is None:  # a transformer's were checked as they were read
            check_finite(path, module.named_parameters())
    _leave_out_unread(model)
    try:
        _check_opened(folder, model.eval())
    except ModelError:
        raise
    except Exception as error:  # it is run for the first time here
        raise ModelError(f"{folder}: cannot be run: {one_line(error)}") from error
    return _cut(model)


def _leave_out_unread(model: SentenceTransformer) -> None:
    """Have the tokenizer give only what the transformer takes, and has vectors for.

    transformers 4 passes the rest on, a TypeError.
    """
    transformer = getattr(model[0], "auto_model", None)
    if transformer is not None:
        # Ids and mask are asked for of every tokenizer: a model without a mask has no graph here, and says so itself.
        taken = {"input_ids", "attention_mask", *inspect.signature(transformer.forward).parameters}
        model.tokenizer.model_input_names = [name for name in model.tokenizer.model_input_names if name in taken]
        drop_special(model.tokenizer, transformer.get_input_embeddings().num_embeddings)


def _check_opened(folder: Path, model: SentenceTransformer) -> None:
    """Refuse settings that the opened model does not keep, and tokens or a length that it has no vectors for."""
    if is_static(model):
        table: Any = model[0].embedding
        check_tokens(folder, table.num_embeddings, model.tokenizer)
    elif (transformer := getattr(model[0], "auto_model", None)) is not None:
        check_transformer_settings(transformer_folder(folder), model.tokenizer, transformer)
        check_direction(folder, read_config(folder), transformer)
        check_tables(folder, transformer, model.tokenizer, token_limit(model))


def _cut(model: SentenceTransformer) -> SentenceTransformer:
    """Return the model with ``truncate_dim`` as a Dense of its own, which every stage and every consumer keeps."""
    dim, model.truncate_dim = model.truncate_dim, None
    width = embedding_dimension(model)
    if dim is None or dim >= width:
        return model
    cut = Dense(width, dim, bias=False, activation_function=torch.nn.Identity())
    torch.nn.init.eye_(cut.linear.weight)
    return assembled(model, [*model, cut]).to(model.device)


def assembled(original: SentenceTransformer, modules: Sequence[torch.nn.Module]) -> SentenceTransformer:
    """Return a model of ``modules`` with the prompts and the similarity function of ``original``."""
    return SentenceTransformer(
        modules=list(modules),
        device="cpu",
        prompts={name: prompt or "" for name, prompt in original.prompts.items()},
        default_prompt_name=original.default_prompt_name,
        similarity_fn_name=original.similarity_fn_name,
    ).eval()


def default_prompt(model: SentenceTransformer) -> str:
    """Return what ``encode`` puts before a text, empty for nothing."""
    return str(model.prompts.get(model.default_prompt_name or "") or "")


def embedding_dimension(model: SentenceTransformer) -> int:
    """Return the length of the model's vectors (the accessor's name changed in sentence-transformers 6)."""
    accessor = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
    dimension = accessor()
    if dimension is None:
        raise ModelError("the model does not state the length of its vectors")
    return int(dimension)


def is_static(model: SentenceTransformer) -> bool:
    """Tell whether a text's vector is the mean of one vector a token, with no layers."""
    return isinstance(model[0], StaticEmbedding)


def token_limit(model: SentenceTransformer) -> int | None:
    """Return the number of tokens after which a text is cut, None for no limit; a static model's is its tokenizer's."""
    if is_static(model):
        truncation = model.tokenizer.truncation
        return int(truncation["max_length"]) if truncation else None
    return int(model.max_seq_length) if model.max_seq_length else None


def limit_tokens(model: SentenceTransformer, limit: int) -> None:
    """Cut texts at ``limit`` tokens from now on, in place."""
    if is_static(model):
        model.tokenizer.enable_truncation(limit)
    else:
        model.max_seq_length = limit


def transformer_of(model: SentenceTransformer) -> Any:
    """Return the Hugging Face model inside."""
    inner = getattr(model[0], "auto_model", None)
    if inner is None:
        kind = "a static model has no layers: it" if is_static(model) else "the first module"
        raise ModelError(f"{kind} is no transformer")
    return inner
