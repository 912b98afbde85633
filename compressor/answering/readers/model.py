"""Hugging Face models for extractive question answering: opened safely, and run by PyTorch."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForQuestionAnswering

from compressor.answering.questions.spans import Logits
from compressor.answering.questions.windows import Cutter
from compressor.answering.readers.reader import Reading, WindowReader, read_reading
from compressor.artifact.layout import READING
from compressor.core.errors import ModelError, one_line
from compressor.machine.card import require_card
from compressor.models.loading import whole_weights
from compressor.models.source import (
    Architectures,
    check_folder,
    check_module,
    check_type,
    layers_stated,
    transformer_folder,
)
from compressor.untrusted.settings import check_json, check_weights
from compressor.untrusted.weights import layers_in, read_headers, weights_in

HEAD = "qa_outputs.weight"


class TorchReader(WindowReader):
    """A question-answering model run by PyTorch."""

    def __init__(self, model: Any, cutter: Cutter, reading: Reading) -> None:
        super().__init__(cutter, reading, int(model.config.pad_token_id or 0))
        self.model = model.eval()
        self._reads = reads(model)

    @classmethod
    def load(cls, folder: Path, reading: Reading | None = None) -> "TorchReader":
        """Open a checked folder in fp32; it reads as it was made to where that is not given."""
        model = open_reader(folder)
        reading = reading or (read_reading(folder) if (folder / READING).is_file() else Reading())
        return cls(model, Cutter.open(folder, reading, position_limit(model)), reading)

    def on_cuda(self, half: bool = False) -> "TorchReader":
        """Return this reader on a card, in fp16 where ``half``; ProviderError without one."""
        require_card("device cuda")
        return TorchReader(self.model.to("cuda", torch.float16 if half else torch.float32), self.cutter, self.reading)

    def run(self, features: dict[str, NDArray[np.int64]]) -> tuple[Logits, Logits]:
        """Return start and end logits, float32 [windows, tokens]."""
        device = self.model.device
        taken = {name: torch.from_numpy(features[name]).to(device) for name in features if name in self._reads}
        with torch.inference_mode():
            made = self.model(**taken)
        return made.start_logits.float().cpu().numpy(), made.end_logits.float().cpu().numpy()


def reads(model: Any) -> set[str]:
    """Return the names of the inputs that the model takes."""
    return set(inspect.signature(model.forward).parameters)


def position_limit(model: Any) -> int | None:
    """Return the most tokens that the model has positions for; RoBERTa's kin count them from behind the padding's."""
    most = getattr(model.config, "max_position_embeddings", None)
    table = next(
        (m for n, m in model.named_modules() if n.endswith("position_embeddings") and hasattr(m, "padding_idx")), None
    )
    offset = 0 if table is None or table.padding_idx is None else int(table.padding_idx) + 1
    return int(most) - offset if most else None


def check_reader(folder: Path) -> dict[str, Any]:
    """Return the config of a folder that holds a question-answering model in safetensors; ModelError for another."""
    config, header = check_transformer(folder)
    if not any(name.endswith(HEAD) for name in header):
        raise ModelError(f"{folder}: no weights of a question-answering head; compressor finetune makes one")
    return config


def check_transformer(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return config and weights' header of a Hugging Face folder whose settings name no code; ModelError else."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder")
    check_weights(folder)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder / 'config.json'}: missing or not JSON")
    check_module(folder)
    config: dict[str, Any] = check_json(folder / "config.json", Architectures())
    if not isinstance(config.get("model_type"), str):
        raise ModelError(f"{folder / 'config.json'}: no model_type; not a transformer")
    check_type(folder, config["model_type"])
    header = read_headers(weights_in(folder))
    stated, held = layers_stated(config), layers_in(header)
    if stated and held and stated != held:
        raise ModelError(f"{folder}: config.json says {stated} layers, the weights hold {held}")
    return config, header


def open_reader(folder: Path, attention: str | None = None) -> Any:
    """Load a checked question-answering folder in fp32, from disk alone and without remote code."""
    check_reader(folder)
    return _opened(folder, folder, attention)


def reader_of(encoder: Path, seed: int = 0) -> Any:
    """Return a question-answering model on a sentence-transformers folder's transformer; its head is random."""
    check_folder(encoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _opened(transformer_folder(encoder), encoder, new_head=True)


def _opened(folder: Path, named: Path, attention: str | None = None, new_head: bool = False) -> Any:
    options: dict[str, Any] = {"attn_implementation": attention} if attention else {}
    try:
        with whole_weights(named, new_head):
            model = AutoModelForQuestionAnswering.from_pretrained(
                str(folder),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                **options,
            )
    except ModelError:
        raise
    except Exception as error:  # a stranger's settings: the libraries raise whatever they run into
        raise ModelError(f"{named}: cannot be loaded for question answering: {one_line(error)}") from error
    return model.eval()
