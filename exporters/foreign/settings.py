"""What a folder of others states of its graph: pooling and what follows, length, padding; nothing of it is run."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from compressor.core.errors import ModelError, RecipeError, first_line
from compressor.core.strict_json import read_json
from compressor.models.pooling import FLAGS, MODES, Pooling, modes_in
from compressor.untrusted.loaders import MODULES, SENTENCE_CONFIGS
from compressor.untrusted.settings import LONGEST, check_json, check_weights
from compressor.untrusted.weights import WEIGHTS, read_header

NOWHERE, OPTION = "stated nowhere", "--pooling"
_POOLING = "1_Pooling"
_IGNORED = ("auto_map", "_name_or_path")  # of a config: the model's code, which is not needed, and where it once lay


@dataclass(frozen=True, eq=False)
class Dense:
    """A layer behind the pooling: ``weight`` float32 [out, in], ``bias`` [out], and an activation of PyTorch's."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    activation: str

    def save(self, folder: Path) -> None:
        """Write it as sentence-transformers does."""
        tensors = {"linear.weight": self.weight} | ({} if self.bias is None else {"linear.bias": self.bias})
        save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, folder / WEIGHTS)
        outputs, inputs = self.weight.shape
        kind = "linear.Identity" if self.activation == "Identity" else f"activation.{self.activation}"
        settings = {"in_features": inputs, "out_features": outputs, "bias": self.bias is not None}
        text = json.dumps(settings | {"activation_function": f"torch.nn.modules.{kind}"}, indent=2)
        (folder / "config.json").write_text(f"{text}\n", encoding="utf-8")


@dataclass(frozen=True)
class Stated:
    """What makes vectors of a graph's tokens."""

    modes: tuple[str, ...]
    """Ways to pool, whose vectors stand side by side."""
    where: str
    """The file that states them."""
    steps: tuple[Dense | None, ...]
    """What follows; None makes vectors of length 1."""
    max_length: int
    lower: bool
    """Texts are written in small letters first."""
    dim: int | None
    """Components that are kept; None: all."""
    include_prompt: bool
    config: Mapping[str, Any]
    part: Path
    """The folder of the transformer's own settings."""

    @property
    def stated_by_folder(self) -> bool:
        """Whether a file of the folder says how tokens are pooled."""
        return self.where not in (NOWHERE, OPTION)

    def cut(self, width: int) -> "Stated":
        """Return it with the components that are kept as the last step, behind tokens' vectors of ``width``.

        A graph and the module list beside it then both give vectors of that length.
        """
        whole = next(
            (step.weight.shape[0] for step in reversed(self.steps) if step is not None), width * len(self.modes)
        )
        if self.dim is None or self.dim >= whole:
            return replace(self, dim=None)
        kept = Dense(np.eye(self.dim, whole, dtype=np.float32), None, "Identity")
        return replace(self, steps=(*self.steps, kept), dim=None)

    def described(self) -> str:
        """Say in a few words what makes a vector."""
        steps = ["Normalize" if step is None else f"Dense {step.weight.shape[0]}" for step in self.steps]
        cut = [f"the first {self.dim}"] if self.dim else []
        return ", ".join([" and ".join(self.modes), *steps, *cut]) + f" ({self.where})"


def read_settings(folder: Path, pooling: Pooling | None = None) -> Stated:
    """Read what ``folder`` states; without a module list, it is pooled by ``pooling``, or by mean.

    That is what sentence-transformers does there. ModelError for settings that name code, pickles or other modules
    than a graph can have behind it, RecipeError for a ``pooling`` where the folder states its own.
    """
    part, modules = folder, list[tuple[str, Path]]()
    if (folder / "modules.json").is_file():
        entries = check_json(folder / "modules.json")
        part, modules = folder / entries[0]["path"], list(_modules(folder, entries))
    elif (folder / _POOLING / "config.json").is_file():
        modules = [("Pooling", folder / _POOLING)]
    modes, where, include = _pooling(folder, modules, pooling)
    sentence, config = _sentence(part), _config(part)
    usage = _optional(folder / "config_sentence_transformers.json")
    return Stated(
        modes,
        where,
        tuple(_dense(path) if kind == "Dense" else None for kind, path in modules if kind in ("Dense", "Normalize")),
        _length(part, sentence, config),
        sentence.get("do_lower_case") is True,
        _whole(folder, usage, "truncate_dim"),
        include,
        config,
        part,
    )


