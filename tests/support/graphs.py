"""The artifacts of tiny models, and tiny models of other families than BERT."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from builders import sentences, word_pieces
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import processors
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from compressor.artifact.folder import Draft
from compressor.core.encoder import Vectors
from exporters.graph.export import Export
from exporters.graph.optimise import Optimise
from exporters.precision.calibrate import batches_of_texts
from exporters.precision.int8 import OnnxInt8

Ids = NDArray[np.int64]
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
    "initializer_range": 0.2,
}
_DISTILBERT: dict[str, Any] = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 66}
_T5: dict[str, Any] = {"d_model": 32, "num_layers": 2, "num_heads": 4, "d_kv": 8, "d_ff": 64}
_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "distilbert": ("DistilBert", _DISTILBERT | {"initializer_range": 0.2}),
    "mpnet": ("MPNet", _SIZES),
    "roberta": ("Roberta", _SIZES | {"type_vocab_size": 1}),
    "relu": ("Bert", _SIZES | {"hidden_act": "relu"}),
    "fnet": ("FNet", {k: v for k, v in _SIZES.items() if k != "num_attention_heads"}),
    "t5": ("T5", _T5),
    # Large enough for the weights to outweigh the graph, and for its table to count as a vocabulary.
    "wide": ("Bert", _SIZES | {"hidden_size": 128, "intermediate_size": 512, "vocab_size": 3000}),
}
_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def words(max_length: int | None = 64) -> PreTrainedTokenizerFast:
    """Return a WordPiece tokenizer whose padding has id 1, as RoBERTa's has, and that knows no token types."""
    tokens = word_pieces(_SPECIAL, "<unk>")
    tokens.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    limit: dict[str, Any] = {} if max_length is None else {"model_max_length": max_length}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        model_input_names=["input_ids", "attention_mask"],
        cls_token="<s>",
        pad_token="<pad>",
        sep_token="</s>",
        unk_token="<unk>",
        **limit,
    )


def build_family(folder: Path, family: str, max_length: int | None = 64) -> Path:
    """Write a random encoder of ``family``, two layers, mean pooling, normalized, and return its folder."""
    torch.manual_seed(0)
    tokenizer = words(max_length)
    raw = folder.parent / f"{folder.name}-raw"
    _random(family, len(tokenizer)).save_pretrained(raw)
    tokenizer.save_pretrained(raw)
    limit: dict[str, Any] = {} if max_length is None else {"max_seq_length": max_length}
    transformer = Transformer(str(raw), **limit)
    width = transformer.get_embedding_dimension()
    modules: list[Any] = [transformer, Pooling(width, pooling_mode="mean"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder), create_model_card=False)
    return folder


def _random(family: str, vocabulary: int) -> PreTrainedModel:
    name, settings = _FAMILIES[family]
    config = getattr(transformers, f"{name}Config")(**{"vocab_size": vocabulary, "pad_token_id": 1} | settings)
    return getattr(transformers, f"{name}EncoderModel" if name == "T5" else f"{name}Model")(config)


def draft(folder: Path) -> Draft:
    """Make ``folder`` and return it as a draft to write into."""
    folder.mkdir(parents=True)
    return Draft(folder)


def make_artifacts(model: Path, folder: Path) -> Path:
    """Write ``plain``, ``fp32`` and ``int8`` of ``model`` into ``folder`` and return it."""
    Export().run(model, draft(folder / "plain"))
    Optimise().run(folder / "plain", draft(folder / "fp32"))
    quantize(folder / "fp32", draft(folder / "int8"))
    return folder


def quantize(fp32: Path, to: Draft, **fields: Any) -> Path:
    """Write the int8 form of ``fp32``, calibrated on some sentences, and return its folder."""
    OnnxInt8(**fields).run(fp32, to, lambda: batches_of_texts(fp32, sentences(200)))
    return to.folder


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., Path]) -> Callable[..., Path]:
    """Make a tiny model's artifacts, each kind once a session: a folder with ``plain``, ``fp32``, ``int8``.

    Takes what ``make_model`` takes, or ``family``, whose model is then there too. Never write into one.
    """
    made: dict[str, Path] = {}

    def make(family: str | None = None, **options: Any) -> Path:
        name = f"{family} {sorted(options.items())!r}"
        if name not in made:
            home = tmp_path_factory.mktemp("artifacts")
            model = build_family(home / "model", family) if family else make_model(**options)
            made[name] = make_artifacts(model, home)
        return made[name]

    return make


def batch(random: np.random.Generator, rows: int, length: int, vocabulary: int) -> tuple[Ids, Ids]:
    """Return random ids and a mask, int64 [rows, length], each row padded at its end by its own amount."""
    ids = random.integers(0, vocabulary, (rows, length), dtype=np.int64)
    mask = (np.arange(length) < random.integers(1, length + 1, (rows, 1))).astype(np.int64)
    return ids, mask


def by_torch(model: SentenceTransformer, ids: Ids, mask: Ids, types: bool = True) -> Vectors:
    """Return the vectors of token ids by sentence-transformers' own modules, float32 [rows, dim]."""
    features = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    if types:
        features["token_type_ids"] = torch.zeros_like(features["input_ids"])
    with torch.inference_mode():
        return model(features)["sentence_embedding"].numpy()


def sqnr_db(exact: NDArray[np.floating], rough: NDArray[np.floating]) -> float:
    """Return the ratio of signal to quantization noise in decibels."""
    return float(10 * np.log10(np.square(exact).sum() / np.square(exact - rough).sum()))
