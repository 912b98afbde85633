"""Keep the part of a vocabulary that the texts use."""

import copy
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer

from compressor.core.errors import ModelError, RecipeError
from compressor.distil.student.words.usage import check_count, kept_tokens, must_stay, pair, token_counts
from compressor.models.sentence_model import transformer_of


def trim_vocabulary(model: SentenceTransformer, texts: Sequence[str], size: int) -> SentenceTransformer:
    """Return a copy of ``model`` with the ``size`` tokens that occur most in ``texts``, in their old order.

    Special tokens and single characters always stay, so that a word whose token goes is spelt in shorter pieces
    (Abdaoui et al. 2020, arXiv:2010.05609). Raises RecipeError for a size that is out of range and for a kind of
    tokenizer other than WordPiece, Unigram and BPE.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        state = _state(model, path, size)
        kept = kept_tokens(state, token_counts(model, texts), size)
        _check_padding(model, kept)
        path.write_text(json.dumps(_trimmed(state, kept), ensure_ascii=False), encoding="utf-8")
        _follow(Path(folder), state, kept)
        # The fast tokenizer's file says all; the word lists beside it are of the old vocabulary.
        for name in ("vocab.txt", "vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model"):
            (Path(folder) / name).unlink(missing_ok=True)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    student = copy.deepcopy(model)
    student[0].processor = tokenizer
    student.max_seq_length = model.max_seq_length
    _cut_table(student, kept)
    return student


def check_vocabulary(model: SentenceTransformer, size: int) -> None:
    """Raise RecipeError for a size that no texts could give, and for a tokenizer that cannot be trimmed."""
    with TemporaryDirectory() as folder:
        state = _state(model, Path(folder) / "tokenizer.json", size)
    check_count(must_stay(state, size), size, len(transformer_of(model).get_input_embeddings().weight))


def _state(model: SentenceTransformer, path: Path, size: int) -> dict[str, Any]:
    """Save the model's tokenizer, and return what its file at ``path`` then holds."""
    model.tokenizer.save_pretrained(path.parent)
    if not path.is_file():
        raise RecipeError(f"distil.vocabulary = {size}: the tokenizer is not one of the tokenizers library")
    state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return state


def _check_padding(model: SentenceTransformer, kept: list[int]) -> None:
    # RoBERTa counts positions from the id of its padding.
    padding = model.tokenizer.pad_token_id
    if padding is not None and kept.index(padding) != padding:
        raise ModelError(f"{model.tokenizer.pad_token}: the padding's id {padding} would change; keep the vocabulary")


def _trimmed(state: dict[str, Any], kept: list[int]) -> dict[str, Any]:
    """Return the tokenizer's state with only the kept tokens, numbered from 0."""
    new, made = {old: i for i, old in enumerate(kept)}, copy.deepcopy(state)
    inner = made["model"]
    if inner["type"] == "Unigram":
        inner["vocab"] = [inner["vocab"][old] for old in kept if old < len(inner["vocab"])]
        inner["unk_id"] = new.get(inner["unk_id"])
    else:
        inner["vocab"] = {token: new[old] for token, old in inner["vocab"].items() if old in new}
    if inner["type"] == "BPE":
        pairs = [(merge, pair(merge)) for merge in inner["merges"]]
        inner["merges"] = [m for m, (a, b) in pairs if all(token in inner["vocab"] for token in (a, b, a + b))]
    for entry in made["added_tokens"]:
        entry["id"] = new[entry["id"]]
    if made.get("padding"):
        made["padding"]["pad_id"] = new[made["padding"]["pad_id"]]
    _renumber(made.get("post_processor") or {}, new)
    return made


def _renumber(processor: dict[str, Any], new: dict[int, int]) -> None:
    """Write the new ids into what puts the special tokens around a text, in place."""
    for entry in processor.get("special_tokens", {}).values():
        entry["ids"] = [new[old] for old in entry["ids"]]
    for name in ("sep", "cls"):
        if name in processor:
            processor[name][1] = new[processor[name][1]]
    for inner in processor.get("processors", ()):
        _renumber(inner, new)


def _follow(folder: Path, state: dict[str, Any], kept: list[int]) -> None:
    """Write the new ids of the special tokens into the tokenizer's configuration, where it states them."""
    path = folder / "tokenizer_config.json"
    stated = json.loads(path.read_text(encoding="utf-8"))
    if "added_tokens_decoder" in stated:
        new = {str(old): str(i) for i, old in enumerate(kept)}
        stated["added_tokens_decoder"] = {new[old]: entry for old, entry in stated["added_tokens_decoder"].items()}
        path.write_text(json.dumps(stated, ensure_ascii=False), encoding="utf-8")


def _cut_table(model: SentenceTransformer, kept: Iterable[int]) -> None:
    """Cut the table of word embeddings to the kept rows, in place, and say so in the config."""
    transformer, rows = transformer_of(model), torch.tensor(list(kept))
    table = transformer.get_input_embeddings()
    narrow = torch.nn.Embedding(len(rows), table.embedding_dim, padding_idx=table.padding_idx)
    narrow.weight = torch.nn.Parameter(table.weight.detach()[rows].clone())
    transformer.set_input_embeddings(narrow)
    new = {int(old): i for i, old in enumerate(rows)}
    transformer.config.vocab_size = len(rows)
    for name, value in list(vars(transformer.config).items()):
        if name.endswith("_token_id") and isinstance(value, int) and value in new:
            setattr(transformer.config, name, new[value])
