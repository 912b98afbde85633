"""The exported encoder at work: tokenize, cut batches of like length, run them side by side."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compressor.artifact.layout import GRAPH
from compressor.artifact.prompts import DOCUMENT, QUERY, Prompts
from compressor.core.cores import usable_cores
from compressor.core.encoder import (
    Vectors,
    check_texts,
    check_whole,
    length_sorted_batches,
    listed,
    ordered,
)
from compressor.core.errors import ArtifactError, TextError
from compressor.vectors.codes import Ranges, VectorPrecision, check_precision, quantized
from exporters.runtime.asked import Asked
from exporters.runtime.forking import PerProcess, check_process
from exporters.runtime.names import Given, name_of
from exporters.runtime.placed import Placed, placed_of
from exporters.runtime.prepared import Prepared
from exporters.runtime.providers import CPU, computing, on_device, require_providers, run_bound, side_by_side
from exporters.runtime.running import Running
from exporters.runtime.sessions import Sessions, open_sessions
from exporters.runtime.tokenizer import open_tokenizer
from exporters.runtime.words import WordTokenizer

if TYPE_CHECKING:
    from exporters.runtime.windows import Pooled, WindowCutter, Windows

Ids = NDArray[np.int64]
Job = tuple[NDArray[np.intp], Future[Vectors]]  # row numbers, and their vectors to come
_FIRST, _AHEAD = 256, 4096  # texts tokenized at a time: few at first, so that sessions have work early


class OnnxEncoder:
    """An artifact folder run by ONNX Runtime.

    Many texts are cut into batches of like length, and ``threads`` batches run side by side on a thread
    each, which beats one batch on many threads. A single batch uses all threads at once. A forked child opens its own
    sessions at their first use; a pickled encoder is its folder and its options, and opened where it is read.
    """

    def __init__(
        self,
        folder: Path | str,
        providers: Sequence[Given] = (CPU,),
        threads: int | None = None,
        running: Running | None = None,
    ) -> None:
        """Open ``folder``; ProviderError if a provider is not there, ArtifactError if a file is not.

        ``providers``: names, or names and options (``("OpenVINOExecutionProvider", {"NUM_STREAMS": 2})``, or as one
        word: ``asked.Asked``). A graph of which a part would run on the CPU provider is refused where that was not
        asked for behind another; ``placed`` counts it.
        ``threads``: by default all cores. ``running`` is what the artifact states for this CPU, unless given.
        """
        require_providers(providers)
        self.folder, self._options = Path(folder), (tuple(providers), threads, running)
        self.threads = usable_cores() if threads is None else check_whole("threads", threads)
        self.providers = [str(Asked.of(provider)) for provider in providers]
        self.running = running or Running.load(self.folder, name_of(self.providers[0]))
        self.batch_tokens = self.running.batch_tokens if side_by_side(self.providers) else None
        tokenizer, self.max_length, self._pad = open_tokenizer(self.folder)
        self._tokenizer = WordTokenizer(tokenizer, self.max_length)
        self.prompts = Prompts.load(self.folder)
        self.prompt = self.prompts.choose()
        self._opened = PerProcess(self.folder, self._open)
        session = self._opened().side_by_side
        self._inputs = [value.name for value in session.get_inputs()]
        outputs = {value.name: value.shape for value in session.get_outputs()}
        if "sentence_embedding" not in outputs:
            raise ArtifactError(f"{self.folder / GRAPH}: no output sentence_embedding")
        self.dim = _width(self.folder / GRAPH, outputs["sentence_embedding"])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._opened.folder, *self._options)

    def encode(
        self,
        texts: Iterable[str],
        batch_size: int = 32,
        precision: VectorPrecision = "float32",
        prompt_name: str | None = None,
        prompt: str | None = None,
    ) -> NDArray[Any]:
        """Return [len(texts), dim] in ``precision``, rows in the order of ``texts``; binary ones of dim / 8 bytes.

        Quantized as sentence-transformers does it; int8 and uint8 by the artifact's ranges, ArtifactError without.
        Each text is put behind ``prompt``, the artifact's prompt of that name, or its default one; TextError for a
        name that it has not, and, with its row, for what is no text.
        """
        texts, batch_size, ranges = listed(texts), check_whole("batch_size", batch_size), self._ranges(precision)
        return quantized(self._vectors(texts, batch_size, self.prompts.choose(prompt_name, prompt)), precision, ranges)

    def encode_query(self, texts: Iterable[str], batch_size: int = 32, **options: Any) -> NDArray[Any]:
        """Encode queries: with the prompt named query, unless ``options`` of ``encode`` name or give another."""
        return self.encode(texts, batch_size, **self._for(QUERY, options))

    def encode_document(
        self,
        texts: Iterable[str],
        batch_size: int = 32,
        windows: "Pooled" = False,
        stride: int = 0,
        precision: VectorPrecision = "float32",
        **options: Any,
    ) -> NDArray[Any]:
        """Encode documents: with the first prompt named document, passage or corpus, unless ``options`` say another.

        ``windows="mean"``: a text longer than the limit is read whole, as ``document_windows`` does it, and is the mean
        of its windows by their tokens, of length 1 again where the model normalises; RecipeError for another value.
        """
        from exporters.runtime.windows import check_windows, gives_unit_vectors  # here: texts are mostly short

        if not check_windows(windows, stride):
            return self.encode(texts, batch_size, precision, **self._for(DOCUMENT, options))
        ranges, unit = self._ranges(precision), gives_unit_vectors(self._opened.folder)
        rows = self.document_windows(texts, batch_size, stride, **options)
        return quantized(rows.means(unit), precision, ranges)

    def document_windows(
        self,
        texts: Iterable[str],
        batch_size: int = 32,
        stride: int = 0,
        precision: VectorPrecision = "float32",
        prompt_name: str | None = None,
        prompt: str | None = None,
    ) -> "Windows":
        """Encode documents as rows, one a window: of the limit's tokens at most, cut between words, behind the prompt.

        A text's windows share at most ``stride`` tokens, RecipeError for more than half of them. A text within the
        limit is the one row that ``encode_document`` gives; texts are batched as there.
        """
        texts, batch_size, ranges = listed(texts), check_whole("batch_size", batch_size), self._ranges(precision)
        options = self._for(DOCUMENT, {"prompt_name": prompt_name, "prompt": prompt})
        cut = self._cutter.cut(texts, self.prompts.choose(options["prompt_name"], prompt), stride)
        windows = iter(cut)
        few = list(islice(windows, batch_size + 1))
        if len(few) <= batch_size:
            vectors = self._few(few, batch_size)
        else:
            vectors = np.concatenate(list(self._blocks(chain(few, windows), batch_size, None)))
        return cut.rows(quantized(vectors, precision, ranges))

    @cached_property
    def _cutter(self) -> "WindowCutter":
        from exporters.runtime.windows import WindowCutter

        return WindowCutter(self._tokenizer, self.max_length)

    def _for(self, names: Sequence[str], options: dict[str, Any]) -> dict[str, Any]:
        chosen = options.get("prompt_name") is not None or options.get("prompt") is not None
        return options if chosen else options | {"prompt_name": self.prompts.first(names)}

    def stream(
        self,
        texts: Iterable[str],
        batch_size: int = 32,
        precision: VectorPrecision = "float32",
        prompt_name: str | None = None,
        prompt: str | None = None,
    ) -> Iterator[NDArray[Any]]:
        """Yield the vectors of any number of texts as ``encode`` gives them, in their order, some thousand rows a time.

        Texts are read as rows are asked for, two pieces ahead: memory does not grow with their number.
        """
        texts, batch_size, ranges = ordered(texts), check_whole("batch_size", batch_size), self._ranges(precision)
        chosen = self.prompts.choose(prompt_name, prompt)
        return (quantized(block, precision, ranges) for block in self._blocks(texts, batch_size, chosen))

    def _ranges(self, precision: VectorPrecision) -> Ranges | None:
        """Return the ranges that codes in ``precision`` need, after checking that there is one of that name."""
        check_precision(precision)
        return self._kept_ranges if precision in ("int8", "uint8") else None

    @cached_property
    def _kept_ranges(self) -> Ranges:
        return Ranges.load(self._opened.folder, self.dim)

    def _vectors(self, texts: Sequence[str], batch_size: int, prompt: str) -> Vectors:
        if len(texts) <= batch_size:
            return self._few(self.tokenize(texts, prompt), batch_size)
        vectors = np.zeros((len(texts), self.dim), np.float32)
        done = 0
        for block in self._blocks(texts, batch_size, prompt):
            vectors[done : done + len(block)] = block
            done += len(block)
        return vectors

    def _few(self, tokens: Sequence[Sequence[int]], batch_size: int) -> Vectors:
        """Return the vectors of no more than ``batch_size`` texts; a single batch takes all threads."""
        vectors = np.zeros((len(tokens), self.dim), np.float32)
        cut = self._cut(tokens, batch_size)
        if len(cut) == 1:
            opened = self._opened()
            vectors[:] = self._run(opened.alone or opened.side_by_side, *self.pad(tokens))
        elif cut:
            vectors[:] = self._collect(list(self._submit(tokens, cut)))
        return vectors

    def _blocks(self, texts: Iterable[Any], batch_size: int, prompt: str | None) -> Iterator[Vectors]:
        """Yield vectors piece by piece: one computes while the next is tokenized and put behind it.

        ``texts`` are token ids where ``prompt`` is None.
        """
        running: deque[list[Job]] = deque()
        # A card takes a batch as it is asked for; on a CPU it is cut, and work should begin early.
        size = _FIRST if self.batch_tokens else max(_FIRST, batch_size)
        source, first, begun = iter(texts), 0, os.getpid()
        try:
            while piece := list(islice(source, min(size, _AHEAD))):
                size *= 2
                check_process("stream", begun)
                if prompt is not None:
                    check_texts(piece, first)
                    piece = self.tokenize(piece, prompt)
                first += len(piece)
                running.append(list(self._submit(piece, self._cut(piece, batch_size))))
                if len(running) > 1:
                    yield self._collect(running.popleft())
            while running:
                check_process("stream", begun)
                yield self._collect(running.popleft())
        finally:
            for _, job in chain.from_iterable(running):  # nobody waits for them any more
                job.cancel()

    def _cut(self, tokens: Sequence[Sequence[int]], batch_size: int) -> list[NDArray[np.intp]]:
        """Return the numbers of the texts of each batch."""
        lengths = np.array([len(ids) for ids in tokens], dtype=np.int64)
        return length_sorted_batches(lengths, batch_size, self.batch_tokens, self.running.equal_lengths)

    def _submit(self, tokens: Sequence[Sequence[int]], cut: Sequence[NDArray[np.intp]]) -> Iterator[Job]:
        for rows in cut:
            yield rows, self._pool.submit(self.run_ids, *self.pad([tokens[i] for i in rows]))

    def _collect(self, jobs: Sequence[Job]) -> Vectors:
        vectors = np.empty((sum(len(rows) for rows, _ in jobs), self.dim), np.float32)
        for rows, job in jobs:
            vectors[rows] = job.result()
        return vectors

    def tokenize(self, texts: Sequence[str], prompt: str | None = None) -> list[list[int]]:
        """Return the token ids of each text, behind ``prompt`` or the default one, cut at ``max_length``, unpadded.

        Raises TextError, with its row, for what is no text.
        """
        check_texts(texts)
        prompt = self.prompt if prompt is None else prompt
        prompted = [prompt + text for text in texts] if prompt else list(texts)
        return self._tokenizer.encode(prompted)

    @property
    def placed(self) -> Placed | None:
        """How many nodes of each operator every provider was given; None where the graph is whole by its nature."""
        return placed_of(self._opened().side_by_side, self.providers)

    @property
    def words(self) -> WordTokenizer:
        """What makes the tokens of texts."""
        return self._tokenizer

    def prepare(self, text: str, prompt_name: str | None = None, prompt: str | None = None) -> Prepared:
        """Return one text's tokens, behind the prompt that ``encode`` would take, to be computed with others.

        TextError for what is no text.
        """
        if not isinstance(text, str):
            raise TextError(f"text: {type(text).__name__} was given where one text belongs")
        [tokens] = self.tokenize([text], self.prompts.choose(prompt_name, prompt))
        return Prepared(1, len(tokens), tokens)

    def compute(self, prepared: Sequence[Prepared]) -> list[NDArray[Any]]:
        """Return the vector of each text, float32 [dim], all computed in one batch on one thread."""
        vectors = self.run_ids(*self.pad([text.work for text in prepared]))
        return [vector.copy() for _, vector in zip(prepared, vectors, strict=True)]  # a row that is kept keeps no batch

    def pad(self, tokens: Sequence[Sequence[int]], extra: int = 0) -> tuple[Ids, Ids]:
        """Return ids and mask, int64 [len(tokens), longest + extra]."""
        width = max(1, *map(len, tokens)) + extra  # a text may have no token at all
        ids = np.full((len(tokens), width), self._pad, np.int64)
        mask = np.zeros((len(tokens), width), np.int64)
        for row, text_ids in enumerate(tokens):
            ids[row, : len(text_ids)] = text_ids
            mask[row, : len(text_ids)] = 1
        return ids, mask

    def run_ids(self, input_ids: Ids, attention_mask: Ids) -> Vectors:
        """Return the vectors of int64 [batch, length] token ids as they are, padding included."""
        return self._run(self._opened().side_by_side, input_ids, attention_mask)

    def _run(self, session: Any, ids: Ids, mask: Ids) -> Vectors:
        inputs = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in self._inputs:
            inputs["token_type_ids"] = np.zeros_like(ids)
        with computing(self.folder, ids):
            if on_device(self.providers):
                return run_bound(session, inputs, "sentence_embedding", "cuda")
            return session.run(["sentence_embedding"], inputs)[0]

    @property
    def _pool(self) -> ThreadPoolExecutor:
        return self._opened().pool

    def _open(self, folder: Path) -> Sessions:
        return open_sessions(folder, self.providers, self.threads, self.running)


def _width(graph: Path, shape: Sequence[Any]) -> int:
    """Return the length of a vector, of an output's shape as ONNX Runtime gives it; ArtifactError where it is free."""
    width = shape[-1] if len(shape) == 2 else None
    if not isinstance(width, int):
        stated = f"sentence_embedding has shape {list(shape)!a:.80}"
        raise ArtifactError(f"{graph}: {stated}; must be [batch, a fixed width]")
    return width
