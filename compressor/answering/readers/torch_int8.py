"""Readers in PyTorch's dynamic int8: the transformer quantized, the head left as it is; stored without pickle."""

import copy
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForQuestionAnswering

from compressor.answering.questions.windows import Cutter
from compressor.answering.readers.model import TorchReader, open_reader, position_limit
from compressor.answering.readers.reader import Reading, read_reading, write_reading
from compressor.artifact.folder import Draft
from compressor.core.config import Config
from compressor.core.errors import ModelError, first_line
from compressor.models.source import check_module
from compressor.models.torch_int8 import SETTINGS, WEIGHTS, copy_files, flatten, quantize, restore


class ReaderTorchInt8(Config):
    """Quantize the linear layers of a reader's transformer to int8 for PyTorch on CPUs."""

    def run(self, model: Path, reading: Reading, draft: Draft) -> None:
        """Write the int8 form of the question-answering folder ``model`` into ``draft``.

        As ``TorchInt8`` does for sentence embeddings; the head, two numbers a token, stays fp32.
        """
        reader = open_reader(model)
        own = copy.deepcopy(reader)
        setattr(own, own.base_model_prefix, quantize(own.base_model))
        copy_files(model, draft.folder, ".json", ".txt", ".model")
        save_file(flatten(own), draft.folder / WEIGHTS)
        write_reading(reading, draft.folder)
        (draft.folder / SETTINGS).write_text('{"task": "question-answering"}\n', encoding="utf-8")


def load(folder: Path, reading: Reading | None = None) -> TorchReader:
    """Open a folder written by ``ReaderTorchInt8``; ModelError if something is missing."""
    check_module(folder)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = AutoModelForQuestionAnswering.from_config(config, trust_remote_code=False, dtype=torch.float32)
    except (OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
        raise ModelError(f"{folder}: not a PyTorch int8 reader: {first_line(error)}") from error
    restore(model, folder / WEIGHTS, f"{model.base_model_prefix}.")
    reading = reading or read_reading(folder)
    return TorchReader(model, Cutter.open(folder, reading, position_limit(model)), reading)
