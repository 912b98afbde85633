"""Make a static student: no layers, one vector a token, and a text's vector the mean of its tokens'."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, StaticEmbedding
from tokenizers import Tokenizer

from compressor.core.encoder import Vectors, length_sorted_batches
from compressor.core.errors import ModelError, RecipeError, TextError
from compressor.models.agreement import normalized
from compressor.models.sentence_model import assembled, default_prompt, embedding_dimension, transformer_of
from compressor.vectors.pca import fit

CONTEXT_TEXTS = 10_000  # texts run through the teacher for the tokens' states
FIT_TEXTS = 100_000  # texts that the token vectors are fitted on, at most
_SHRINKAGE = 0.03  # towards a token's mean state, in texts' shares of tokens squared
_ITERATIONS = 20
_COLUMNS = 96  # components solved for at a time: bounds memory, and stays in cache
_BATCH = 64


def static_student(
    teacher: SentenceTransformer,
    texts: Sequence[str],
    dim: int | None = None,
    vectors: Any = None,
) -> SentenceTransformer:
    """Return a model of one weighted vector a token, their mean, and Normalize, in the teacher's space.

    A token starts from its mean state in context over a sample of ``texts`` (one that is not there, from its
    state alone, as Model2Vec has it: Tulkens and van Dongen 2024, doi:10.5281/zenodo.17270888). The vectors
    are then fitted by ridge regression (Hoerl and Kennard 1970, doi:10.1080/00401706.1970.10488634) for the
    mean over a text's tokens to be the teacher's vector of it, which sets their lengths too: the weight that
    SIF (Arora et al. 2017) takes from a token's frequency.

    ``vectors`` are the teacher's of all ``texts``, indexed by rows, [len(texts), width]; maybe reduced. Without
    them the sample is all that is fitted on. ``dim`` below their width reduces them to their principal
    components. Raises ModelError for a teacher without a transformer or fast tokenizer, RecipeError for a
    ``dim`` out of range, TextError for no texts.
    """
    width = embedding_dimension(teacher) if vectors is None else int(vectors.shape[1])
    _check(teacher, texts, dim, width)
    order = np.random.default_rng(0).permutation(len(texts))
    sample = order[:CONTEXT_TEXTS]
    states, own = token_states(teacher, [texts[int(i)] for i in sample])
    rows = sample if vectors is None else order[:FIT_TEXTS]
    target = own if vectors is None else normalized(np.asarray(vectors[np.sort(rows)], np.float32)[_rank(rows)])
    if dim is not None and dim < width:
        target = fit(target, dim, center=False).apply(target)
    if target.shape[1] != own.shape[1]:
        # The linear map from the teacher's vectors to the reduced ones takes the states along.
        states = states @ np.linalg.lstsq(own, target[: len(own)], rcond=None)[0].astype(np.float32)
    tokenizer = static_tokenizer(teacher)
    prompt = default_prompt(teacher)
    ids = [e.ids for e in tokenizer.encode_batch_fast([prompt + texts[int(i)] for i in rows], add_special_tokens=False)]
    return _model(teacher, tokenizer, fit_tokens(shares(ids, len(states)), target, states))


def _check(teacher: SentenceTransformer, texts: Sequence[str], dim: int | None, width: int) -> None:
    transformer_of(teacher)
    if not getattr(teacher.tokenizer, "is_fast", False):
        raise ModelError("the teacher's tokenizer has no fast form; a static student needs one")
    if dim is not None and not 1 <= dim <= width:
        raise RecipeError(f"distil.dim = {dim}: must be 1 to {width}, the length of the teacher's vectors")
    if not texts:
        raise TextError("no texts to fit token vectors on")


def _rank(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return where each row lies among the sorted ones: a memory map is read in its own order."""
    ranks: NDArray[np.intp] = np.argsort(np.argsort(rows))
    return ranks


