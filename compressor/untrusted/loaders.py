"""What the libraries' loaders take from a model's settings: classes from a list, and no file but the folder's own.

sentence-transformers imports modules and activations by the names that a folder gives, transformers tokenizers and
kernels, and both read further files that settings name. What is listed here is all that they may be asked for.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compressor.core.errors import ModelError

_FILES = {
    "Transformer": ("base", "transformer"),
    "StaticEmbedding": ("sentence_transformer", "static_embedding"),
    "Pooling": ("sentence_transformer", "pooling"),
    "Dense": ("base", "dense"),
    "Normalize": ("base", "normalize"),
    "LayerNorm": ("sentence_transformer", "layer_norm"),
    "Dropout": ("sentence_transformer", "dropout"),
}
_FIRST = ("Transformer", "StaticEmbedding")


def _spellings(name: str) -> Iterator[str]:
    """Yield the names under which releases of sentence-transformers have written a module's class."""
    part, file = _FILES[name]
    yield f"sentence_transformers.models.{name}"
    yield f"sentence_transformers.models.{name}.{name}"
    for package in {part, "sentence_transformer"}:
        yield f"sentence_transformers.{package}.modules.{name}"
        yield f"sentence_transformers.{package}.modules.{file}.{name}"


MODULES = {spelling: name for name in _FILES for spelling in _spellings(name)}
"""The classes that a module list may name, by every spelling."""

_ACTIVATION_NAMES = """
CELU ELU GELU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid Mish ReLU ReLU6 SELU SiLU Sigmoid Softplus
Softshrink Softsign Tanh Tanhshrink
"""
_ACTIVATIONS = {f"torch.nn.{way}{name}" for name in _ACTIVATION_NAMES.split() for way in ("", "modules.activation.")}
_ACTIVATIONS |= {"torch.nn.Identity", "torch.nn.modules.linear.Identity"}

# Of transformers, those that have a fast form, in either of its major versions; "Fast" may follow.
_TOKENIZER_NAMES = """
Albert Bart Barthez Bert BigBird Blenderbot Bloom Camembert CodeLlama Cohere ConvBert Cpm DPRContextEncoder
DPRQuestionEncoder DPRReader Deberta DebertaV2 DistilBert Electra FNet Funnel GPT2 GPTNeoX Gemma Herbert LED LayoutLM
LayoutLMv2 LayoutLMv3 LayoutXLM Llama Longformer Lxmert MBart MBart50 MPNet MT5 MarkupLM MobileBert Mvp Nllb OpenAIGPT
Pegasus PreTrained Qwen2 Reformer RemBert RetriBert RoFormer Roberta SeamlessM4T Splinter SqueezeBert T5 Udop XGLM
XLMRoberta XLNet
"""
_TOKENIZERS = {f"{stem}Tokenizer{fast}" for stem in _TOKENIZER_NAMES.split() for fast in ("", "Fast")}
_TOKENIZERS |= {"TokenizersBackend"}

_ATTENTION = ("eager", "flex_attention", "sdpa")  # the library's own; others are fetched from the hub, as code
_WEIGHTS = "model.safetensors"
_FAMILIES = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
SENTENCE_CONFIGS = tuple(f"sentence_{family}_config.json" for family in _FAMILIES)
_ARGUMENTS = ("model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs")
_HARMLESS = {"add_pooling_layer", "attn_implementation", "dtype", "model_max_length", "padding_side", "torch_dtype"}
_HARMLESS |= {"truncation_side", "trust_remote_code", "use_fast"}  # the libraries leave trust_remote_code out
# Settings of a tokenizer that are file names for its constructor, or that name files in another way.
_READ = ("_file", "_files", "vocab", "merges", "tokenizer_object", "init_inputs", "sp_model_kwargs", "spm")
_NOT_READ = ("special_tokens_map_file",)  # what older releases left there
_PROCESSORS = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")


def check_beside(folder: Path) -> None:
    """Refuse a folder whose files have loaders look elsewhere: an adapter's base, an image's or a sound's processor."""
    if (folder / "adapter_config.json").is_file():
        raise ModelError(f"{folder}: an adapter (adapter_config.json), not a whole model; merge it into its base first")
    for name in _PROCESSORS:
        if (folder / name).is_file():
            raise ModelError(f"{folder / name}: names a processor of images or sounds; only models of text are read")


