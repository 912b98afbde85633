"""Settings of models from strangers: no code, no pickles, no path that leads out, no number that nobody could mean."""

from collections.abc import Container, Iterable, Mapping
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

from compressor.artifact.layout import READING
from compressor.core.errors import ModelError, first_line, unreadable
from compressor.core.strict_json import read_json, read_plain
from compressor.untrusted.loaders import SENTENCE_CONFIGS, check_modules, check_names
from compressor.untrusted.weights import INDEX, PICKLED, PICKLED_INDEX, WEIGHTS, pickled, read_header

LONGEST = 1 << 20
"""Tokens of a text, at most; transformers writes 1e30 for a tokenizer without a limit."""
_PICKLES = frozenset({".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})
_LIBRARIES = frozenset({".dll", ".dylib", ".h5", ".keras", ".pyc", ".pyd", ".so"})
SETTINGS = (
    "config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "config_sentence_transformers.json",
    *SENTENCE_CONFIGS,
)
"""The files of a model's folder that libraries read settings from."""
_FUNCTION = {"data", "env", "loader_module", "python_version"}
_ENVIRONMENTS = {"conda": "conda.yaml", "virtualenv": "python_env.yaml"}
_MOST_MLMODEL_BYTES = 1 << 16


def check_settings(folder: Path, names: Iterable[str]) -> int:
    """Read every settings and weights file among ``names`` of an artifact; return how many.

    Raises ModelError for pickles and compiled code, settings that name code, absurd lengths, and unsound JSON or
    safetensors.
    """
    count = 0
    for name in names:
        path, suffix = folder / name, PurePosixPath(name).suffix.lower()
        if suffix in _PICKLES | _LIBRARIES:
            raise ModelError(f"{path}: a {suffix} file, which may run code when it is loaded; not part of an artifact")
        if suffix == ".safetensors":
            read_header(path)
        elif suffix == ".json":
            check_json(path)
        elif path.name == "MLmodel":
            check_mlmodel(path)
        else:
            continue
        count += 1
    return count


def check_json(path: Path, architectures: Container[str] = ()) -> Any:
    """Return what a settings file says; ModelError where it is unsound, names code, or states an absurd length.

    A config of one of ``architectures`` may name code: it is not needed.
    """
    try:
        content = read_json(path)
        _check_content(path, content, architectures)
    except OSError as error:
        raise ModelError(unreadable(path, error)) from error
    except ValueError as error:
        raise ModelError(f"{path}: not readable as JSON: {error}") from error
    except RecursionError as error:
        raise ModelError(f"{path}: nested too deeply") from error
    return content


def _check_content(path: Path, content: Any, architectures: Container[str]) -> None:
    if path.name == "modules.json":
        check_modules(path, content)
    if path.name in SETTINGS or path.name == "adapter_config.json":
        if not isinstance(content, dict):
            raise ModelError(f"{path}: must be an object")
        _check_code(path, content, architectures)
        check_names(path, content)
    if path.name in SENTENCE_CONFIGS:
        _check_length(path, content, "max_seq_length", LONGEST)
    if path.name == READING:
        if not isinstance(content, dict):
            raise ModelError(f"{path}: must be an object")
        _check_length(path, content, "max_length", LONGEST)
    if path.name == "tokenizer_config.json":
        _check_limit(path, content.get("model_max_length", LONGEST))


def check_mlmodel(path: Path) -> None:
    """Refuse an MLflow model of another flavor than onnx, and one that has code of its own loaded: ModelError."""
    try:
        text = read_plain(path, _MOST_MLMODEL_BYTES).decode("utf-8")
        if {"&", "*"} & set(text):
            raise ValueError("has anchors")  # a short text could stand for a very long one
        flavors = import_module("yaml").safe_load(text)["flavors"]
        function, onnx = flavors["python_function"], flavors["onnx"]
        known = flavors.keys() == {"onnx", "python_function"} and function.keys() <= _FUNCTION and not onnx["code"]
        known = known and (function["loader_module"], function["data"]) == ("mlflow.onnx", onnx["data"])
        known = known and function.get("env", {}).items() <= _ENVIRONMENTS.items()
        known = known and onnx["data"] == "model.onnx" and not onnx["onnx_session_options"]
    except Exception as error:  # yaml's own kinds
        raise ModelError(f"{path}: not readable as an MLflow model: {first_line(error)}") from error
    if not known:
        raise ModelError(f"{path}: not of the onnx flavor alone, or names code of its own; code is never run")


def _check_code(path: Path, settings: Mapping[str, Any], architectures: Container[str]) -> None:
    """Refuse settings that have code of their own loaded, from the folder or from the hub."""
    stated = settings.get("architectures")
    known = (
        isinstance(stated, list) and stated and all(isinstance(name, str) and name in architectures for name in stated)
    )
    if settings.get("auto_map") and not known:
        raise ModelError(f"{path}: auto_map: names code of its own; remote code is never run")


def _check_length(path: Path, settings: Mapping[str, Any], name: str, most: int) -> None:
    value = settings.get(name)
    if value is not None and (type(value) is not int or not 1 <= value <= most):
        raise ModelError(f"{path}: {name} = {value!a:.40}: must be a whole number from 1 to {most}")


def _check_limit(path: Path, value: Any) -> None:
    """Refuse a tokenizer's length that is none; any size goes, for transformers writes 1e30 where there is no limit."""
    if value is not None and (type(value) not in (int, float) or not value >= 1):
        raise ModelError(f"{path}: model_max_length = {value!a:.40}: must be a number from 1")


def check_weights(folder: Path, model: Path | None = None) -> None:
    """Refuse a module's folder whose weights are pickled; ``model`` is the one that it is of, where it is not all."""
    if any((folder / name).is_file() for name in (WEIGHTS, INDEX)):
        return
    for name in (PICKLED, PICKLED_INDEX):
        if (folder / name).is_file():
            raise pickled(folder, name, model)
    for name in ("model.bin", "pytorch_model.pt"):
        if (folder / name).is_file():
            raise ModelError(f"{folder}: weights are pickled ({name}); only safetensors is read")
