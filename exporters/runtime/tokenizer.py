"""The tokenizer of an encoder's artifact, as its folder states it."""

from pathlib import Path

from tokenizers import Tokenizer

from compressor.core.errors import ArtifactError
from compressor.core.strict_json import read_json, read_plain
from compressor.untrusted.settings import LONGEST
from exporters.runtime.words import cutting_side


def token_limit(folder: Path) -> int:
    """Return how many tokens of a text an encoder's artifact reads."""
    length = read_json(folder / "sentence_bert_config.json")["max_seq_length"]
    if type(length) is not int or not 1 <= length <= LONGEST:
        path = folder / "sentence_bert_config.json"
        raise ArtifactError(f"{path}: max_seq_length = {length!a:.40}: must be a whole number from 1 to {LONGEST}")
    return length


def open_tokenizer(folder: Path) -> tuple[Tokenizer, int, int]:
    """Return a tokenizer that cuts texts at the artifact's limit, that limit, and the id of the padding."""
    try:
        length = token_limit(folder)
        pad = read_json(folder / "config.json").get("pad_token_id") or 0
        tokenizer = Tokenizer.from_str(read_plain(folder / "tokenizer.json").decode("utf-8"))
    except ArtifactError:
        raise
    except Exception as error:  # tokenizers raises bare Exception
        raise ArtifactError(
            f"{folder}: no readable tokenizer.json, config.json and sentence_bert_config.json"
        ) from error
    if type(pad) is not int or not 0 <= pad < 1 << 31:
        raise ArtifactError(f"{folder / 'config.json'}: pad_token_id = {pad!a:.40}: must be the id of a token")
    tokenizer.no_padding()
    try:
        tokenizer.enable_truncation(length, direction=cutting_side(tokenizer))
    except BaseException as error:  # the library panics where the special tokens alone are more
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise ArtifactError(f"{folder}: max_seq_length = {length} leaves no room for a token") from error
    return tokenizer, length, pad
