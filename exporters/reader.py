"""The exported reader at work: windows cut into batches of like length, run side by side."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from compressor.answering.questions.spans import Logits, Prediction, best_spans
from compressor.answering.questions.squad import Question
from compressor.answering.questions.windows import Cutter, batches, padded
from compressor.answering.readers.reader import Features, Reading, WindowReader, read_reading
from compressor.artifact.layout import ANSWERING, GRAPH
from compressor.core.cores import usable_cores
from compressor.core.encoder import check_texts, check_whole
from compressor.core.errors import ArtifactError, TextError
from compressor.core.strict_json import read_json
from exporters.runtime.asked import Asked
from exporters.runtime.forking import PerProcess
from exporters.runtime.names import Given, name_of
from exporters.runtime.placed import Placed, placed_of
from exporters.runtime.prepared import Prepared
from exporters.runtime.providers import CPU, computing, require_providers, side_by_side
from exporters.runtime.running import Running
from exporters.runtime.sessions import Sessions, open_sessions

_ASKED = "asked"  # the id of a question that is asked alone


def batches_of_questions(folder: Path, questions: Sequence[Question], count: int) -> Iterator[Features]:
    """Yield the windows of at most ``count`` questions, chosen at random, as a reader's graph in ``folder`` reads them.

    Windows of like length come together.
    """
    reader = OnnxReader(folder, threads=1)
    chosen = np.random.default_rng(0).permutation(len(questions))[:count]
    windows = reader.cutter.cut([questions[int(i)] for i in chosen])
    for numbers in batches(windows, 16):
        yield padded([windows[i] for i in numbers], reader.pad)


class OnnxReader(WindowReader):
    """A question-answering artifact run by ONNX Runtime.

    Windows are cut into batches of like length, and ``threads`` batches run side by side on a thread each. A forked
    child opens its own sessions at their first use; a pickled reader is its folder and its options.
    """

    def __init__(
        self,
        folder: Path | str,
        providers: Sequence[Given] = (CPU,),
        threads: int | None = None,
        reading: Reading | None = None,
        running: Running | None = None,
    ) -> None:
        """Open ``folder``; ``reading`` by default as it was exported with, ``running`` as it states for this CPU.

        ``providers`` as ``OnnxEncoder`` takes them.

        ProviderError if a provider is not there, ArtifactError if a file is not.
        """
        require_providers(providers)
        self.folder, self._options = Path(folder), (tuple(providers), threads, reading, running)
        self.threads = usable_cores() if threads is None else check_whole("threads", threads)
        self.providers = [str(Asked.of(provider)) for provider in providers]
        self.running = running or Running.load(self.folder, name_of(self.providers[0]))
        reading = reading or read_reading(self.folder)
        try:
            pad = int(read_json(self.folder / "config.json").get("pad_token_id") or 0)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{self.folder / 'config.json'}: not readable, or states no pad_token_id") from error
        super().__init__(Cutter.open(self.folder, reading), reading, pad)
        self._opened = PerProcess(self.folder, self._open)
        session = self._opened().side_by_side
        self.batch_tokens = self.running.batch_tokens if side_by_side(self.providers) else None
        self._inputs = [value.name for value in session.get_inputs()]
        if not {value.name for value in session.get_outputs()} >= set(ANSWERING):
            raise ArtifactError(f"{self.folder / GRAPH}: no outputs start_logits and end_logits; not a reader")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._opened.folder, *self._options)

    def _open(self, folder: Path) -> Sessions:
        return open_sessions(folder, self.providers, self.threads, self.running)

    @property
    def placed(self) -> Placed | None:
        """How many nodes of each operator every provider was given; None where the graph is whole by its nature."""
        return placed_of(self._opened().side_by_side, self.providers)

    def run(self, features: Features) -> tuple[Logits, Logits]:
        """Return start and end logits, float32 [windows, tokens]."""
        return self._run(self._opened().side_by_side, features)

    def run_all(self, batches: Iterable[Features]) -> Iterable[tuple[Logits, Logits]]:
        """Return what ``run`` gives for each batch, in their order.

        On a CPU a batch is cut so that a layer's states stay in the cache of a core; a single part uses all threads.
        """
        some = [list(_parts(features, self.batch_tokens)) for features in batches]
        parts = [part for own in some for part in own]
        opened = self._opened()
        session = opened.alone if opened.alone is not None and len(parts) == 1 else opened.side_by_side
        results = iter(opened.pool.map(lambda features: self._run(session, features), parts))
        return (_joined([next(results) for _ in own]) for own in some)

    def prepare(self, question: str, context: str) -> Prepared:
        """Return the windows of one question, to be computed with others; TextError for what is no text."""
        for name, text in (("question", question), ("context", context)):
            if not isinstance(text, str):
                raise TextError(f"{name}: {type(text).__name__} was given where one text belongs")
            check_texts([text], name=name)
        asked = Question(_ASKED, question, context)
        windows = self.cutter.cut([asked])
        return Prepared(len(windows), max(len(window.ids) for window in windows), (asked, windows))

    def compute(self, prepared: Sequence[Prepared]) -> list[Prediction]:
        """Return the prediction of each question, all computed together on one thread."""
        questions = [question.work[0] for question in prepared]
        own = [replace(window, question=i) for i, question in enumerate(prepared) for window in question.work[1]]
        return best_spans(questions, own, *self.logits(own, max(1, len(own)), self._on_one), self.reading)

    def _on_one(self, batches: Iterable[Features]) -> Iterator[tuple[Logits, Logits]]:
        """Yield what ``run`` gives for each batch, cut as ``run_all`` does it, in the thread that asks."""
        for features in batches:
            yield _joined([self.run(part) for part in _parts(features, self.batch_tokens)])

    def _run(self, session: Any, features: Features) -> tuple[Logits, Logits]:
        with computing(self.folder, features["input_ids"]):
            start, end = session.run(list(ANSWERING), {name: features[name] for name in self._inputs})
        return start, end


def _parts(features: Features, most_tokens: int | None) -> Iterator[Features]:
    """Cut a batch into batches of at most so many tokens, but one window at least."""
    windows, tokens = features["input_ids"].shape
    rows = windows if most_tokens is None else max(1, most_tokens // max(1, tokens))
    for start in range(0, windows, rows):
        yield {name: values[start : start + rows] for name, values in features.items()}


def _joined(results: Sequence[tuple[Logits, Logits]]) -> tuple[Logits, Logits]:
    starts, ends = zip(*results, strict=True)
    return np.concatenate(starts), np.concatenate(ends)
