"""What a bare runtime leaves to its user: texts into batches of token ids, token vectors into one vector a text."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import Vectors

Ids = NDArray[np.int64]
Batch = tuple[NDArray[np.intp], Ids, Ids]  # row numbers, token ids, mask
_KINDS = ("cls", "mean")


class Tokens:
    """A teacher's tokenizer."""

    def __init__(self, teacher: Path) -> None:
        """Open the tokenizer of a sentence-transformers folder, cut at the length the model was made for."""
        from tokenizers import Tokenizer

        folder = transformer_folder(teacher)
        self.max_length = int(_json(folder / "sentence_bert_config.json")["max_seq_length"])
        self.pad = int(_json(folder / "config.json").get("pad_token_id") or 0)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.max_length)

    def batches(self, texts: Sequence[str], batch_size: int) -> Iterator[Batch]:
        """Cut texts into batches of like length, longest first, as sentence-transformers does."""
        tokens = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts))]
        order = np.argsort([-len(ids) for ids in tokens], kind="stable")
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            width = len(tokens[rows[0]])
            ids = np.full((len(rows), width), self.pad, np.int64)
            mask = np.zeros((len(rows), width), np.int64)
            for i, row in enumerate(rows):
                ids[i, : len(tokens[row])] = tokens[row]
                mask[i, : len(tokens[row])] = 1
            yield rows, ids, mask


class Tail:
    """A teacher's modules after its transformer, where they are pooling and perhaps normalizing."""

    def __init__(self, teacher: Path) -> None:
        """Read them; ValueError for others, which a bare runtime would leave out."""
        kinds = [module["type"].rpartition(".")[2] for module in _json(teacher / "modules.json")]
        if kinds[1:] not in (["Pooling"], ["Pooling", "Normalize"]):
            raise ValueError(f"modules {', '.join(kinds)}: only Transformer, Pooling and Normalize are served")
        self.normalize = kinds[-1] == "Normalize"
        pooling = _json(teacher / _json(teacher / "modules.json")[1]["path"] / "config.json")
        self.pooling, self.takes_prompts = _pooling(pooling), pooling.get("include_prompt") is not False

    def pool(self, states: NDArray[np.float32], mask: Ids) -> Vectors:
        """Return float32 [batch, dim] of the last states, [batch, length, dim]."""
        if self.pooling == "cls":
            vectors = states[:, 0]
        else:
            weights = mask.astype(np.float32)
            vectors = np.einsum("bld,bl->bd", states, weights) / np.maximum(weights.sum(1, keepdims=True), 1e-9)
        if self.normalize:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors


class Prompted(ABC):
    """A runtime that knows of no prompts: the teacher's are put before texts, as sentence-transformers does it."""

    def __init__(self, teacher: Path) -> None:
        """Read the prompts that a sentence-transformers folder states."""
        path = teacher / "config_sentence_transformers.json"
        self._prompts = (_json(path).get("prompts") or {}) if path.is_file() else {}
        self._takes_prompts = Tail(teacher).takes_prompts

    @abstractmethod
    def encode(self, texts: list[str], batch_size: int) -> Vectors:
        """Return float32 [len(texts), dim], in the order of ``texts``, which are taken as they are."""

    def encode_query(self, texts: list[str], batch_size: int) -> Vectors:
        return self.encode(self._behind("query", texts), batch_size)

    def encode_document(self, texts: list[str], batch_size: int) -> Vectors:
        return self.encode(self._behind("document", texts), batch_size)

    def _behind(self, role: str, texts: list[str]) -> list[str]:
        """Put texts behind the prompt of ``role``; ValueError for one that the model's pooling leaves out."""
        prompt = self._prompts.get(role) or ""
        if prompt and not self._takes_prompts:
            raise ValueError(f"prompt {prompt!r:.80}: the model's pooling leaves prompts out, which is not served")
        return [prompt + text for text in texts]


def transformer_folder(teacher: Path) -> Path:
    """Return the folder of a model's first module."""
    return teacher / str(_json(teacher / "modules.json")[0]["path"])


def files_bytes(folder: Path) -> int:
    """Sum the sizes of all files below ``folder``."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _pooling(config: dict[str, Any]) -> str:
    """Read a pooling module's one kind, as either generation of sentence-transformers writes it."""
    names = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens"}
    wanted = config.get("pooling_mode") or [k for k in config if k.startswith("pooling_mode_") and config[k] is True]
    kinds = [wanted] if isinstance(wanted, str) else list(wanted)
    found = [kind for kind in _KINDS if kinds in ([kind], [names[kind]])]
    if not found:
        raise ValueError(f"pooling {', '.join(map(str, kinds))}: only {' and '.join(_KINDS)} are served")
    return found[0]


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
