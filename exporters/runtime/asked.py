"""A provider that is asked for, with its options: by name or in a list of what may be asked, never passed on unread.

ONNX Runtime runs a graph on the CPU where a provider does not take its options, and OpenVINO's takes some words that
mean nothing to it (``device_type = XPU``): what is not known to be right is refused here.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Self

from compressor.core.errors import ProviderError
from compressor.machine.providers import HOW
from exporters.runtime.names import ACL, COREML, CUDA, DNNL, OPENVINO, QNN, XNNPACK, Given

Allowed = tuple[str, ...] | range | re.Pattern[str]
"""Words, whole numbers, or what a value looks like."""

_YES, _COUNT, _PATH = ("true", "false"), range(1, 1025), re.compile(r".{1,4096}")
_ON, _SWITCH = ("YES", "NO"), ("0", "1")
_TRUE, _FALSE = ("true", "1", "YES"), ("false", "0", "NO")
_DEVICE = re.compile(r"(CPU|GPU(\.\d)?|NPU|(AUTO|HETERO|MULTI)(:[A-Z]+(\.\d)?(,[A-Z]+(\.\d)?)*)?)")
PROPERTIES: Mapping[str, Allowed] = {
    "INFERENCE_PRECISION_HINT": ("f32", "bf16", "f16"),
    "EXECUTION_MODE_HINT": ("PERFORMANCE", "ACCURACY"),
    "NUM_STREAMS": _COUNT,
    "INFERENCE_NUM_THREADS": _COUNT,
    "ENABLE_CPU_PINNING": _ON,
    "ENABLE_HYPER_THREADING": _ON,
    "SCHEDULING_CORE_TYPE": ("ANY_CORE", "PCORE_ONLY", "ECORE_ONLY"),
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": range(1 << 16),
}
"""Of OpenVINO itself: its provider takes them as ``load_config``, JSON by device
(docs.openvino.ai, "Query Device Properties"; onnxruntime.ai, "OpenVINO Execution Provider")."""
CONFIG = "load_config"
_BITS, _UNSTATED = {"FP32": "f32", "ACCURACY": "f32", "FP16": "f16"}, ""
SAME = {
    "INFERENCE_PRECISION_HINT": "precision",
    "INFERENCE_NUM_THREADS": "num_of_threads",
    "NUM_STREAMS": "num_streams",
}
"""Properties that its provider has an option of its own for: one of both may be given."""


KNOWN: Mapping[str, Mapping[str, Allowed]] = dict.fromkeys(HOW, {}) | {
    CUDA: {"use_tf32": _SWITCH},
    OPENVINO: {
        "device_type": _DEVICE,
        "precision": ("FP32", "FP16", "ACCURACY"),
        "num_of_threads": _COUNT,
        "num_streams": range(1, 9),
        "cache_dir": _PATH,
        "enable_qdq_optimizer": _YES,
        "disable_dynamic_shapes": _YES,
        **PROPERTIES,
    },
    DNNL: {"use_arena": _SWITCH, "threads": _COUNT},
    XNNPACK: {"intra_op_num_threads": _COUNT},
    ACL: {"enable_fast_math": _YES},
    COREML: {
        "ModelFormat": ("MLProgram", "NeuralNetwork"),
        "MLComputeUnits": ("ALL", "CPUOnly", "CPUAndGPU", "CPUAndNeuralEngine"),
        "RequireStaticInputShapes": _SWITCH,
        "EnableOnSubgraphs": _SWITCH,
        "AllowLowPrecisionAccumulationOnGPU": _SWITCH,
        "ModelCacheDirectory": _PATH,
    },
    QNN: {
        "backend_type": ("cpu", "gpu", "htp"),
        "htp_performance_mode": ("default", "burst", "balanced", "high_performance", "low_balanced", "power_saver"),
        "htp_graph_finalization_optimization_mode": ("0", "1", "2", "3"),
        "enable_htp_fp16_precision": _SWITCH,
    },
}
"""The only providers that are run, and the options of each as ONNX Runtime calls them: none that loads code or takes a
pointer."""
_NEVER = {"AzureExecutionProvider": "is in every wheel for the CPU, and sends what it is given to a service"}


@dataclass(frozen=True)
class Asked:
    """A provider and its options, both checked."""

    name: str
    options: Mapping[str, str]
    """As ONNX Runtime takes them, but for OpenVINO's properties, which stand among them."""

    @classmethod
    def of(cls, given: Given) -> Self:
        """Read ``NAME``, ``NAME:option=value:option=value`` or ``(NAME, {option: value})``.

        ProviderError for a name, an option or a value that is not known.
        """
        name, options = _read(given) if isinstance(given, str) else _taken(given)
        if name not in KNOWN:
            raise ProviderError(f"{name!a:.60}: {_NEVER.get(name, 'no execution provider')}; {_near_name(name)}")
        if CONFIG in options and name == OPENVINO:
            options = _with_properties(options)
        for pair in SAME.items():
            if all(option in options for option in pair):
                raise ProviderError(f"{name}: options {' and '.join(pair)}: they say the same; give one of them")
        return cls(name, {option: _checked(name, option, value) for option, value in options.items()})

    def __str__(self) -> str:
        """Return it in one word, as ``of`` reads it."""
        return ":".join([self.name, *(f"{option}={value}" for option, value in self.options.items())])

    @property
    def reduced(self) -> bool:
        """Whether it computes fp32 in fewer bits: it is told to, or its device does."""
        stated = self.options.get
        if self.name == OPENVINO:
            hint = stated("INFERENCE_PRECISION_HINT", _BITS.get(stated("precision", ""), _UNSTATED))
            exact = hint == "f32" or (hint == _UNSTATED and stated("device_type", "CPU") == "CPU")
            return not exact or stated("DYNAMIC_QUANTIZATION_GROUP_SIZE", "0") != "0"
        if self.name in (COREML, QNN):
            return (stated("MLComputeUnits"), stated("backend_type")) not in (("CPUOnly", None), (None, "cpu"))
        return any(stated(option) in ("1", "true") for option in ("use_tf32", "enable_fast_math"))