def _model(teacher: SentenceTransformer, tokenizer: Tokenizer, table: Vectors) -> SentenceTransformer:
    embedding = StaticEmbedding(tokenizer, embedding_weights=np.ascontiguousarray(table, np.float32))
    return assembled(teacher, [embedding, Normalize()])


def static_tokenizer(teacher: SentenceTransformer) -> Tokenizer:
    """Return a copy of the teacher's tokenizer that cuts at the teacher's length and adds no special tokens.

    StaticEmbedding has no length of its own; the limit in its tokenizer.json is the one that it keeps to.
    """
    settings = json.loads(teacher.tokenizer.backend_tokenizer.to_str())
    settings["post_processor"] = settings["padding"] = settings["truncation"] = None
    tokenizer: Tokenizer = Tokenizer.from_str(json.dumps(settings))
    if teacher.max_seq_length and teacher.max_seq_length < 1 << 20:  # transformers writes 1e30 for no limit
        tokenizer.enable_truncation(int(teacher.max_seq_length))
    return tokenizer


def token_states(teacher: SentenceTransformer, texts: Sequence[str]) -> tuple[Vectors, Vectors]:
    """Return every token's mean last state over ``texts``, and the unit vectors of the texts, by one pass.

    float32 [vocabulary, dim] and [len(texts), dim]. A token that no text has takes its state alone between
    the special tokens, less what all such states have in common, at the mean length of the others.
    """
    prompt = default_prompt(teacher)
    encoded = teacher.tokenizer(
        [prompt + text for text in texts],
        truncation=True,
        max_length=int(min(teacher.max_seq_length or 512, 1 << 20)),
        return_special_tokens_mask=True,
    )
    sums, counts, vectors = _summed(teacher, encoded["input_ids"], encoded["special_tokens_mask"])
    states = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
    unseen = np.flatnonzero(counts == 0)
    if len(unseen) and len(unseen) < len(counts):
        framed = [_framed(encoded["input_ids"][0], encoded["special_tokens_mask"][0], int(token)) for token in unseen]
        alone = _summed(teacher, [ids for ids, _ in framed], [mask for _, mask in framed])[0][unseen]
        alone -= alone.mean(axis=0)
        states[unseen] = normalized(alone) * np.linalg.norm(states[counts > 0], axis=1).mean()
    return states, vectors


def _framed(ids: list[int], special: list[int], token: int) -> tuple[list[int], list[int]]:
    """Put one token in place of a text's, between the same special tokens; return ids and special mask."""
    words = [i for i, is_special in enumerate(special) if not is_special]
    first, last = (words[0], words[-1] + 1) if words else (len(ids) - 1, len(ids) - 1)
    return [*ids[:first], token, *ids[last:]], [*special[:first], 0, *special[last:]]


def _summed(
    teacher: SentenceTransformer, ids: Sequence[list[int]], special: Sequence[list[int]]
) -> tuple[Vectors, NDArray[np.float32], Vectors]:
    """Return each token's summed states and its count, and the texts' unit vectors."""
    size, dim = transformer_of(teacher).get_input_embeddings().weight.shape[0], embedding_dimension(teacher)
    sums, counts = np.zeros((size, dim), np.float32), np.zeros(size, np.float32)
    vectors = np.zeros((len(ids), dim), np.float32)
    with torch.inference_mode():
        for rows in length_sorted_batches(np.array([len(text_ids) for text_ids in ids], dtype=np.int64), _BATCH):
            width = max(len(ids[i]) for i in rows)
            tokens, mask, words = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(3))
            for place, row in enumerate(rows):
                tokens[place, : len(ids[row])] = torch.tensor(ids[row])
                mask[place, : len(ids[row])] = 1
                words[place, : len(ids[row])] = 1 - torch.tensor(special[row])
            states, vectors[rows] = _forward(teacher, tokens, mask)
            inside = words.bool()
            found, column = np.unique(tokens[inside].numpy(), return_inverse=True)
            places = (np.ones(len(column), np.float32), (column, np.arange(len(column))))
            sums[found] += sparse.csr_matrix(places, (len(found), len(column))) @ states[inside].numpy()
            counts[found] += np.bincount(column, minlength=len(found)).astype(np.float32)
    return sums, counts, vectors


