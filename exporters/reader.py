"""Question-answering models as ONNX Runtime artifacts, and the reader that runs them."""

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import onnx
import torch
from pydantic import Field

from compressor.answering.reader import Features, Reading, WindowReader
from compressor.answering.spans import Logits
from compressor.answering.windows import Cutter
from compressor.artifact import Draft
from compressor.encoder import usable_cores
from compressor.errors import ArtifactError
from compressor.recipe import Config
from exporters.layout import GRAPH
from exporters.session import CPU, open_session, require_providers

OUTPUTS = ("start_logits", "end_logits")
READING = "reading.json"


class ReaderExport(Config):
    """Write a question-answering model as one ONNX graph in fp32."""

    opset: int = Field(default=17, ge=17, le=20)
    """Version of the ONNX operator set; 17 is the first with LayerNormalization."""

    def run(self, model: Path, reading: Reading, draft: Draft) -> None:
        """Write ``onnx/model.onnx`` and the files its consumers read into ``draft``.

        Inputs int64 [batch_size, sequence_length]: input_ids, attention_mask, and token_type_ids where the model has
        them. Outputs float32 [batch_size, sequence_length]: start_logits, end_logits. How windows are cut stands in
        ``reading.json``.
        """
        from compressor.answering.finetune import tokenizer_of
        from compressor.answering.model import open_reader, position_limit
        from exporters.consumers import write_config, write_tokenizer
        from exporters.onnx import AXES, check_and_save, example_inputs, trace

        reader = open_reader(model, attention="eager")  # the form that ONNX Runtime fuses
        path = draft.folder / GRAPH
        path.parent.mkdir(parents=True, exist_ok=True)
        inputs = example_inputs(reader)
        outputs = dict.fromkeys(OUTPUTS, AXES)
        trace(_Graph(reader, tuple(inputs)), inputs, outputs, path, self.opset, reader.config.model_type)
        check_and_save(onnx.load(path), path)
        limit = min(reading.max_length, position_limit(reader) or reading.max_length)
        write_config(reader.config, draft.folder)
        write_tokenizer(tokenizer_of(model), limit, draft.folder)
        stated = reading.model_dump(mode="json") | {"max_length": limit}
        (draft.folder / READING).write_text(json.dumps(stated, indent=2) + "\n", encoding="utf-8")


class _Graph(torch.nn.Module):
    """A question-answering model as a function of tensors, in the order of ``names``."""

    def __init__(self, model: Any, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        made = self.model(**dict(zip(self.names, tensors, strict=True)))
        return made.start_logits, made.end_logits


class OnnxReader(WindowReader):
    """A question-answering artifact run by ONNX Runtime.

    Windows are cut into batches of like length, and ``threads`` batches run side by side on a thread each.
    """

    def __init__(
        self,
        folder: Path | str,
        providers: Sequence[str] = (CPU,),
        threads: int | None = None,
        reading: Reading | None = None,
    ) -> None:
        """Open ``folder``; ``reading`` by default as it was exported with.

        ProviderError if a provider is not there, ArtifactError if a file is not.
        """
        self.folder, self.threads = Path(folder), threads or usable_cores()
        require_providers(providers)
        reading = reading or read_reading(self.folder)
        pad = json.loads((self.folder / "config.json").read_text(encoding="utf-8")).get("pad_token_id") or 0
        super().__init__(Cutter.open(self.folder, reading), reading, int(pad))
        on_cpu = list(providers) == [CPU]
        self._side_by_side = open_session(self.folder, providers, 1 if on_cpu else self.threads)
        self._alone = open_session(self.folder, providers, self.threads) if on_cpu and self.threads > 1 else None
        self._inputs = [value.name for value in self._side_by_side.get_inputs()]
        if not {value.name for value in self._side_by_side.get_outputs()} >= set(OUTPUTS):
            raise ArtifactError(f"{self.folder / GRAPH}: no outputs start_logits and end_logits; not a reader")
        self._pool = ThreadPoolExecutor(self.threads if on_cpu else 1)

    def run(self, features: Features) -> tuple[Logits, Logits]:
        """Return start and end logits, float32 [windows, tokens]."""
        return self._run(self._side_by_side, features)

    def run_all(self, batches: Iterable[Features]) -> Iterable[tuple[Logits, Logits]]:
        """Return what ``run`` gives for each batch, in their order; a single batch uses all threads at once."""
        some = list(batches)
        session = self._alone if self._alone is not None and len(some) == 1 else self._side_by_side
        return self._pool.map(lambda features: self._run(session, features), some)

    def _run(self, session: Any, features: Features) -> tuple[Logits, Logits]:
        start, end = session.run(list(OUTPUTS), {name: features[name] for name in self._inputs})
        return start, end


def read_reading(folder: Path) -> Reading:
    """Return how an artifact's windows are cut; ArtifactError where that is not stated."""
    path = folder / READING
    try:
        return Reading.read(json.loads(path.read_text(encoding="utf-8")), where=str(path))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: missing or not JSON; not a question-answering artifact") from error
