"""When a reader had better give no answer."""

from pathlib import Path

from compressor.answering.model import TorchReader
from compressor.answering.reader import Reading
from compressor.answering.spans import best_threshold
from compressor.answering.squad import Questions
from compressor.artifact import Draft, write_json
from compressor.recipe import Config


class Threshold(Config):
    """Choose by how much no answer must score higher than the best span to be given."""

    def run(self, reader: Path, reading: Reading, tune: Questions, draft: Draft) -> None:
        """Write ``threshold.json`` into ``draft``: the ``no_answer_threshold`` of the highest F1 on ``tune``."""
        made = TorchReader.load(reader, reading).read(tune, 32)
        write_json(draft.folder / "threshold.json", {"no_answer_threshold": best_threshold(tune, made)})
