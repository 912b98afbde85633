"""``compressor optimise``: the fastest form of an fp32 artifact on this CPU."""

from pathlib import Path

from benchmarks.quality.sts import Sts
from compressor.artifact.folder import key_of, sha256
from compressor.artifact.layout import require_graph
from compressor.artifact.workspace import Key, Keyed, Model, resumable
from compressor.cli.common import ArtifactArgument, JsonOption, LimitOption, OutOption, TextsOption, out, written
from compressor.cli.options import with_options
from compressor.core.strict_json import json_text, read_json
from compressor.texts.corpus import read_corpus
from exporters.precision.int8 import OnnxInt8
from exporters.search.report import print_search
from exporters.search.trials import Search


@with_options(Search)
def optimise(
    artifact: ArtifactArgument,
    out_: OutOption,
    texts: TextsOption = None,
    limit: LimitOption = None,
    as_json: JsonOption = False,
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
