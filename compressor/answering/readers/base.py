"""What readers are made of: an encoder, or a reader already, in a folder."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from compressor.answering.readers.model import check_reader, open_reader, reader_of
from compressor.core.errors import ModelError, first_line
from compressor.models.source import (
    check_folder,
    check_module,
    check_parts,
    content_key,
    layers_stated,
    read_config,
    transformer_folder,
)


def is_encoder(folder: Path) -> bool:
    """Tell a sentence-transformers folder, which has no question-answering head."""
    return (folder / "modules.json").is_file()


def check_base(folder: Path) -> dict[str, Any]:
    """Return the config of an encoder or reader in safetensors; ModelError for anything else."""
    if not is_encoder(folder):
        return check_reader(folder)
    check_folder(folder)
    return read_config(folder)


def depth_of(folder: Path) -> int:
    """Return how many layers it states."""
    return layers_stated(check_base(folder))


def base_key(folder: Path) -> str:
    """Check and hash it."""
    check_base(folder)
    return content_key(folder)


def open_base(folder: Path, seed: int) -> Any:
    """Open what is trained: a question-answering folder with its head, or an encoder with a new one."""
    return reader_of(folder, seed) if is_encoder(folder) else open_reader(folder)


def tokenizer_of(folder: Path) -> Any:
    """Return the tokenizer of a sentence-transformers or a Hugging Face folder; ModelError for a slow one."""
    if is_encoder(folder):
        check_parts(folder)
    inner = transformer_folder(folder) if is_encoder(folder) else folder
    check_module(inner)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(inner), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a stranger's settings: the libraries raise whatever they run into
        raise ModelError(f"{folder}: its tokenizer cannot be loaded: {first_line(error)}") from error
    if not tokenizer.is_fast:
        raise ModelError(f"{folder}: its tokenizer has no fast form, which tells where a token stands")
    return tokenizer
