"""``compressor serve``: artifacts over HTTP."""

from typing import Annotated

import typer

from compressor.cli.options import with_options
from exporters.server.settings import Serving, key_in_environment


@with_options(serving=Serving)
def serve(
    artifacts: Annotated[
        list[str],
        typer.Argument(
            help="Artifact folders, each by the name of its recipe or by one that is given.",
            metavar="[NAME=]ARTIFACT...",
        ),
    ],
    *,
    serving: Serving,
) -> None:
    """Serve artifacts over HTTP, as OpenAI's, TEI's and Hugging Face's clients ask: /v1/embeddings, /v1/models, /embed,
    /answer, /health, /ready, /metrics. Each is checked first as verify does it. COMPRESSOR_API_KEY in the environment
    is the key that clients must send; without, none is asked for.
    """
    from exporters.server.run import named, run

    run(named(artifacts), serving, key_in_environment(), lambda line: print(line, flush=True))
