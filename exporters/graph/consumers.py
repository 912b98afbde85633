"""The artifact folder as its consumers read it: names, keys and files that older loaders need too."""

import json
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling

from compressor.core.errors import ModelError
from compressor.models.pooling import FLAGS
from compressor.models.sentence_model import transformer_of
from compressor.untrusted.settings import LONGEST

VOCABULARY = "vocab.txt"  # a WordPiece token a line; its number is its id
# Names that every release of sentence-transformers, and the loaders that parse them, understand.
_LEGACY = {
    Pooling: "sentence_transformers.models.Pooling",
    Dense: "sentence_transformers.models.Dense",
    Normalize: "sentence_transformers.models.Normalize",
}


def check_modules(model: Path, encoder: SentenceTransformer) -> None:
    """Refuse, before any work, what a graph and its folder cannot carry: ModelError."""
    for module in list(encoder)[1:]:
        if not isinstance(module, tuple(_LEGACY)):
            known = ", ".join(k.__name__ for k in _LEGACY)
            raise ModelError(f"{model}: module {type(module).__name__} cannot be exported; known: {known}")
    check_prompts(model, encoder)
    if not encoder.max_seq_length or encoder.max_seq_length > LONGEST:
        raise ModelError(f"{model}: states no max_seq_length; set one in sentence_bert_config.json")
    if not encoder.tokenizer.is_fast:
        raise ModelError(f"{model}: its tokenizer has no fast form, so no tokenizer.json; it cannot be exported")


def check_prompts(model: Path, encoder: SentenceTransformer) -> None:
    """Refuse prompts that the pooling leaves out: ModelError."""
    prompts = ", ".join(name for name, prompt in encoder.prompts.items() if prompt)
    if prompts and any(isinstance(module, Pooling) and not module.include_prompt for module in encoder):
        raise ModelError(f"{model}: its pooling leaves prompts out ({prompts}), which a graph of ids cannot")


def write_consumer_files(encoder: SentenceTransformer, folder: Path) -> None:
    """Write everything but the graph: config, tokenizer, module list, pooling and Dense folders."""
    write_config(transformer_of(encoder).config, folder)
    write_tokenizer(encoder.tokenizer, int(encoder.max_seq_length or 0), folder)
    entries = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for index, module in enumerate(list(encoder)[1:], start=1):
        kind = next(k for k in _LEGACY if isinstance(module, k))
        path = f"{index}_{kind.__name__}"
        entries.append({"idx": index, "name": str(index), "path": path, "type": _LEGACY[kind]})
        _write_module(module, folder / path)
    _write(folder / "modules.json", entries)
    length = {"max_seq_length": encoder.max_seq_length, "do_lower_case": False}
    _write(folder / "sentence_bert_config.json", length)
    usage = {
        "prompts": {name: prompt or "" for name, prompt in encoder.prompts.items()},
        "default_prompt_name": encoder.default_prompt_name,
        "similarity_fn_name": encoder.similarity_fn_name,
    }
    _write(folder / "config_sentence_transformers.json", usage)


def write_config(config: Any, folder: Path) -> None:
    """Write config.json, without the place that the model was loaded from and without code that it names."""
    stated = config.to_dict()
    for name in ("_name_or_path", "auto_map"):
        stated.pop(name, None)
    _write(folder / "config.json", stated)


def _write_module(module: Any, folder: Path) -> None:
    folder.mkdir(parents=True)
    if isinstance(module, Pooling):
        modes = (module.pooling_mode,) if isinstance(module.pooling_mode, str) else module.pooling_mode
        settings: dict[str, Any] = {"word_embedding_dimension": module.embedding_dimension}
        settings |= {key: mode in modes for mode, key in FLAGS.items()}
        if tuple(modes) != tuple(mode for mode in FLAGS if mode in modes):
            settings["pooling_mode"] = list(modes)  # another order, which only newer loaders know
        _write(folder / "config.json", settings | {"include_prompt": module.include_prompt})
    elif isinstance(module, Dense):
        module.save(str(folder))
        settings = json.loads((folder / "config.json").read_text())
        known = ("in_features", "out_features", "bias", "activation_function")
        _write(folder / "config.json", {key: settings[key] for key in known})


def write_tokenizer(tokenizer: Any, max_length: int, folder: Path) -> None:
    """Save the tokenizer with one finite length, its vocabulary once: what wants ``vocab.txt``, too, has a view."""
    tokenizer.model_max_length = max_length
    tokenizer.chat_template = None  # an encoder has no use for it, and a template is code
    tokenizer.save_pretrained(str(folder))
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    # A length that some earlier call had left there: fastembed cuts at the smaller one.
    shorter = settings.pop("max_length", None)
    named_late = (
        settings.get("tokenizer_class") == "TokenizersBackend"
    )  # transformers 5, which knows the older name too
    if named_late:
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    if named_late or shorter is not None:
        _write(folder / "tokenizer_config.json", settings)
    named = {k: str(v) for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)}
    _write(folder / "special_tokens_map.json", named)  # transformers 4 writes a record a token, which few read
    (folder / VOCABULARY).unlink(missing_ok=True)  # of transformers 4
    _cut_at(max_length, tokenizer.truncation_side, folder / "tokenizer.json")


def _cut_at(max_length: int, side: str, path: Path) -> None:
    """State length and side in tokenizer.json too, for those who read no other file."""
    tokens = json.loads(path.read_text(encoding="utf-8"))
    truncation = {"direction": side.title(), "strategy": "LongestFirst", "max_length": max_length, "stride": 0}
    path.write_text(compact(tokens | {"truncation": truncation}), encoding="utf-8")


def compact(tokens: Any) -> str:
    """Return what ``tokenizer.json`` holds without indentation, which is a third of a WordPiece vocabulary's."""
    return json.dumps(tokens, separators=(",", ":"), ensure_ascii=False) + "\n"


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=isinstance(value, dict)) + "\n", encoding="utf-8")
