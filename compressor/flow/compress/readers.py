"""The recipe of a model that answers questions."""

from pathlib import Path

from compressor.answering.readers.base import depth_of
from compressor.core.errors import RecipeError
from compressor.core.strict_json import JsonObject
from compressor.flow.compress.choice import usual_layers
from compressor.flow.compress.places import model_place, name_of, place_of
from compressor.flow.compress.wish import Wish
from compressor.texts.corpus import TextSource
from exporters.loading import is_reader
from exporters.tasks import ANSWERING


def is_question_answering(model: str) -> bool:
    """Tell a folder of a model that answers questions."""
    folder = Path(model).expanduser()
    return folder.is_dir() and is_reader(folder)


def reader_values(
    model: str, folder: Path, questions: Path | None, texts: TextSource | None, out: Path, wish: Wish
) -> JsonObject:
    """Return the values of a reader's recipe; RecipeError for what is wanted of encoders alone.

    An encoder, which the flow makes a reader of, and a reader have the same.
    """
    if questions is None:
        raise RecipeError(f"--questions: {model} answers questions and needs some; give a file in SQuAD's format")
    if texts is not None:
        raise RecipeError(f"--texts {texts.source}: not with --questions")
    for field in wish.model_fields_set - {"layers", "precision"}:
        raise RecipeError(f"--{field.replace('_', '-')}: of encoders alone; not with --questions")
    if wish.layers == "all":
        raise RecipeError("--layers all: a reader's recipe distils; give a number, or `compressor export-reader`")
    depth = depth_of(folder)
    layers = usual_layers(depth) if wish.layers is None else wish.layers
    if not 1 <= layers <= depth:
        raise RecipeError(f"--layers {layers}: must be 1 to {depth}, the model's layers")
    return {
        "name": name_of(out),
        "task": ANSWERING,
        "teacher": {"model": model_place(model, out)},
        "questions": {"train": place_of(str(questions), out)},
        "distil": [{"layers": layers}],
    }
