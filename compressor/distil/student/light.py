"""A light student: of another width than its teacher, and fitted to it before any training."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling

from compressor.core.encoder import Vectors
from compressor.core.errors import ModelError, RecipeError, TextError
from compressor.distil.student.activation import take_relu
from compressor.distil.student.fit.encoder import fit_encoder
from compressor.distil.student.importance import Importance, importance, largest
from compressor.distil.student.layers import check_layers, keep_layers
from compressor.distil.student.parts import Parts
from compressor.distil.student.prune import narrow_feed_forward, state_feed_forward
from compressor.distil.student.regression import Regression, with_one
from compressor.distil.student.sample import sample_batches, vectors_of
from compressor.distil.student.structure import find_parts
from compressor.distil.student.vocabulary import trim_vocabulary
from compressor.models.sentence_model import TorchEncoder, assembled, embedding_dimension, transformer_of

_FITTED = 20_000
"""Texts that a projection between two models is fitted on, at most."""


def shrink(
    teacher: SentenceTransformer,
    texts: Sequence[str],
    *,
    layers: tuple[int, ...],
    width: int | None = None,
    heads: int | None = None,
    feed_forward: int | None = None,
    vocabulary: int | None = None,
    relu: bool = False,
    dense: bool = True,
) -> SentenceTransformer:
    """Return a student of the given size whose vectors, in the teacher's space, are near the teacher's untrained.

    Its weights are fitted to the teacher on a sample of ``texts`` (see ``fit_encoder``); a Dense layer behind the
    pooling brings the vectors back to the teacher's length, unless ``dense`` leaves it out of a student as wide as the
    teacher. None: the teacher's width and vocabulary, heads of the teacher's size, a feed-forward in proportion to the
    width. All of the teacher's size gives the teacher's vectors, unless ``relu`` puts a ReLU in the place of each
    feed-forward's activation, which the fit makes up for in part. Raises RecipeError for a size that cannot be,
    ModelError for a family whose width or heads must stay.
    """
    transformer = transformer_of(teacher)
    parts = find_parts(transformer)
    check_layers(layers, len(parts.blocks))
    check_light(teacher, parts, layers, width, heads, feed_forward)
    hidden, most = int(transformer.config.hidden_size), parts.blocks[0].neurons
    check_dense(dense, width, hidden)
    width, heads = sizes_of(parts, width, heads)
    feed_forward = max(1, most * width // hidden) if feed_forward is None else feed_forward
    costs, batches = importance(teacher, texts), sample_batches(teacher, texts)
    if (width, heads) == (hidden, parts.heads(0)):
        student = _copied(teacher, layers, feed_forward, costs)
    else:
        student = _empty(teacher, len(layers), width, heads, feed_forward)
    if relu:
        take_relu(transformer_of(student))
    basis = fit_encoder(transformer, transformer_of(student), layers, costs, batches)
    if vocabulary is not None:
        student = trim_vocabulary(student, texts, vocabulary)
    lift = [_lift(student, teacher, texts, basis)] if dense else []
    return assembled(teacher, [*student, *lift, *copy.deepcopy(list(teacher)[2:])])


def with_projection(
    student: SentenceTransformer, texts: Sequence[str], teacher_vectors: Vectors
) -> SentenceTransformer:
    """Return ``student`` with a Dense layer to the teacher's length and Normalize; itself where the lengths agree.

    The Dense is the least-squares map from the student's vectors of ``texts`` to ``teacher_vectors``, float
    [texts, dim]. Raises TextError where there are not as many texts as vectors.
    """
    if len(texts) != len(teacher_vectors) or not len(texts):
        raise TextError(f"{len(texts)} texts, {len(teacher_vectors)} vectors of the teacher; wanted one a text")
    width, dim = embedding_dimension(student), teacher_vectors.shape[1]
    if width == dim:
        return student
    own = torch.from_numpy(TorchEncoder(student).encode(texts[:_FITTED], batch_size=64))
    fit = Regression()
    fit.add(with_one(own), torch.as_tensor(teacher_vectors[:_FITTED]).float())
    dense = _dense(fit.solve(torch.zeros(width + 1, dim), ridge=1e-4))
    return assembled(student, [*student, dense, Normalize()])


def check_light(
    teacher: SentenceTransformer,
    parts: Parts,
    layers: tuple[int, ...],
    width: int | None,
    heads: int | None,
    feed_forward: int | None,
) -> None:
    """Raise RecipeError for a size that a fitted student cannot have, ModelError for what its family must keep."""
    parts.check_heads(width, heads)
    if list(layers) != sorted(layers):
        raise RecipeError(f"distil.layers = {list(layers)}: must ascend in a student of another size")
    sizes_of(parts, width, heads)
    if feed_forward is not None:
        _within("feed_forward", feed_forward, parts.blocks[0].neurons)
    _pooling(teacher)


def check_dense(dense: bool, width: int | None, hidden: int) -> None:
    """Raise RecipeError for a student of another width that is to have no Dense."""
    if not dense and width not in (None, hidden):
        raise RecipeError(f"distil.dense = false: only a student of the teacher's width, {hidden}; not width = {width}")


def sizes_of(parts: Parts, width: int | None, heads: int | None) -> tuple[int, int]:
    """Return the width and the heads of a student of an encoder: as asked for, or the teacher's.

    Of a narrower one as few heads as are no larger than the teacher's. Raises RecipeError for what cannot be.
    """
    width = parts.width if width is None else _within("width", width, parts.width)
    if width == parts.width and heads in (None, parts.heads(0)):
        return width, parts.heads(0)
    if parts.widening is not None and width == parts.widening.in_features:
        raise RecipeError(f"distil.width = {width}: the width of the tables of {parts.kind}; must be another")
    most, allowed = parts.heads(0), parts.head_counts(width)
    size = f"of its {parts.head_size} units" if parts.rotary else f"of at most its {parts.head_size} units"
    count = "the" if parts.unheaded else "at most the"
    limits = f"{count} teacher's {most} heads {size}"
    if not allowed:
        raise RecipeError(f"distil.width = {width}: cannot be divided into {limits}")
    if heads is not None and heads not in allowed:
        raise RecipeError(f"distil.heads = {heads}: must be one of {allowed}, which divide {width} into {limits}")
    return width, heads or allowed[0]


def _within(field: str, value: int, most: int) -> int:
    if not 1 <= value <= most:
        raise RecipeError(f"distil.{field} = {value}: must be 1 to {most}, the teacher's")
    return value


def _copied(
    teacher: SentenceTransformer, layers: tuple[int, ...], neurons: int, costs: Importance
) -> SentenceTransformer:
    """Return the teacher's transformer and pooling with some layers and the most important neurons of each."""
    _pooling(teacher)
    kept = keep_layers(teacher, layers)
    transformer = transformer_of(kept)
    if neurons < find_parts(transformer).blocks[0].neurons:
        for old, block in zip(layers, find_parts(transformer).blocks, strict=True):
            narrow_feed_forward(block, largest(costs.neurons[old], neurons))
        state_feed_forward(transformer.config, neurons)
    return assembled(kept, list(kept)[:2])


