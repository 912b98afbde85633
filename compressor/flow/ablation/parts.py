"""What each part of a student costs where it is smaller, measured: the rows of the table that plans for a size go by.

``python -m compressor.flow.ablation.parts RECIPE``
"""

import argparse
import shlex
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report.numbers import count, fixed, percent
from benchmarks.report.results import number
from benchmarks.report.table import Column, Table
from compressor.core.config import load
from compressor.core.errors import RecipeError, guarded
from compressor.core.strict_json import JsonObject
from compressor.distil.training.embedding import Distil
from compressor.flow.ablation.embedding import Variant, judged
from compressor.flow.ablation.results import write
from compressor.flow.compress.outlook import Outlook
from compressor.flow.compress.sized.costs import COLUMNS, FEED_FORWARD, Measured
from compressor.flow.compress.sized.words import usage_of
from compressor.flow.embedding import EmbeddingFlow, Recipe
from compressor.models.sentence_model import open_model

if TYPE_CHECKING:
    from compressor.distil.student.words.usage import Usage

_WHOLE: dict[str, Any] = {"activation": "teacher"} | dict.fromkeys(
    ("width", "heads", "feed_forward", "embedding_size", "vocabulary")
)
_TOKENS = (16_000, 11_000, 8000, 4000)


def parts(distil: Distil, outlook: Outlook, usage: "Usage | None") -> list[Variant]:
    """Return the recipe's student with nothing smaller but its layers, then it with one part smaller, row by row.

    Parts that the family cannot have are left out; ``usage`` says what falls out of smaller vocabularies, None: they
    cannot be had.
    """
    possible, own = outlook.possible, distil.layers if isinstance(distil.layers, int) else len(distil.layers)
    made = [Variant("", f"{own} of {outlook.depth} layers, nothing smaller", _WHOLE)]
    if not possible.uncut:
        layers = [n for n in range(outlook.depth, -1, -1) if n != own]
        made += [Variant("layers", f"{n} of {outlook.depth}", _WHOLE | _layers(n)) for n in layers]
    if not possible.unfitted and outlook.feed_forward:
        relu = {} if possible.no_relu else {"activation": "relu"}
        for share, neurons in _shares(FEED_FORWARD, outlook.feed_forward):
            name = f"{share} of {count(outlook.feed_forward)} neurons{', ReLU' * bool(relu)}"
            made.append(Variant("feed-forward", name, _WHOLE | relu | {"feed_forward": neurons}))
    if not possible.unfactored:
        for share, columns in _shares(COLUMNS, outlook.hidden):
            name = f"{share} of {count(outlook.hidden)}"
            made.append(Variant("columns of the table", name, _WHOLE | {"embedding_size": columns}))
    if usage is not None:
        for tokens in (n for n in _TOKENS if usage.least <= n < outlook.vocabulary):
            name = (
                f"{count(tokens)} of {count(outlook.vocabulary)}, {percent(usage.share(tokens), ' ')} spelt in pieces"
            )
            made.append(Variant("tokens", name, _WHOLE | {"vocabulary": tokens}))
    return made


def measure(recipe: Recipe, base: Path, runs: Path, command: str) -> JsonObject:
    """Make and judge the recipe's student with each part smaller; write ``parts.json`` and ``.md``, return the results.

    Into ``runs/<name>/``, and on from where it was stopped, as ``ablation`` does. A cost is what is lost of the mean
    cosine to the teacher against the student with nothing smaller, trained by the same recipe: give it epochs, not a
    time budget, in which smaller students would see more texts. Raises RecipeError for a recipe without ``distil``, or
    of no layers.
    """
    started, trunk, distil = time.monotonic(), EmbeddingFlow.of(recipe, base, runs), recipe.distil
    if distil is None or not distil.layers:
        raise RecipeError("distil: costs of parts are measured on a student with layers; the recipe has none")
    trunk.check()
    model = open_model(trunk.teacher.folder)
    outlook = Outlook.of(trunk.source, model)
    made = parts(distil, outlook, usage_of(model, outlook, trunk.corpus.train))
    for variant in made:
        distil.model_copy(update=variant.fields).check(model)
    with trunk.work.lock():
        rows = judged(trunk, distil, made)
        return write(trunk, {"texts": trunk.facts()}, rows, command, started, table, "parts")


def table(results: JsonObject) -> str:
    """Render a row a part as Markdown: its mean cosine to the teacher, and its cost in hundredths of that."""
    rows = results["rows"][1:]
    whole = number(rows[0], "agreement", "cosine_mean") or 0.0
    columns = [
        Column("part", lambda row: row["group"] or "none", words=True),
        Column("what is left of it", lambda row: row["name"], words=True),
        Column("texts seen", lambda row: count(row.get("texts_seen"))),
        Column("cosine to the teacher", lambda row: fixed(number(row, "agreement", "cosine_mean"), 4)),
        Column("cost, hundredths", lambda row: fixed(100 * (whole - row["agreement"]["cosine_mean"]), 2)),
    ]
    return Table(columns, rows).markdown()


def main(arguments: list[str] | None = None) -> None:
    """Measure what each part of a smaller student costs, by a recipe with epochs, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m compressor.flow.ablation.parts", description=main.__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder that holds the runs [default: runs]")
    parser.add_argument("--set", action="append", default=[], help="section.field=value, as of `compressor run`")
    given = parser.parse_args(arguments)
    words = sys.argv[1:] if arguments is None else arguments
    command = shlex.join(["python", "-m", "compressor.flow.ablation.parts", *words])
    print(table(measure(load(given.recipe, Recipe, given.set), given.recipe.parent, given.runs, command)))


def _layers(layers: int) -> dict[str, Any]:
    return {"layers": layers} if layers else {"layers": 0, "dense": True}


def _shares(rows: Measured, whole: int) -> list[tuple[str, int]]:
    """Return the shares of a table of costs that are below 1, the largest first: in words, and of ``whole``."""
    found = sorted((share for share, _ in rows if share < 1), reverse=True)
    return [(str(Fraction(share).limit_denominator(12)), max(2, round(share * whole))) for share in found]


if __name__ == "__main__":
    sys.exit(guarded(main))
