"""Which files a folder may hold, by what wrote it: any other is a stranger's, and somebody may run or load it."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from compressor.artifact.layout import CASES, RUNNERS, RUNNERS_FOLDER
from compressor.artifact.manifest import sha256
from compressor.core.errors import ArtifactError

_TOKENIZER = (
    r"tokenizer\.json", r"tokenizer_config\.json", r"special_tokens_map\.json", r"vocab\.txt",
)  # fmt: skip
_VOCABULARY = (  # what transformers keeps beside them, by the tokenizer's kind
    r"added_tokens\.json", r"vocab\.json", r"merges\.txt", r"bpe\.codes", r"dict\.txt", r"entity_vocab\.json",
    r"sentencepiece(\.bpe)?\.model", r"spiece\.model", r"spm\.model", r"tokenizer\.model",
)  # fmt: skip
_ARTIFACT = (
    *_TOKENIZER, *_VOCABULARY, r"onnx/model\.onnx(_data)?", r"config\.json", r"modules\.json",
    r"sentence_bert_config\.json", r"config_sentence_transformers\.json", r"[1-9][0-9]?_(Pooling|Dense)/config\.json",
    r"[1-9][0-9]?_Dense/model\.safetensors", r"(output_ranges|projection)\.safetensors", r"reading\.json",
    r"search\.(json|md)", r"README\.md", r"conformance/cases\.json", r"conformance/run\.(py|mjs)",
)  # fmt: skip
_PART = r"(query|document)_[0-9]{1,2}_"  # of a Router
_FIRST = (
    *_TOKENIZER, *_VOCABULARY, r"config\.json", r"sentence_bert_config\.json",
    r"model(-[0-9]{5}-of-[0-9]{5})?\.safetensors", r"model\.safetensors\.index\.json",
)  # fmt: skip
_REPOSITORY = r"[A-Za-z0-9][A-Za-z0-9._-]*/(config\.pbtxt|1/model\.onnx)"
_VIEWS: Mapping[str, tuple[str, ...]] = {
    "pack/triton": (_REPOSITORY,),
    "pack/kserve": (rf"model_repository/{_REPOSITORY}", r"inferenceservice\.yaml"),
    "pack/ort": (
        *_TOKENIZER, r"model\.ort", r"required_operators_and_types\.config", r"mobile_usability\.txt",
        r"config\.json", r"sentence_bert_config\.json", r"reading\.json",
    ),
    "pack/javascript": (
        *_TOKENIZER, r"reading\.json", r"config\.json", r"artifact\.json", r"onnx/model(_quantized|_fp16)?\.onnx",
    ),
    "pack/mlflow": (
        *_TOKENIZER, r"reading\.json", r"model/(MLmodel|model\.onnx|conda\.yaml|python_env\.yaml|requirements\.txt)",
    ),
    "pack/opensearch": (r"[\w.-]+\.zip", r"register\.json"),
    "pack/token-embeddings": (*_ARTIFACT, r"artifact\.json"),
    "pack/vocab-txt": (*_ARTIFACT, r"artifact\.json"),
    "pack/tokenizer-in-graph": (*_TOKENIZER, r"model\.onnx", r"characters\.json"),
    "pack/hub": (*_ARTIFACT, r"artifact\.json", r"\.gitattributes"),
    "pack/router": (
        r"README\.md", r"(modules|router_config|config_sentence_transformers)\.json",
        *(rf"{_PART}(Transformer|StaticEmbedding)/{name}" for name in _FIRST),
        rf"{_PART}(Pooling|Dense|Normalize|LayerNorm|Dropout)/config\.json",
        rf"{_PART}(Dense|LayerNorm)/model\.safetensors",
    ),
}  # fmt: skip
# Runners of earlier releases, whose artifacts are still about; one that is changed leaves its sha256 here.
_EARLIER: Mapping[str, frozenset[str]] = {
    "run.py": frozenset(
        {
            "3e920b01df2dfe68a4b63380f6b6f1b5070fa54577267352da6dcdd553591095",
            "a4f4462fd443285f14a55bb39b1ef03eb1d19456d5b1be54b74e0901cc3f2e68",
            "428a094df1b5e154f39986b832fdda19330a5fa951c2df1f33dd7cc9bb4f01e5",
            "bca57e02a3c8a8faf856f80d88a0776806657fcbfa22f52e1b85be5693fcdf08",
        }
    ),
    "run.mjs": frozenset(
        {
            "0ee048356d7f437f1716fe27ce2f94ce59d7ee2f64836e0b0868d3018e79c292",
            "57f7cc578565414e684b91876b946e41a7c213ae3b3c0c4d36ac83e090f4d7af",
            "889ba8bf16d06e4cdf9328d6612c1ebcedecadb9af3673823fa8c66a61326712",
        }
    ),
}
_MOST_CARD_BYTES = 1 << 20
_PROMISE = f"{CASES.parent}/".encode()


def check_names(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse a file that ``folder``'s stage never writes, and a runner that was never shipped: ArtifactError."""
    stage, files = str(manifest.get("stage")), manifest["files"]
    if stage.startswith("pack/") and stage not in _VIEWS:
        raise ArtifactError(f"{folder}: stage = {stage!a:.60}: no view of this project")
    known = _known(stage if stage in _VIEWS else "")
    kind = f"a view of {stage.removeprefix('pack/')}" if stage in _VIEWS else "an artifact"
    for name, entry in files.items():
        if not known.fullmatch(name):
            raise ArtifactError(f"{folder / name}: no file of {kind}; it may be code, and is not opened")
        runner = name.removeprefix(f"{CASES.parent}/")
        if runner in RUNNERS and runner != name and entry["sha256"] not in _shipped(runner):
            raise ArtifactError(f"{folder / name}: not the runner that was shipped with any release; it is code")


def has_conformance(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether ``folder`` has its conformance set; ArtifactError where one is promised and not there, or not whole.

    What a run hands out has one, and whatever has a card that names it, or a part of it.
    """
    files = manifest["files"]
    parts = (CASES.as_posix(), *(f"{CASES.parent}/{name}" for name in RUNNERS))
    missing = [name for name in parts if name not in files]
    promised = str(manifest.get("stage")).startswith("artifacts/") or len(missing) < len(parts)
    if missing and (promised or ("README.md" in files and _names_it(folder / "README.md"))):
        raise ArtifactError(f"{folder / missing[0]}: not there; what is handed out has a conformance set")
    return not missing


def _names_it(card: Path) -> bool:
    with card.open("rb") as file:
        return _PROMISE in file.read(_MOST_CARD_BYTES)


@cache
def _known(stage: str) -> re.Pattern[str]:
    return re.compile("|".join(_VIEWS.get(stage, _ARTIFACT)))


@cache
def _shipped(runner: str) -> frozenset[str]:
    return _EARLIER[runner] | {sha256(RUNNERS_FOLDER / runner)}
