"""``compressor optimise``: the fastest form of an fp32 artifact on this CPU."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.quality import Sts
from compressor.artifact import key_of, sha256
from compressor.cli import ArtifactArgument, Limit, Out, TextsOption, out, written
from compressor.corpus import read_corpus
from compressor.options import with_options
from compressor.stages import Key, Keyed, Model, resumable
from compressor.strict_json import json_text, read_json
from exporters.layout import require_graph
from exporters.quantize import OnnxInt8
from exporters.search import Search
from exporters.search_report import print_search


@with_options(Search)
def optimise(
    artifact: ArtifactArgument,
    out_: Out,
    texts: TextsOption = None,
    limit: Limit = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was tried as JSON.")] = False,
    *,
    search: Search,
) -> None:
    """Search the form of an fp32 artifact that this CPU runs fastest inside the quality gate.

    Ranges are measured on the texts; quality and speed on those of them that are kept to choose by, or speed on
    --speed-texts: what is fastest depends on how long texts are. Give none that figures are then reported on. A search
    that was stopped goes on with the same command.
    """
    corpus, int8 = read_corpus(texts, limit), OnnxInt8()
    timed = Sts.read(Path(search.speed_texts)).texts if search.speed_texts else []
    graph = Model(artifact, sha256(require_graph(artifact)))
    inputs: list[Keyed] = [graph, corpus, Key(key_of(int8.model_dump(mode="json"), timed))]
    with resumable(out_, "optimise", search, inputs) as (draft, kept):
        search.run(artifact, int8, corpus.train, corpus.dev, kept, draft, timed)
    result = read_json(out_ / "search.json")
    if as_json:
        print(json_text(result))
        return
    print_search(result, out)
    written(out_)