def _pooling(teacher: SentenceTransformer) -> Pooling:
    pooling = teacher[1] if len(teacher) > 1 else None
    if not isinstance(pooling, Pooling):
        raise ModelError("no Pooling follows the teacher's transformer; a light student cannot be made")
    return pooling


def _empty(teacher: SentenceTransformer, depth: int, width: int, heads: int, feed_forward: int) -> SentenceTransformer:
    """Return an encoder of the teacher's family and another size, with its pooling, not yet fitted."""
    pooling, wide = _pooling(teacher), transformer_of(teacher)
    config = copy.deepcopy(wide.config)
    if getattr(config, "embedding_size", width) == config.hidden_size:
        config.embedding_size = width  # of an ELECTRA whose tables are as wide as its states
    config.num_hidden_layers, config.hidden_size, config.num_attention_heads = depth, width, heads
    state_feed_forward(config, feed_forward)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # what is not fitted, such as a pooler that is not used, is the same each time
        narrow = type(wide)(config).eval()
    first: Any = teacher[0]
    module = copy.copy(first)
    module._modules = {name: narrow if inner is wide else inner for name, inner in first._modules.items()}
    stated = pooling.get_config_dict()
    stated.update({name: width for name in ("embedding_dimension", "word_embedding_dimension") if name in stated})
    return assembled(teacher, [module, Pooling(**stated)])


def _lift(student: SentenceTransformer, teacher: SentenceTransformer, texts: Sequence[str], basis: torch.Tensor) -> Any:
    """Return the Dense from the student's pooled vectors to the teacher's, by least squares of their directions."""
    fit = Regression()
    with torch.no_grad():
        wide = {
            row: vector
            for batch in sample_batches(teacher, texts)
            for row, vector in zip(batch.rows, vectors_of(teacher, batch, 2), strict=True)
        }
        for batch in sample_batches(student, texts):
            rows = [i for i, row in enumerate(batch.rows) if row in wide]
            wanted = torch.stack([wide[batch.rows[i]] for i in rows])
            length = wanted.norm(dim=1, keepdim=True).clamp(min=1e-12)
            fit.add(with_one(vectors_of(student, batch)[rows]) / length, wanted / length)
    # A pooling of several kinds puts them side by side.
    prior = torch.block_diag(*[basis] * (wanted.shape[1] // basis.shape[1]))
    return _dense(fit.solve(torch.cat([prior, prior.new_zeros(1, prior.shape[1])])))


def _dense(map_: torch.Tensor) -> Dense:
    """Return the Dense layer of a map [width + 1, dim], the bias last."""
    dense = Dense(len(map_) - 1, map_.shape[1], bias=True, activation_function=torch.nn.Identity())
    with torch.no_grad():
        dense.linear.weight.copy_(map_[:-1].T)
        dense.linear.bias.copy_(map_[-1])
    return dense
