"""What to choose on this machine and what to leave, and why."""

import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from compressor.core.strict_json import json_text
from compressor.machine.describe import BF16_FEATURES, describe
from compressor.machine.peaks import measure_peaks
from compressor.machine.providers import FITTING, HOW, RUNTIMES, runtime_of

Machine = dict[str, Any]
"""What ``machine.describe`` returns."""

FLOORS = {"onnx": (1, 21), "onnxruntime": (1, 24)}
"""Oldest versions without known holes (onnx: CVE-2026-27489, -34446, -34447)."""

REPORTS_FROM = (1, 29)
"""ONNX Runtime's first version whose wheels report to their maker by default."""

MIN_MEMORY_BYTES = 4 << 30

_COLOURS = {"use": "green", "avoid": "red", "missing": "yellow", "note": "cyan"}


@dataclass(frozen=True)
class Advice:
    """One thing to choose or to leave."""

    topic: str
    verdict: Literal["use", "avoid", "missing", "note"]
    why: str


def examine(machine: Machine) -> list[Advice]:
    """Judge precisions, providers, threads, memory and versions from the description of a machine."""
    rules = (_int8, _bf16, _arm, _fp16, _cuda, _providers, _runtimes, _threads, _memory, _floors, _optimum, _reports)
    return [advice for rule in rules for advice in rule(machine)]


def _int8(machine: Machine) -> Iterator[Advice]:
    features = set(machine["features"])
    if not features:
        yield Advice("int8 ONNX", "note", "this system does not tell what its processor can do; measure int8")
    elif _is_arm(machine):
        yield _int8_on_arm(features, machine["os"].startswith(("macOS", "Darwin")))
    elif features >= {"amx_tile", "amx_int8"}:
        why = "AMX: ONNX Runtime multiplies 8-bit activations (u8) by 8-bit weights (s8) in tiles, exactly"
        yield Advice("int8 ONNX", "use", why)
    elif features & {"avx512_vnni", "avx_vnni"}:
        why = "VNNI: products of u8 and s8 are summed in 32 bits, exactly, four to an instruction"
        yield Advice("int8 ONNX", "use", why)
    else:
        why = (
            "no VNNI: two products of u8 and s8 are added in int16, which overflows and saturates; quantize "
            "with reduce_range (7-bit weights); other weights are run with session.x64quantprecision = 1 here (exact, "
            "slower), which other programs must set themselves"
        )
        yield Advice("int8 ONNX", "avoid", why)


def _int8_on_arm(features: set[str], apple: bool) -> Advice:
    if "i8mm" in features and not apple:
        return Advice("int8 ONNX", "use", "i8mm: ONNX Runtime multiplies 8-bit matrices in one instruction")
    if "asimddp" in features:
        lack = "ONNX Runtime uses i8mm on Linux alone" if "i8mm" in features else "no i8mm, which is twice as fast"
        return Advice("int8 ONNX", "use", f"dot products of 8 bits, exact ({lack})")
    return Advice("int8 ONNX", "note", "neither i8mm nor dot products: exact, but hardly faster than fp32")


def _bf16(machine: Machine) -> Iterator[Advice]:
    found = [name for name in machine["features"] if name in BF16_FEATURES]
    if found:
        yield Advice("bf16 PyTorch", "use", f"{', '.join(found)}: trains and encodes faster than fp32")
    elif machine["features"]:
        why = "no avx512_bf16, amx_bf16 or ARM bf16: PyTorch converts to fp32 and back, slower than fp32"
        yield Advice("bf16 PyTorch", "avoid", why)
    else:
        yield Advice("bf16 PyTorch", "note", "this system does not tell what its processor can do; measure bf16")


def _arm(machine: Machine) -> Iterator[Advice]:
    """Say which kernels of ONNX Runtime's a processor of ARM's has beside those of int8."""
    features = set(machine["features"]) if _is_arm(machine) else set()
    if "bf16" in features and machine["os"].startswith("Linux"):
        why = (
            "compressor optimise tries running.bf16_products (mlas.enable_gemm_fastmath_arm64_bfloat16), which "
            "multiplies fp32 in bf16; its vectors must pass the gate"
        )
        yield Advice("bf16 products of fp32", "note", why)
    if "sme2" in features:
        why = "ONNX Runtime's KleidiAI kernels multiply fp32, and int8 of DynamicQuantizeMatMul, in tiles; measure them"
        yield Advice("SME2", "note", why)


def _fp16(machine: Machine) -> Iterator[Advice]:
    if _is_arm(machine):
        yield Advice("fp16 on the CPU", "note", "half the size; ARM has fp16 kernels for some operators; measure it")
    else:
        why = "half the size, but computed as fp32 between casts: slower than fp32"
        yield Advice("fp16 on the CPU", "avoid", why)
    if machine["cuda"]:
        yield Advice("fp16 on CUDA", "use", f"{machine['cuda']}: half the size, faster than fp32")


def _cuda(machine: Machine) -> Iterator[Advice]:
    """Judge what a card can be used for."""
    if not machine["cuda"]:
        yield Advice("CUDA", "note", "no NVIDIA device seen; asking for CUDAExecutionProvider is an error here")
        return
    why = (
        "0.08 times the speed of fp32 by sentence-transformers' benchmark: dynamic quantization has no CUDA "
        "kernel, so tensors go to the CPU and back; use fp16"
    )
    yield Advice("int8 on CUDA", "avoid", why)
    if "CUDAExecutionProvider" not in machine["providers"]:
        why = (
            "pip uninstall onnxruntime, then pip install onnxruntime-gpu in the version for this CUDA; "
            "both unpack into one folder, so the first must go first"
        )
        yield Advice("CUDAExecutionProvider", "missing", why)
    if str(machine["versions"]["torch"]).endswith("+cpu"):
        why = f"torch {machine['versions']['torch']} does not see the {machine['cuda']}; install a CUDA build"
        yield Advice("torch with CUDA", "missing", why)