def check_modules(path: Path, modules: Any) -> list[dict[str, Any]]:
    """Return a module list of known classes whose folders are within; ModelError else.

    The first, and no other, reads text: the others' settings and tokenizers would not be looked at.
    """
    if not isinstance(modules, list) or not modules:
        raise ModelError(f"{path}: not readable as a module list")
    for index, entry in enumerate(modules):
        folder, kind = (entry.get("path"), entry.get("type")) if isinstance(entry, dict) else (None, None)
        if not isinstance(folder, str) or not isinstance(kind, str):
            raise ModelError(f"{path}: not readable as a module list")
        if not is_inside(folder):
            raise ModelError(f"{path}: module path {folder!a:.80} leads out of the folder")
        if kind not in MODULES:
            known = ", ".join(_FILES)
            raise ModelError(f"{path}: module {kind!a:.80} is none that is read ({known}); code is never run")
        if (MODULES[kind] in _FIRST) != (index == 0):
            raise ModelError(f"{path}: module {kind!a:.80} at place {index}: {' or '.join(_FIRST)} is first, and once")
    names = [str(entry.get("name")) for entry in modules if "name" in entry]
    if len(set(names)) < len(names):  # the later would take the place of the earlier
        raise ModelError(f"{path}: two modules of one name among {', '.join(names)!a:.80}")
    return modules


def is_inside(path: str) -> bool:
    """Tell whether a path that settings give stays in the folder that they are in."""
    return not (path.startswith(("/", "\\")) or set(":\\\0") & set(path) or ".." in Path(path).parts)


def check_names(path: Path, settings: Mapping[str, Any]) -> None:
    """Refuse settings in the file ``path`` that name code or files which are not the folder's own: ModelError."""
    _check_nested(path, settings)
    if path.name in ("config.json", "tokenizer_config.json"):
        _check_class(path, settings)
    if path.name == "config.json":
        _refuse(path, settings, "configuration_files", "the file that is read would be another one")
        if settings.get("transformers_weights") not in (None, _WEIGHTS):
            _refuse(path, settings, "transformers_weights", f"weights are read from {_WEIGHTS}")
        activation = settings.get("activation_function")
        if "in_features" in settings and not (isinstance(activation, str) and activation in _ACTIVATIONS):  # of a Dense
            _refuse(path, settings, "activation_function", "none of PyTorch's activations; code is never run")
    for name in settings if path.name == "tokenizer_config.json" else ():
        if name.endswith(_READ) and name not in _NOT_READ:
            _refuse(path, settings, name, "only the folder's own files are read")
    # This file would override the tokenizer's settings.
    for name in settings if path.name == "special_tokens_map.json" else ():
        if not name.endswith(("_token", "_tokens")):
            _refuse(path, settings, name, "no special token")
    if path.name in SENTENCE_CONFIGS:
        _check_arguments(path, settings)
    if path.name == "config_sentence_transformers.json" and settings.get("model_type") != "SentenceTransformer":
        _refuse(path, settings, "model_type", "must be SentenceTransformer, or left out")


def _check_nested(path: Path, settings: Any) -> None:
    """Refuse, however deep, kernels from the hub and weights that are quantized already."""
    if isinstance(settings, list):
        for value in settings:
            _check_nested(path, value)
    for name, value in settings.items() if isinstance(settings, dict) else ():
        implementations = list(value.values()) if isinstance(value, dict) else [value]
        if name.endswith("attn_implementation") and any(
            implementation not in (*_ATTENTION, None) for implementation in implementations
        ):
            allowed = ", ".join(_ATTENTION)
            why = f"must be one of {allowed}; kernels from the hub are code, which is never run"
            _refuse(path, settings, name, why)
        if name in ("quantization_config", "compression_config") and value:
            raise ModelError(f"{path}: {name}: weights that are quantized already; give the whole model")
        if name in ("use_kernels", "kernel_config") and value:
            _refuse(path, settings, name, "kernels from the hub are code, which is never run")
        _check_nested(path, value)


def _check_class(path: Path, settings: Mapping[str, Any]) -> None:
    kind = settings.get("tokenizer_class")
    if kind is not None and not (isinstance(kind, str) and kind in _TOKENIZERS):
        _refuse(path, settings, "tokenizer_class", "none of transformers' fast tokenizers; code is never run")
    _refuse(path, settings, "processor_class", "a processor of images or sounds; only models of text are read")


def _check_arguments(path: Path, settings: Mapping[str, Any]) -> None:
    """Refuse what sentence-transformers would hand on to transformers' loaders unseen, and methods to call."""
    _refuse(path, settings, "tokenizer_name_or_path", "only the folder's own files are read")
    for name in _ARGUMENTS:
        given = settings.get(name) or {}
        if not isinstance(given, dict) or not given.keys() <= _HARMLESS:
            _refuse(path, settings, name, f"only {', '.join(sorted(_HARMLESS))} may be given")
    if settings.get("transformer_task") not in (None, "feature-extraction"):
        _refuse(path, settings, "transformer_task", "must be feature-extraction")
    modalities = settings.get("modality_config") or {}
    methods = (
        [modality.get("method") for modality in modalities.values() if isinstance(modality, dict)]
        if isinstance(modalities, dict)
        else []
    )
    if methods != ["forward"] * len(modalities):
        _refuse(path, settings, "modality_config", "each method must be forward")


def _refuse(path: Path, settings: Mapping[str, Any], name: str, why: str) -> None:
    """Raise ModelError where ``name`` is stated at all."""
    if settings.get(name) not in (None, [], {}):
        raise ModelError(f"{path}: {name} = {settings[name]!a:.80}: {why}")
