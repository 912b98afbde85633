"""Where readers come from: a question-answering model as it is, or an encoder that is to be trained into one."""

from pathlib import Path

from compressor.answering.finetune import base_key
from compressor.answering.model import check_reader
from compressor.artifact import sha256
from compressor.recipe import Config
from compressor.teacher import DEFAULT, Source, check_folder, locate, weights_file


class ReaderTeacher(Config):
    """The model to compress."""

    model: str = DEFAULT
    """A question-answering model, or an encoder that the section finetune makes one of: a folder, or a name on the
    Hugging Face hub."""

    def find(self, base: Path | None = None) -> Source:
        """Locate the model, check that it is whole, and hash its weights."""
        folder, origin = locate(self.model, base, _check)
        _check(folder)
        weights = weights_file(folder) if is_encoder(folder) else folder / "model.safetensors"
        return Source(folder, base_key(folder), {}, self.model, origin, sha256(weights))


def is_encoder(folder: Path) -> bool:
    """Tell a sentence-transformers folder, which has no question-answering head."""
    return (folder / "modules.json").is_file()


def _check(folder: Path) -> None:
    if is_encoder(folder):
        check_folder(folder)
    else:
        check_reader(folder)
