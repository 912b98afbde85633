"""What a folder holds, and readers of whatever kind: a Hugging Face folder, its PyTorch int8 form, or an artifact."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.artifact.layout import GRAPH, READING, TORCH_INT8, Kind
from compressor.core.errors import ModelError
from exporters.runtime.names import CPU, Given

if TYPE_CHECKING:
    from compressor.answering.readers.model import TorchReader
    from compressor.answering.readers.reader import Reading
    from exporters.reader import OnnxReader

# What opens a model is imported where it is opened: `compressor verify ARTIFACT` asks for the kind alone.

_TORCH_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def kind_of(folder: Path) -> Kind:
    """Tell what a folder of an encoder or a reader holds; ModelError if nothing that can be run."""
    if is_reader(folder):
        return reader_kind(folder)
    if (folder / TORCH_INT8).is_file():
        return "torch-int8"
    from compressor.models.source import transformer_folder  # here: who opens an artifact does without it

    modules = (folder / "modules.json").is_file()
    if modules and any((transformer_folder(folder) / name).is_file() for name in _TORCH_WEIGHTS):
        return "torch"  # whatever other forms of it lie there, as in folders of the hub
    if (folder / GRAPH).is_file():
        return "onnx"
    if modules:
        return "torch"
    from compressor.models.pooling import is_plain, unstated

    if is_plain(folder):
        raise unstated(folder)
    raise ModelError(f"{folder}: no {GRAPH}, no modules.json: nothing that can be run")


def is_reader(folder: Path) -> bool:
    """Tell a folder that answers questions: one that says how it reads, or a transformer with such a head."""
    if (folder / READING).is_file():
        return True
    if (folder / "modules.json").is_file() or not (folder / "config.json").is_file():
        return False
    from compressor.models.source import config_in

    return answers(config_in(folder))


def answers(config: Mapping[str, Any]) -> bool:
    """Tell the config of a transformer with a head that answers questions."""
    named = config.get("architectures")
    return isinstance(named, list) and any(str(name).endswith("ForQuestionAnswering") for name in named)


def reader_kind(folder: Path) -> Kind:
    """Tell what a folder holds; ModelError if nothing that reads."""
    if (folder / TORCH_INT8).is_file():
        return "torch-int8"
    if (folder / GRAPH).is_file():
        return "onnx"
    if (folder / "config.json").is_file():
        return "torch"
    raise ModelError(f"{folder}: no {GRAPH}, no config.json: nothing that answers questions")


def open_reader_of(
    folder: Path, reading: "Reading | None" = None, threads: int | None = None, providers: Sequence[Given] = (CPU,)
) -> "OnnxReader | TorchReader":
    """Open the reader in ``folder``, by default as it was made to read; ``providers`` are ONNX Runtime's.

    Loads only what it runs on.
    """
    kind, reading = reader_kind(folder), reading or stated_reading(folder)
    if kind == "onnx":
        from exporters.reader import OnnxReader

        return OnnxReader(folder, providers, threads, reading)
    import torch

    if threads:
        torch.set_num_threads(threads)
    if kind == "torch-int8":
        from compressor.answering.readers.torch_int8 import load

        return load(folder, reading)
    from compressor.answering.readers.model import TorchReader

    return TorchReader.load(folder, reading)


def stated_reading(folder: Path, given: "Reading | None" = None) -> "Reading":
    """Return how the reader in ``folder`` was made to read, but for the fields that were ``given`` a value.

    The default for a model that was not made here.
    """
    from compressor.answering.readers.reader import Reading, read_reading

    known = (folder / READING).is_file() or reader_kind(folder) != "torch"
    stated, own = read_reading(folder) if known else Reading(), given or Reading()
    return stated.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})
