"""A table of words as two factors: narrow rows, and one product that widens them."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.nn.functional import layer_norm
from transformers import ElectraConfig, ElectraModel

from compressor.core.errors import ModelError, RecipeError
from compressor.distil.student.regression import Regression, with_one
from compressor.distil.student.sample import sample_batches
from compressor.models.sentence_model import assembled, transformer_of

_FAMILIES = ("bert", "electra")  # of one build; ELECTRA's may have a narrow table
_TABLES = ("word_embeddings", "position_embeddings", "token_type_embeddings")
_ROWS = 4096  # of a vocabulary, at a time
_PLACES = 32  # first positions, which the words of a vocabulary are put at in turn
_RIDGE = 1e-4


def check_factors(transformer: Any, size: int, width: int | None = None) -> None:
    """Raise RecipeError for a table that is no narrower than a student's states, ModelError for another family."""
    config = transformer.config
    if (
        config.model_type not in _FAMILIES
        or getattr(config, "embedding_size", config.hidden_size) != config.hidden_size
    ):
        raise ModelError(f"{config.model_type}: distil.embedding_size = {size}: of BERT alone; leave it out")
    width = int(config.hidden_size) if width is None else width
    if not 2 <= size < width:
        raise RecipeError(f"distil.embedding_size = {size}: must be 2 to {width - 1}, less than the student's width")


def factorize(model: SentenceTransformer, texts: Sequence[str], size: int) -> SentenceTransformer:
    """Return a copy of a BERT whose tables are ``size`` wide, with a linear layer to its width behind them: an ELECTRA.

    What the layers read is W LayerNorm(words + positions + types): the factorization of ALBERT (Lan et al. 2019, arXiv
    1909.11942), built as ELECTRA has it (Clark et al. 2020, arXiv 2003.10555). Its rows are the old ones, on the first
    singular vectors of what the old LayerNorm gives of every word and of the tokens of a sample of ``texts``, each half
    of the weight; W is fitted to that by least squares. Raises RecipeError and ModelError as ``check_factors`` does.
    """
    wide = transformer_of(model)
    check_factors(wide, size)
    narrow = _empty(wide, size)
    with torch.no_grad():
        axes = _axes(model, texts, size)
        for name in _TABLES:
            old, new = getattr(wide.embeddings, name), getattr(narrow.embeddings, name)
            new.weight.copy_(old.weight @ axes)
        norm = narrow.embeddings.LayerNorm
        norm.weight.fill_(1)
        norm.bias.zero_()
        fit = Regression()
        for sums, share in _sums(model, texts):
            made = layer_norm(sums @ axes, (size,), eps=norm.eps)
            fit.add(with_one(made) * share, wide.embeddings.LayerNorm(sums) * share)
        map_ = fit.solve(torch.zeros(size + 1, wide.config.hidden_size), ridge=_RIDGE)
        narrow.embeddings_project.weight.copy_(map_[:-1].T)
        narrow.embeddings_project.bias.copy_(map_[-1])
    first: Any = model[0]
    module = copy.copy(first)
    module._modules = {name: narrow if inner is wide else inner for name, inner in first._modules.items()}
    return assembled(model, [module, *copy.deepcopy(list(model)[1:])])


def _empty(wide: Any, size: int) -> Any:
    """Return an ELECTRA with the layers of ``wide``, and tables and a product that are still to be filled."""
    stated = wide.config.to_dict()
    known = ElectraConfig().to_dict().keys() - {"model_type", "architectures", "transformers_version"}
    config = ElectraConfig(**{name: stated[name] for name in known & stated.keys()} | {"embedding_size": size})
    config.architectures = ["ElectraModel"]
    with torch.random.fork_rng(devices=[]):
        attention = wide.config._attn_implementation
        if attention == "sdpa" and not ElectraModel._supports_sdpa:  # of transformers 4
            attention = "eager"
        narrow = ElectraModel._from_config(config, attn_implementation=attention).eval()
    layers = {name: value for name, value in wide.state_dict().items() if name.startswith("encoder.")}
    left = narrow.load_state_dict(layers, strict=False)
    if left.unexpected_keys or any(name.startswith("encoder.") for name in left.missing_keys):
        odd = (*left.unexpected_keys, *left.missing_keys)[0]
        raise ModelError(f"{wide.config.model_type}: its layers are built otherwise than ELECTRA's: {odd}")
    return narrow


def _axes(model: SentenceTransformer, texts: Sequence[str], size: int) -> Tensor:
    """Return the map [width, size] of sums of tables to their coordinates, but for each row's own length.

    A row's LayerNorm is g (x - mean) / deviation + b: up to the deviation and b, it is linear.
    """
    norm = transformer_of(model).embeddings.LayerNorm
    moments = torch.zeros(len(norm.weight), len(norm.weight), dtype=torch.float64)
    for sums, share in _sums(model, texts):
        made = (norm(sums) - norm.bias).double() * share
        moments += made.T @ made
    axes = torch.linalg.eigh(moments).eigenvectors[:, -size:].flip(1).float()
    scaled = norm.weight[:, None] * axes
    return scaled - scaled.mean(0)


def _sums(model: SentenceTransformer, texts: Sequence[str]) -> Iterator[tuple[Tensor, float]]:
    """Yield sums of a word, its position and its type, float32 [tokens, width], with the root of a row's weight.

    Those of a sample of texts, and every word of the vocabulary once; each of the two weighs as much as the other.
    """
    embeddings = transformer_of(model).embeddings
    words, positions, types = (getattr(embeddings, name).weight for name in _TABLES)
    sample = []
    for batch in sample_batches(model, texts):
        ids, real = batch.features["input_ids"], batch.real
        kinds = batch.features.get("token_type_ids", torch.zeros_like(ids))
        sample.append((words[ids] + positions[: ids.shape[1]] + types[kinds])[real])
    count = sum(map(len, sample))
    for sums in sample:
        yield sums, count**-0.5
    for start in range(0, len(words), _ROWS):
        rows = words[start : start + _ROWS]
        places = torch.arange(start, start + len(rows)) % min(_PLACES, len(positions))
        yield rows + positions[places] + types[0], len(words) ** -0.5
