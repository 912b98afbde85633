"""The command that embeds files."""

from pathlib import Path
from typing import Annotated

import typer

from compressor.cli.common import ArtifactArgument, RayOption, WorkersOption, out
from compressor.cli.options import with_options
from exporters.embedding.options import Embedding
from exporters.embedding.run import embed as run


@with_options(embedding=Embedding)
def embed(
    artifact: ArtifactArgument,
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Text files (a text a line), .csv, .tsv or .jsonl, plain or .gz, .parquet, folders of them, patterns.",
            metavar="SOURCE",
        ),
    ],
    out_: Annotated[
        Path, typer.Option("--out", help="Folder to write; new, empty, or one that this command was stopped in.")
    ],
    threads: Annotated[
        int | None, typer.Option("--threads", help="Cores to use. [default: all; 1 a worker with --ray]", min=1)
    ] = None,
    ray: RayOption = None,
    workers: WorkersOption = None,
    *,
    embedding: Embedding,
) -> None:
    """Embed the texts of files into Parquet, .npy or LanceDB: in shards, in bounded memory, one row a text.

    Stopped or killed, the same command goes on with the shards that are missing, and ends with the same bytes.
    """
    done = run(artifact, sources, out_, threads, ray, workers, **embedding.model_dump())
    rate = f", {done.computed / done.seconds:,.0f} texts/s" if done.computed else ""
    out.print(f"{done.folder}: {done.rows:,} rows in {done.shards:,} shards{rate}", soft_wrap=True)