def _read(text: str) -> tuple[str, dict[str, Any]]:
    name, *pairs = re.split(r":(?=\w+=)", text.strip())
    if ":" in name:
        raise ProviderError(f"{text!a:.120}: options are written NAME:option=value:option=value")
    options: dict[str, Any] = {}
    for pair in pairs:
        option, _, value = pair.partition("=")
        if option in options:
            raise ProviderError(f"{name}: option {option} is given twice")
        options[option] = value
    return name, options


def _taken(given: Any) -> tuple[str, dict[str, Any]]:
    if not (isinstance(given, list | tuple) and len(given) == 2 and isinstance(given[0], str)):
        raise ProviderError(f"providers: {given!a:.80}: must be a name, or a name and its options")
    name, options = given
    if not isinstance(options, Mapping) or not all(isinstance(option, str) for option in options):
        raise ProviderError(f"{name}: options {options!a:.80}: must be options by name")
    return name, dict(options)


def _with_properties(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return OpenVINO's options with the properties of its ``load_config`` among them."""
    given, device = options[CONFIG], str(options.get("device_type", "CPU"))
    try:
        config = json.loads(given) if isinstance(given, str) else given
    except ValueError:
        config = None
    if not (isinstance(config, Mapping) and list(config) == [device] and isinstance(config[device], Mapping)):
        wanted = f'must be JSON of one device, {{"{device}": {{"NUM_STREAMS": "2"}}}}'
        raise ProviderError(f"{OPENVINO}: option {CONFIG} = {given!a:.80}: {wanted}")
    own = dict(config[device])
    for name in own:
        if name not in PROPERTIES:
            raise ProviderError(f"{OPENVINO}: option {CONFIG}: property {name!a:.60}: {_near(name, PROPERTIES)}")
    return {name: value for name, value in options.items() if name != CONFIG} | own


def _checked(provider: str, option: str, value: Any) -> str:
    allowed = KNOWN[provider].get(option)
    if allowed is None:
        known = KNOWN[provider]
        more = _near(option, known) if known else "it has none that may be given"
        raise ProviderError(f"{provider}: option {option!a:.60}: not known; {more}")
    texts = (_TRUE if value else _FALSE) if isinstance(value, bool) and isinstance(allowed, tuple) else (str(value),)
    found = [own for text in texts for own in _matching(text, allowed)] if isinstance(value, int | str) else []
    if not found:
        raise ProviderError(f"{provider}: option {option} = {value!a:.80}: must be {_words(allowed)}")
    return found[0]


def _matching(text: str, allowed: Allowed) -> Iterator[str]:
    if isinstance(allowed, range):
        yield from [text] if text.isascii() and text.isdecimal() and int(text[:9]) in allowed else []
    elif isinstance(allowed, tuple):
        yield from (word for word in allowed if word.lower() == text.lower())
    elif allowed.fullmatch(text):
        yield text


def _words(allowed: Allowed) -> str:
    if isinstance(allowed, range):
        return f"a whole number from {allowed[0]} to {allowed[-1]}"
    if isinstance(allowed, tuple):
        return " or ".join(allowed)
    return "a path" if allowed is _PATH else "CPU, GPU, GPU.0, NPU, or AUTO, HETERO or MULTI of them"


def _near_name(name: str) -> str:
    """Say which provider is meant, by part of its name, or all."""
    meant = [known for known in KNOWN if len(name) > 2 and known.lower().startswith(name.lower())]
    if meant:
        return f"did you mean {meant[0]}?"
    return f"allowed: {', '.join(KNOWN)}" if name in _NEVER else _near(name, KNOWN)


def _near(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]}?" if close else f"allowed: {', '.join(known)}"