def _modules(folder: Path, entries: list[dict[str, Any]]) -> Iterator[tuple[str, Path]]:
    """Yield the kinds and folders of the modules behind the transformer, the first of which pools."""
    first, *rest = [MODULES[entry["type"]] for entry in entries]
    kinds = [kind for kind in rest if kind != "Dropout"]  # which only training has
    if first != "Transformer" or kinds[:1] != ["Pooling"] or set(kinds[1:]) - {"Dense", "Normalize"}:
        known = "a Transformer, a Pooling, and any of Dense, Normalize"
        raise ModelError(f"{folder / 'modules.json'}: modules {', '.join([first, *rest])}; taken are {known}")
    for kind, entry in zip(rest, entries[1:], strict=True):
        if kind != "Dropout":
            yield kind, folder / entry["path"]


def _pooling(folder: Path, modules: list[tuple[str, Path]], given: Pooling | None) -> tuple[tuple[str, ...], str, bool]:
    """Return the ways to pool, the file that states them, and whether a prompt's tokens are pooled, too."""
    if not modules:
        if given is not None and given not in MODES:
            raise RecipeError(f"--pooling {given!a:.40}: must be {', '.join(MODES)}")
        return (MODES[given or "mean"],), OPTION if given else NOWHERE, True
    path = modules[0][1] / "config.json"
    where = path.relative_to(folder).as_posix()
    if given is not None:
        raise RecipeError(f"--pooling {given!a:.40}: {where} of {folder} states it; leave the option out")
    stated, modes = _object(path), tuple(modes_in(path))
    if not modes or set(modes) - set(FLAGS):
        named = modes[0] if len(modes) == 1 else list(modes)
        raise ModelError(f"{path}: pooling_mode = {named!a:.60}: must be of {', '.join(FLAGS)}")
    return modes, where, stated.get("include_prompt") is not False


def _dense(folder: Path) -> Dense:
    """Read a Dense module; ModelError for pickles, a residual, and weights of other shapes than it states."""
    stated, path = _object(folder / "config.json"), folder / WEIGHTS
    if stated.get("use_residual") or stated.get("module_input_name", "sentence_embedding") != "sentence_embedding":
        raise ModelError(f"{folder / 'config.json'}: a Dense that is not of pooled vectors alone")
    check_weights(folder)
    read_header(path)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:  # bf16, which NumPy has not, too
        raise ModelError(f"{path}: cannot be read as numbers of NumPy's: {first_line(error)}") from error
    weight, bias = tensors.get("linear.weight"), tensors.get("linear.bias")
    shape = (stated.get("out_features"), stated.get("in_features"))
    if weight is None or weight.shape != shape or (bias is not None and bias.shape != shape[:1]):
        raise ModelError(f"{path}: must hold linear.weight {list(shape)}, and linear.bias where there is one")
    activation = str(stated.get("activation_function", "Tanh")).rpartition(".")[2]
    return Dense(weight.astype(np.float32), None if bias is None else bias.astype(np.float32), activation)


def _sentence(part: Path) -> dict[str, Any]:
    path = next((part / name for name in SENTENCE_CONFIGS if (part / name).is_file()), None)
    return {} if path is None else _object(path)


def _config(part: Path) -> dict[str, Any]:
    """Return the config of the transformer, without code that it names: the graph needs none."""
    path = part / "config.json"
    try:
        stated = read_json(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: missing or not JSON") from error
    if not isinstance(stated, dict) or not isinstance(stated.get("model_type"), str):
        raise ModelError(f"{path}: no model_type; not a transformer")
    return {name: value for name, value in stated.items() if name not in _IGNORED}


def _length(part: Path, sentence: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    """Return after how many tokens a text is cut, as sentence-transformers finds it."""
    own = sentence.get("max_seq_length")
    if own is not None:
        return int(own)  # which was checked as it was read
    stated = [config.get("max_position_embeddings"), _optional(part / "tokenizer_config.json").get("model_max_length")]
    lengths = [value for value in stated if type(value) is int and 1 <= value <= LONGEST]
    if not lengths:
        raise ModelError(f"{part}: states no length of a text; set max_seq_length in sentence_bert_config.json")
    return min(lengths)


def _whole(folder: Path, usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    if value is not None and (type(value) is not int or value < 1):
        raise ModelError(f"{folder}: {name} = {value!a:.40}: must be a whole number from 1")
    return value


def _optional(path: Path) -> dict[str, Any]:
    return _object(path) if path.is_file() else {}


def _object(path: Path) -> dict[str, Any]:
    stated = check_json(path)
    if not isinstance(stated, dict):
        raise ModelError(f"{path}: must be an object")
    return stated
