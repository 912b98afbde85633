"""A static model seen as a transformer of no layers, so that one exporter serves both."""

import json
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer
from transformers import BertConfig, PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutput

from compressor.core.errors import ModelError
from compressor.models.sentence_model import assembled, is_static, token_limit
from compressor.models.source import STATIC

_PADDING = ("[PAD]", "<pad>", "<|padding|>")


class TokenTable(torch.nn.Module):
    """One vector a token, behind a transformer's interface."""

    def __init__(self, weight: torch.Tensor, pad: int, limit: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight.detach(), requires_grad=False)
        # Loaders of ONNX folders want a family that they know; what runs is the graph.
        self.config = BertConfig(
            architectures=[STATIC],
            vocab_size=len(weight),
            hidden_size=weight.shape[1],
            num_hidden_layers=0,
            num_attention_heads=1,
            intermediate_size=1,
            max_position_embeddings=limit,
            type_vocab_size=1,
            hidden_act="linear",
            pad_token_id=pad,
        )

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> BaseModelOutput:
        """Return the tokens' vectors, float32 [batch, length, dim]; the mask is the pooling's to read."""
        return BaseModelOutput(last_hidden_state=torch.nn.functional.embedding(input_ids, self.weight))


class StaticTransformer(torch.nn.Module):
    """A table and its tokenizer as the first module of a sentence-transformers model."""

    def __init__(self, table: TokenTable, tokenizer: PreTrainedTokenizerFast, limit: int) -> None:
        super().__init__()
        self.auto_model, self.tokenizer, self.max_seq_length = table, tokenizer, limit

    def preprocess(self, inputs: list[str], prompt: str | None = None, **_: Any) -> dict[str, Any]:
        """Return ids and mask of the texts, int64 [texts, longest]."""
        texts = [(prompt or "") + text for text in inputs]
        encoded = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_seq_length, return_tensors="pt"
        )
        return {"input_ids": encoded["input_ids"].long(), "attention_mask": encoded["attention_mask"].long()}

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        table = self.auto_model(features["input_ids"], features["attention_mask"])
        return features | {"token_embeddings": table.last_hidden_state}


def as_transformer(encoder: SentenceTransformer) -> SentenceTransformer:
    """Return a static model as table, mean pooling and the rest of its modules; any other model as it is.

    The mean over no token is zero, as EmbeddingBag's is. Raises ModelError for one whose tokenizer states no limit.
    """
    if not is_static(encoder):
        return encoder
    limit = token_limit(encoder)
    if limit is None:
        raise ModelError("a static model without a length limit; set truncation.max_length in its tokenizer.json")
    tokenizer = _plain(encoder.tokenizer, limit)
    embedding: Any = encoder[0].embedding
    table = TokenTable(embedding.weight, tokenizer.pad_token_id, limit)
    pooling = Pooling(table.weight.shape[1], pooling_mode="mean")
    return assembled(encoder, [StaticTransformer(table, tokenizer, limit), pooling, *list(encoder)[1:]])


def _plain(tokenizer: Tokenizer, limit: int) -> PreTrainedTokenizerFast:
    """Return a copy that adds no special tokens, as StaticEmbedding tells its tokenizer call by call."""
    settings = json.loads(tokenizer.to_str())
    settings["post_processor"] = settings["padding"] = None
    tokens = Tokenizer.from_str(json.dumps(settings))
    pad = next((name for name in _PADDING if tokens.token_to_id(name) is not None), tokens.id_to_token(0))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        pad_token=pad,
        model_max_length=limit,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )
