"""Where readers come from: a question-answering model as it is, or an encoder that is to be trained into one."""

from pathlib import Path

from compressor.answering.readers.base import base_key, check_base, is_encoder
from compressor.core.config import Config
from compressor.models.source import DEFAULT, Source, check_tokenizer, locate, transformer_folder, weights_sha256
from compressor.untrusted.weights import read_headers, stored_in, weights_in


class ReaderTeacher(Config):
    """The model to compress."""

    model: str = DEFAULT
    """A question-answering model, or an encoder that the section finetune makes one of: a folder, or a name on the
    Hugging Face hub."""

    def find(self, base: Path | None = None) -> Source:
        """Locate the model, check that it is whole, and hash its weights."""
        folder, origin = locate(self.model, base, check_base)
        inner = transformer_folder(folder) if is_encoder(folder) else folder
        check_tokenizer(inner / "tokenizer.json")
        weights = weights_in(inner)
        stored = stored_in(read_headers(weights))
        return Source(folder, base_key(folder), {}, self.model, origin, weights_sha256(weights), stored)
