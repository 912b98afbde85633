"""What an ablation leaves, of any task: its rows with where they come from, and the table of them."""

import time
from collections.abc import Callable, Sequence

from compressor.artifact.folder import write_json
from compressor.core.figures import Figures
from compressor.core.files import replace_text
from compressor.core.strict_json import JsonObject
from compressor.flow.base import Flow


def write(
    flow: Flow,
    facts: JsonObject,
    rows: Sequence[Figures],
    command: str,
    started: float,
    table: Callable[[JsonObject], str],
    name: str = "ablation",
) -> JsonObject:
    """Write ``ablation.json`` and ``.md``, or of another ``name``, into the run's folder and return the results.

    ``facts`` say what was learnt from, under its name; ``started`` is the clock's time (``time.monotonic``).
    """
    results = (
        flow.head().as_dict()
        | facts
        | {
            "rows": [row.as_dict() for row in rows],
            "command": command,
            "seconds": time.monotonic() - started,
        }
    )
    write_json(flow.work.folder / f"{name}.json", results)
    replace_text(flow.work.folder / f"{name}.md", table(results) + "\n")
    return results
