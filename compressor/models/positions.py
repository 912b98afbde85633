"""What a model's tables hold, against what its tokenizer gives: a vector for every token, positions for every text."""

import contextlib
import json
from typing import Any

import torch
from tokenizers import Tokenizer

from compressor.core.errors import ModelError

_SHORT, _LONG = 8, 12  # tokens of the two texts that tell how positions grow


def check_tables(where: object, transformer: Any, tokenizer: Any, limit: int | None) -> None:
    """Refuse a tokenizer with tokens past the model's table, and a ``limit`` in tokens past its positions: ModelError.

    ``where`` is the folder, for the message.
    """
    check_tokens(where, transformer.get_input_embeddings().num_embeddings, tokenizer)
    most = positions(transformer)
    if limit is not None and most is not None and limit > most:
        raise ModelError(
            f"{where}: max_seq_length = {limit}: the model has positions for {most} tokens; "
            f"state at most {most} in sentence_bert_config.json"
        )


def check_tokens(where: object, rows: int, tokenizer: Any) -> None:
    """Refuse a tokenizer (transformers' or tokenizers') that gives ids of ``rows`` or more: ModelError."""
    vocabulary = tokenizer.get_vocab()
    token, highest = max(vocabulary.items(), key=lambda item: item[1], default=("", -1))
    if highest >= rows:
        raise ModelError(f"{where}: token {token!a:.40} has the id {highest}; the model has vectors for {rows} tokens")
    empty = tokenizer.encode("")
    around = list(getattr(empty, "ids", empty))
    if around and max(around) >= rows:
        raise ModelError(
            f"{where}: a special token around texts has the id {max(around)}; the model has vectors for {rows} tokens"
        )


def drop_special(tokenizer: Any, rows: int) -> None:
    """Take special tokens with ids of ``rows`` or more out of a transformers tokenizer, in place.

    A decoder's tokenizer has some for images, or for gaps, that its text model has no vectors for: no text needs
    them, and one that spells them is read by its characters.
    """
    if not tokenizer.is_fast or max(tokenizer.get_added_vocab().values(), default=0) < rows:
        return
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    past = {token["content"] for token in state["added_tokens"] if token["special"] and token["id"] >= rows}
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] not in past]
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(state))
    for name, token in tokenizer.special_tokens_map.items():
        if isinstance(token, str) and token in past:
            setattr(tokenizer, name, None)


def positions(transformer: Any) -> int | None:
    """Return the most tokens that the model's tables of positions serve, None where it has none, or relative ones.

    Of every table it is seen what is looked up for two texts of one repeated token: an absolute position grows as the
    text does, from wherever the family starts to count.
    """
    tables = [module for module in transformer.modules() if isinstance(module, torch.nn.Embedding)]
    words = transformer.get_input_embeddings()
    token = 1 if (transformer.config.pad_token_id or 0) == 0 else 0  # padding has no position in some families
    short, long = (_looked_up(transformer, tables, token, length) for length in (_SHORT, _LONG))
    most = [
        tables[i].num_embeddings - (long[i] - _LONG + 1)
        for i in long
        if tables[i] is not words and long[i] - short[i] == _LONG - _SHORT
    ]
    return min(most, default=None)


def _looked_up(transformer: Any, tables: list[torch.nn.Embedding], token: int, length: int) -> dict[int, int]:
    """Return the highest row that is looked up of each table, for a text of ``length`` equal tokens.

    A table that is read for pairs of tokens holds relative positions, and is left out.
    """
    highest: dict[int, int] = {}

    def note(number: int) -> Any:
        def seen(_: Any, inputs: Any) -> None:
            if inputs[0].numel() == length:
                highest[number] = int(inputs[0].max())

        return seen

    hooks = [table.register_forward_pre_hook(note(number)) for number, table in enumerate(tables)]
    ids = torch.full((1, length), token, device=transformer.device)
    try:
        with torch.inference_mode(), contextlib.suppress(IndexError, RuntimeError):  # the table ends even before
            transformer(input_ids=ids)
    finally:
        for hook in hooks:
            hook.remove()
    return highest
