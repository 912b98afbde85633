"""How a text's vector is made of its tokens: as a folder states it, or as it is asked for of one that does not."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from compressor.artifact.folder import key_of
from compressor.core.cache import cache_folder, keeping
from compressor.core.errors import ModelError, first_line
from compressor.core.strict_json import read_json
from compressor.untrusted.loaders import MODULES
from compressor.untrusted.settings import check_json
from compressor.untrusted.weights import INDEX, PICKLED, PICKLED_INDEX, WEIGHTS

Pooling = Literal["mean", "cls", "last"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
CONTENT = (".json", ".txt", ".model", ".safetensors")
"""What a model is made of; other files of its folder do not matter."""
MODES: dict[Pooling, str] = {"mean": "mean", "cls": "cls", "last": "lasttoken"}
"""What sentence-transformers calls the ways to pool that can be given."""
FLAGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
"""The key of each mode in a Pooling's settings, in the order in which loaders put several side by side."""
OWN = "1_Pooling/config.json"
"""Where a plain folder may state its pooling."""
_LENGTH = "sentence_bert_config.json"
_MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]
_TEXTS_ALONE = {
    "transformer_task": "feature-extraction",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
}
"""That texts are read as they are, and not put through a chat template, where a tokenizer has one."""
_COUNTING_BEHIND_PADDING = (
    "camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta",
    "xlm-roberta-xl", "xmod",
)  # fmt: skip


def is_plain(folder: Path) -> bool:
    """Tell a folder with a transformer for PyTorch, beside which no list of sentence-transformers' modules stands."""
    if (folder / "modules.json").is_file() or not (folder / "config.json").is_file():
        return False
    exported = (folder / "onnx").is_dir() or any(folder.glob("*.onnx"))
    return not exported or any((folder / name).is_file() for name in (WEIGHTS, INDEX, PICKLED, PICKLED_INDEX))


def pooling_modes(folder: Path) -> list[str]:
    """Return how a folder pools its tokens, by sentence-transformers' names; none where it does not."""
    entries = check_json(folder / "modules.json")
    entry = next((entry for entry in entries if MODULES[entry["type"]] == "Pooling"), None)
    return [] if entry is None else modes_in(folder / entry["path"] / "config.json")


def modes_in(path: Path) -> list[str]:
    """Return the modes that a Pooling's settings name, or that older releases flagged; none where there are none."""
    stated = check_json(path) if path.is_file() else {}
    if not isinstance(stated, dict):
        return []
    named = stated.get("pooling_mode")
    if isinstance(named, str | list):
        return [named] if isinstance(named, str) else [str(mode) for mode in named]
    return [mode for mode, flag in FLAGS.items() if stated.get(flag)]


def unstated(folder: Path) -> ModelError:
    """Return the error of a plain folder for which nothing says how its tokens are pooled."""
    return ModelError(
        f"{folder}: a transformer without modules.json: nothing says how a text's vector is made of its tokens; "
        "state --pooling mean, cls or last (in a recipe: teacher.pooling)"
    )


def with_pooling(folder: Path, pooling: Pooling | None) -> Path:
    """Return ``folder`` if it states its modules, else one in the cache that has its files, and pools as asked for.

    A plain folder, whose settings were checked before, may state it in 1_Pooling/config.json alone. ModelError where
    nothing says how, and where ``pooling`` is another than a folder's own.
    """
    plain, asked = is_plain(folder), [] if pooling is None else [MODES[pooling]]
    if not plain and not (asked and (folder / "modules.json").is_file()):
        return folder
    stated = modes_in(folder / OWN) if plain else pooling_modes(folder)
    if asked and (stated or not plain) and stated != asked:
        own = " and ".join(stated) or "none"
        raise ModelError(f"pooling = {pooling}: {folder} states its own ({own}); leave it out")
    if plain and not (stated or asked):
        raise unstated(folder)
    return _assembled(folder, stated or asked) if plain else folder


def _assembled(folder: Path, modes: list[str]) -> Path:
    """Return the folder in the cache with a plain folder's files, a module list and pooling by ``modes``."""
    files = {p.name: p.absolute() for p in sorted(folder.iterdir()) if p.is_file() and _is_wanted(p)}
    facts = {name: [path.stat().st_size, path.stat().st_mtime_ns] for name, path in files.items()}
    written = dict(_settings(folder, modes))
    to = cache_folder() / "models" / key_of(str(folder.resolve()), facts, written)[:32] / folder.resolve().name

    def is_whole() -> bool:
        return all((to / name).is_file() for name in (*files, *written))

    if not is_whole():
        with keeping(to, is_whole) as draft:
            for name, path in files.items():
                _link(path, draft / name)
            for name, content in written.items():
                (draft / name).parent.mkdir(exist_ok=True)
                (draft / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return to


def _is_wanted(path: Path) -> bool:
    return path.suffix in CONTENT or path.name == "README.md"


def _link(path: Path, to: Path) -> None:
    try:
        os.symlink(path, to)
    except OSError:  # Windows lets few users link
        shutil.copyfile(path, to)


def _settings(folder: Path, modes: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield the files that sentence-transformers wants beside a plain folder's own: name and content."""
    config = _config(folder)
    flags = {flag: mode in modes for mode, flag in FLAGS.items()}
    yield "modules.json", _MODULES
    yield OWN, {"word_embedding_dimension": config.hidden_size, **flags, "include_prompt": True}
    if not (folder / _LENGTH).is_file():
        limit = _limit(folder, config)
        yield _LENGTH, _TEXTS_ALONE | ({} if limit is None else {"max_seq_length": limit})


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a stranger's settings: the library raises whatever it runs into
        raise ModelError(f"{folder / 'config.json'}: cannot be loaded: {first_line(error)}") from error


def _limit(folder: Path, config: Any) -> int | None:
    """Return how many tokens a plain folder's model reads, as its tokenizer and its positions say; None if neither."""
    path = folder / "tokenizer_config.json"
    stated: Mapping[str, Any] = read_json(path) if path.is_file() else {}
    positions = getattr(config, "max_position_embeddings", None)
    if positions and config.model_type in _COUNTING_BEHIND_PADDING:
        positions -= (config.pad_token_id or 0) + 1
    lengths = [stated.get("model_max_length"), positions]
    return min((int(n) for n in lengths if isinstance(n, int | float) and 1 <= n <= 1 << 20), default=None)
