"""The teacher's index of the collections that a run searches: embedded once, for the gate and for the figures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from compressor.artifact.folder import Draft, write_json
from compressor.core.config import Config
from compressor.core.strict_json import read_json
from compressor.models.sentence_model import TorchEncoder
from compressor.texts.collections import Collection
from compressor.vectors.retrieval import Searches

INDEX, FOUND = "index.safetensors", "found.json"


class Index(Config):
    """Embed collections by the teacher, and measure what it finds."""

    def run(self, teacher: Path, collections: Sequence[Collection], draft: Draft) -> None:
        """Write the vectors of the documents and the teacher's figures into ``draft``."""
        searches = Searches(collections)
        write_json(draft.folder / FOUND, searches.figures(TorchEncoder.load(teacher)))
        vectors = {str(i): np.ascontiguousarray(searches.index[own.name]) for i, own in enumerate(collections)}
        save_file(vectors, draft.folder / INDEX)  # by number: a folder may be called anything


def open_index(folder: Path, collections: Sequence[Collection]) -> Searches:
    """Return the searches of the collections that ``Index`` embedded into ``folder``, the teacher's done."""
    vectors = load_file(folder / INDEX)
    index = {own.name: vectors[str(number)] for number, own in enumerate(collections)}
    return Searches(collections, index, read_json(folder / FOUND))
