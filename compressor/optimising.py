"""``compressor optimise``: the fastest form of an fp32 artifact on this CPU."""

import shutil
from typing import Annotated

import typer

from compressor.artifact import key_of, size_bytes, writing
from compressor.cli import ArtifactArgument, Limit, Out, TextsOption, app, out
from compressor.corpus import read_corpus
from compressor.errors import ModelError
from compressor.machine import features
from compressor.options import with_options
from compressor.stages import Key, Model, stage_key
from compressor.strict_json import read_json
from exporters.layout import GRAPH
from exporters.quantize import OnnxInt8
from exporters.search import Search
from exporters.search_report import print_search


@app.command()
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

    Ranges are measured on the texts; quality and speed on those of them that are held out. A search that was stopped
    goes on with the same command.
    """
    import json

    from compressor.artifact import sha256

    if not (artifact / GRAPH).is_file():
        raise ModelError(f"{artifact}: no {GRAPH}; not an artifact with an ONNX graph")
    corpus, int8 = read_corpus(texts, limit), OnnxInt8()
    graph = Model(artifact, sha256(artifact / GRAPH))
    key = stage_key("optimise", search, [graph, corpus, Key(key_of(int8.model_dump(mode="json"), features()))])
    kept = out_.parent / f".{out_.name}-checkpoints-{key[:12]}"
    with writing(out_, "optimise", key, search.model_dump(mode="json")) as draft:
        search.run(artifact, int8, corpus.train, corpus.heldout, kept, draft)
    shutil.rmtree(kept, ignore_errors=True)
    result = read_json(out_ / "search.json")
    print(json.dumps(result, indent=2)) if as_json else print_search(result, out)
    if not as_json:
        out.print(f"{out_}: {size_bytes(out_) / 1e6:.1f} MB", soft_wrap=True)
