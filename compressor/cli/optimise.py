"""``compressor optimise``: the fastest form of an fp32 artifact on this CPU."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.quality.sts import Sts
from compressor.answering.questions.squad import Questions
from compressor.answering.readers.reader import read_reading
from compressor.artifact.folder import Draft, key_of, sha256
from compressor.artifact.layout import require_graph
from compressor.artifact.manifest import handed_on
from compressor.artifact.workspace import Key, Keyed, Model, resumable
from compressor.cli.common import (
    GraphArgument,
    JsonOption,
    LimitOption,
    OutOption,
    PoolingOption,
    QuestionsOption,
    fp32_form,
    out,
    questions_of,
    with_texts,
    written,
)
from compressor.cli.options import described, read, with_each
from compressor.core.config import Config
from compressor.core.strict_json import json_text, read_json
from compressor.flow.calibration import parted
from compressor.texts.corpus import TextSource, read_corpus
from exporters.precision.int8 import OnnxInt8
from exporters.search.embedding import Search
from exporters.search.reader import ReaderSearch
from exporters.search.report import print_search
from exporters.search.results import Searched
from exporters.tasks import ANSWERING, EMBEDDING, task_in
from exporters.verify.conformance import own_conformance

EmbeddingsOption = Annotated[
    str | None, typer.Option("--embeddings", help=described(OnnxInt8, "embeddings"), metavar="8|4|32")
]


@with_each("search", {EMBEDDING: Search, ANSWERING: ReaderSearch})
@with_texts
def optimise(
    artifact: GraphArgument,
    out_: OutOption,
    texts: TextSource | None = None,
    questions: QuestionsOption = None,
    limit: LimitOption = None,
    pooling: PoolingOption = None,
    embeddings: EmbeddingsOption = None,
    as_json: JsonOption = False,
    *,
    search: Callable[[str], Any],
) -> None:
    """Search the form of an fp32 artifact that this CPU runs fastest inside the quality gate.

    Ranges are measured on the texts; quality and speed on those of them that are kept to choose by, or speed on
    --speed-texts: what is fastest depends on how long texts are. A reader's are measured on --questions, of which the
    last tenth is kept to choose by. Give none that figures are then reported on. A search that was stopped goes on
    with the same command. An fp32 graph that others exported is fused first.
    """
    with fp32_form(artifact, pooling) as folder:
        _search(folder, out_, texts, questions, limit, search, read(OnnxInt8, {"embeddings": embeddings}))
    result = read_json(out_ / "search.json")
    if as_json:
        print(json_text(result))
        return
    print_search(Searched.read(result), out)
    written(out_)


def _search(
    artifact: Path,
    to: Path,
    texts: TextSource | None,
    questions: Path | None,
    limit: int | None,
    search: Callable[[str], Any],
    int8: OnnxInt8,
) -> None:
    require_graph(artifact)
    task = task_in(artifact)
    chosen, asked = search(task.name), questions_of(task, texts, questions)
    if asked is None:
        _by_texts(artifact, to, texts, limit, chosen, int8)
    else:
        _by_questions(artifact, to, asked[:limit], chosen, int8)


def _by_texts(
    artifact: Path, to: Path, texts: TextSource | None, limit: int | None, search: Search, int8: OnnxInt8
) -> None:
    corpus = read_corpus(texts, limit)
    timed = Sts.read(Path(search.speed_texts)).texts if search.speed_texts else []
    inputs: list[Keyed] = [corpus, Key(key_of(int8.model_dump(mode="json"), timed))]
    with _searching(artifact, to, search, inputs) as (draft, kept):
        search.run(artifact, int8, corpus.train, corpus.dev, kept, draft, timed)
        own_conformance(artifact, draft.folder, search.precision)


def _by_questions(artifact: Path, to: Path, asked: Questions, search: ReaderSearch, int8: OnnxInt8) -> None:
    sample, dev = parted(asked)
    inputs: list[Keyed] = [asked, read_reading(artifact), Key(key_of(int8.model_dump(mode="json")))]
    with _searching(artifact, to, search, inputs) as (draft, kept):
        search.run(artifact, int8, sample, dev, kept, draft)
        own_conformance(artifact, draft.folder, search.precision)


def _searching(
    artifact: Path, to: Path, search: Config, inputs: list[Keyed]
) -> AbstractContextManager[tuple[Draft, Path]]:
    """Open what the search of an artifact is written into, keyed by its graph and what the search depends on."""
    graph = Model(artifact, sha256(require_graph(artifact)))
    return resumable(to, "optimise", search, [graph, *inputs], handed_on(artifact))