def _forward(teacher: SentenceTransformer, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, Vectors]:
    """Return the tokens' states, taken through the Dense layers as a pooled vector is, and the unit vectors."""
    states = transformer_of(teacher)(input_ids=ids, attention_mask=mask).last_hidden_state
    features: dict[str, Any] = {"token_embeddings": states, "attention_mask": mask}
    for module in list(teacher)[1:]:
        features = module(features)
        if isinstance(module, Dense):
            states = module({"sentence_embedding": states})["sentence_embedding"]
    return states, normalized(features["sentence_embedding"].numpy())


def shares(ids: Sequence[list[int]], vocabulary: int) -> sparse.csr_matrix:
    """Return each token's share of each text, float32 [len(ids), vocabulary]; rows sum to 1, or 0 without tokens."""
    lengths = np.array([len(text_ids) for text_ids in ids], dtype=np.int64)
    values = np.repeat(1 / np.maximum(lengths, 1), lengths).astype(np.float32)
    flat = np.fromiter((token for text_ids in ids for token in text_ids), np.int64, int(lengths.sum()))
    return sparse.csr_matrix((values, flat, np.concatenate([[0], np.cumsum(lengths)])), (len(ids), vocabulary))


def fit_tokens(texts: sparse.csr_matrix, target: Vectors, start: Vectors) -> Vectors:
    """Return the token vectors whose mean over a text is nearest to ``target``, shrunk towards ``start``.

    ``texts`` is [n, vocabulary] as ``shares`` returns it, ``target`` [n, dim], ``start`` [vocabulary, dim],
    brought to the scale of ``target`` first. The normal equations are solved by conjugate gradients with
    the diagonal as preconditioner (Hestenes and Stiefel 1952, doi:10.6028/jres.049.044), ``_COLUMNS`` at a time.
    """
    summed = texts.copy()
    summed.sum_duplicates()
    transposed = summed.T.tocsr()
    diagonal = np.asarray(summed.power(2).sum(axis=0), np.float32).reshape(-1, 1) + _SHRINKAGE
    table = np.empty((summed.shape[1], target.shape[1]), np.float32)
    scale = _scale(summed, target, start)
    for first in range(0, target.shape[1], _COLUMNS):
        columns = slice(first, first + _COLUMNS)
        table[:, columns] = _solve(summed, transposed, diagonal, target[:, columns], scale * start[:, columns])
    return table


def _scale(texts: sparse.csr_matrix, target: Vectors, start: Vectors) -> float:
    """Return the factor that brings the means of ``start`` nearest to ``target``."""
    along = across = 0.0
    for first in range(0, target.shape[1], _COLUMNS):
        means = texts @ start[:, first : first + _COLUMNS]
        along += float(np.vdot(means, target[:, first : first + _COLUMNS]))
        across += float(np.vdot(means, means))
    return along / max(across, 1e-12)


def _solve(
    texts: sparse.csr_matrix,
    transposed: sparse.csr_matrix,
    diagonal: Vectors,
    target: Vectors,
    start: Vectors,
) -> Vectors:
    """Return what minimizes |texts x - target|^2 + shrinkage |x - start|^2, a column apart from the others."""
    found = start.copy()
    residual = transposed @ (target - texts @ found)
    direction = residual / diagonal
    size = np.einsum("vd,vd->d", residual, direction)
    for _ in range(_ITERATIONS):
        image = transposed @ (texts @ direction) + _SHRINKAGE * direction
        step = size / np.maximum(np.einsum("vd,vd->d", direction, image), 1e-20)
        found += step * direction
        residual -= step * image
        conditioned = residual / diagonal
        before, size = size, np.einsum("vd,vd->d", residual, conditioned)
        direction = conditioned + size / np.maximum(before, 1e-20) * direction
    return found.astype(np.float32)