def _providers(machine: Machine) -> Iterator[Advice]:
    """Say which other providers are here, and how one that fits the processor is had."""
    arm, apple = _is_arm(machine), machine["os"].startswith(("macOS", "Darwin"))
    fitting = FITTING["apple" if apple else "arm" if arm else "x86"]
    others = [name for name in HOW if not name.startswith(("CPU", "CUDA", "Tensorrt"))]
    for name in others:
        if name in machine["providers"]:
            yield Advice(name, "note", "compressor verify --providers judges it, and bench measures it")
        elif name in fitting:
            yield Advice(name, "note", f"not here: {HOW[name]}; in an environment of its own")


def _runtimes(machine: Machine) -> Iterator[Advice]:
    installed = [name for name in RUNTIMES if machine["versions"].get(name)]
    if len(installed) > 1:
        why = "both unpack into one folder and overwrite each other: uninstall both, install one again"
        yield Advice(" beside ".join(installed), "avoid", why)


def _threads(machine: Machine) -> Iterator[Advice]:
    count, quota, threads = machine["cores"], machine["cpu_quota"], machine["threads"]
    usable = max(1, min(count, int(quota or count)))
    if quota and quota < count:
        why = f"the container may use {quota:g} of {count} cores; threads by default: {usable}"
        yield Advice("threads", "note", why)
    if threads > usable:
        why = f"PyTorch would start {threads} threads for {usable} usable cores; set OMP_NUM_THREADS={usable}"
        yield Advice("threads", "avoid", why)


def _memory(machine: Machine) -> Iterator[Advice]:
    size = machine["memory_bytes"]
    if size < MIN_MEMORY_BYTES:
        why = f"{size / 2**30:.1f} GiB, below {MIN_MEMORY_BYTES >> 30}: distil on fewer texts in small batches"
        yield Advice("memory", "note", why)


def _floors(machine: Machine) -> Iterator[Advice]:
    for name, floor in FLOORS.items():
        versions = machine["versions"]
        installed = runtime_of(versions) if name == "onnxruntime" else versions.get(name)
        lowest = ".".join(map(str, floor))
        if installed is None:
            yield Advice(name, "missing", f"not installed; pip install '{name}>={lowest}'")
        elif _numbers(installed) < floor:
            yield Advice(f"{name} {installed}", "avoid", f"known security holes; upgrade to {lowest} or later")


def _optimum(machine: Machine) -> Iterator[Advice]:
    version = machine["versions"]["transformers"]
    if version is None or _numbers(version) < (5,):
        return
    installed = machine["versions"].get("optimum-onnx")
    why = f"needs transformers below 4.58 and cannot stand beside {version}; give it an environment of its own"
    yield Advice("optimum-onnx", "avoid" if installed else "note", why)


def _reports(machine: Machine) -> Iterator[Advice]:
    installed = runtime_of(machine["versions"])
    if installed is None or _numbers(installed) < REPORTS_FROM:
        return
    value = os.environ.get("ORT_DISABLE_TELEMETRY")
    if value in ("1", "true"):
        why = (
            f"off in all that this project runs (ORT_DISABLE_TELEMETRY={value}); set it in programs of your own, where "
            f"onnxruntime {installed} otherwise reports to its maker from its import on"
        )
        yield Advice("telemetry", "note", why)
    else:
        why = f"on: onnxruntime {installed} takes ORT_DISABLE_TELEMETRY={value} for leave to report; set it to 1"
        yield Advice("telemetry", "avoid", why)


def _is_arm(machine: Machine) -> bool:
    return str(machine["architecture"]).lower().startswith(("arm", "aarch64"))


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: ``2.13.0+cpu`` is (2, 13, 0)."""
    leading = re.match(r"[\d.]*", version)
    return tuple(int(part) for part in (leading[0] if leading else "").split(".") if part)


def print_doctor(console: Console, as_json: bool = False, quick: bool = False) -> None:
    """Describe and judge this machine; ``quick`` leaves the measured peaks out."""
    machine = describe()
    advice = examine(machine)
    peaks = None if quick else measure_peaks()
    if as_json:
        report = {"environment": machine, "advice": [asdict(entry) for entry in advice], "peaks": peaks}
        console.print(json_text(report), soft_wrap=True, markup=False, highlight=False)
        return
    console.print(_summary(machine), _advice_table(advice))
    if peaks is not None:
        console.print(Text("measured: " + ", ".join(_peak(*pair) for pair in peaks.items())))


def _summary(machine: Machine) -> Text:
    features = " ".join(machine["features"]) or "features unknown"
    memory = f"{machine['memory_bytes'] / 2**30:.1f} GiB"
    cards = f", {machine['cuda']}" if machine["cuda"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    providers = ", ".join(machine["providers"])
    return Text(f"{machine['cpu']}, {machine['cores']} cores, {memory}{cards}\n{features}\n{versions}\n{providers}")


def _advice_table(advice: list[Advice]) -> Table:
    table = Table("topic", "verdict", "why", box=SIMPLE_HEAD, pad_edge=False)
    for entry in advice:
        table.add_row(entry.topic, Text(entry.verdict, style=_COLOURS[entry.verdict]), Text(entry.why))
    return table


def _peak(name: str, value: float) -> str:
    precision, unit = name.split("_")
    return f"{precision} {value:,.0f} {'GFLOP/s' if unit == 'gflops' else 'GOP/s'}"
