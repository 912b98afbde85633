"""Every kind of machine gets the advice that fits it; this one is measured."""

import io
import json
from typing import Any

import pytest
from rich.console import Console

from compressor.machine import describe as machine
from compressor.machine.doctor import Advice, examine, print_doctor

AMX = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16"]


OPENVINO = "OpenVINOExecutionProvider"


def describe(**changes: Any) -> dict[str, Any]:
    """Describe a sound two-core AMX machine, but for ``changes``; versions are added to its own."""
    versions = {"torch": "2.13.0+cpu", "transformers": "4.57.6", "onnx": "1.23.2", "onnxruntime": "1.31.1"}
    sound: dict[str, Any] = {
        "cpu": "Xeon",
        "architecture": "x86_64",
        "features": AMX,
        "cores": 2,
        "cpu_quota": None,
        "threads": 2,
        "memory_bytes": 8 << 30,
        "os": "Linux-6.1",
        "python": "3.11.7",
        "providers": ["CPUExecutionProvider"],
        "cuda": None,
    }
    return {**sound, **changes, "versions": versions | changes.get("versions", {})}


def advise(topic: str, **changes: Any) -> list[Advice]:
    return [advice for advice in examine(describe(**changes)) if advice.topic == topic]


def test_a_sound_machine_hears_of_precisions_only() -> None:
    verdicts = [(advice.topic, advice.verdict) for advice in examine(describe())]
    assert verdicts == [
        ("int8 ONNX", "use"),
        ("bf16 PyTorch", "use"),
        ("fp16 on the CPU", "avoid"),
        ("CUDA", "note"),
        ("OpenVINOExecutionProvider", "note"),
        ("telemetry", "note"),
    ]


ARM: dict[str, Any] = {"architecture": "aarch64"}
APPLE: dict[str, Any] = {"architecture": "arm64", "os": "macOS-15.1-arm64-arm-64bit"}


@pytest.mark.parametrize(
    ("changes", "verdict", "reason"),
    [
        ({}, "use", "AMX: ONNX Runtime multiplies 8-bit activations (u8) by 8-bit weights (s8) in tiles"),
        (
            {"features": ["avx2", "avx512f", "avx512_vnni"]},
            "use",
            "VNNI: products of u8 and s8 are summed in 32",
        ),
        ({"features": ["avx2", "avx_vnni"]}, "use", "VNNI"),
        ({"features": ["avx2", "avx512f"]}, "avoid", "no VNNI: two products of u8 and s8 are added in int16"),
        ({"features": ["avx2"]}, "avoid", "reduce_range (7-bit weights)"),
        ({"features": ["avx2", "amx_tile"]}, "avoid", "session.x64quantprecision = 1"),
        ({"features": []}, "note", "this system does not tell what its processor can do; measure int8"),
        (ARM | {"features": ["asimddp", "i8mm"]}, "use", "i8mm: ONNX Runtime multiplies 8-bit matrices"),
        (ARM | {"features": ["asimddp"]}, "use", "dot products of 8 bits, exact (no i8mm"),
        (ARM | {"features": ["sve"]}, "note", "neither i8mm nor dot products"),
        (APPLE | {"features": ["asimddp"]}, "use", "(no i8mm"),
        (APPLE | {"features": ["asimddp", "i8mm", "bf16"]}, "use", "(ONNX Runtime uses i8mm on Linux alone)"),
    ],
)
def test_int8_depends_on_how_the_processor_adds_products(changes: dict[str, Any], verdict: str, reason: str) -> None:
    (advice,) = advise("int8 ONNX", **changes)
    assert advice.verdict == verdict
    assert reason in advice.why


@pytest.mark.parametrize(
    ("features", "verdict"),
    [
        (["avx512_bf16"], "use"),
        (["amx_bf16"], "use"),
        (["asimddp", "bf16"], "use"),
        (["avx512f", "amx_int8"], "avoid"),
        ([], "note"),
    ],
)
def test_bf16_needs_a_processor_that_multiplies_it(
    features: list[str], verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (advice,) = advise("bf16 PyTorch", features=features)
    assert advice.verdict == verdict
    monkeypatch.setattr(machine, "features", lambda: features)
    assert machine.bf16_is_fast() is (verdict == "use")


def test_fp16_is_for_cards() -> None:
    assert [a.verdict for a in advise("fp16 on the CPU")] == ["avoid"]
    assert [a.verdict for a in advise("fp16 on the CPU", **ARM)] == ["note"]
    assert advise("fp16 on CUDA") == []
    assert [a.verdict for a in advise("fp16 on CUDA", cuda="NVIDIA H100")] == ["use"]


def test_a_card_without_its_packages() -> None:
    (provider,) = advise("CUDAExecutionProvider", cuda="NVIDIA H100")
    assert provider.verdict == "missing"
    assert provider.why == (
        "pip uninstall onnxruntime, then pip install onnxruntime-gpu in the version for this CUDA; "
        "both unpack into one folder, so the first must go first"
    )
    (torch,) = advise("torch with CUDA", cuda="NVIDIA H100")
    assert torch.why == "torch 2.13.0+cpu does not see the NVIDIA H100; install a CUDA build"
    (int8,) = advise("int8 on CUDA", cuda="NVIDIA H100")
    assert int8.verdict == "avoid"
    assert int8.why.startswith("0.08 times the speed of fp32 by sentence-transformers' benchmark")


def test_a_card_with_its_packages() -> None:
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    ready = {"cuda": "NVIDIA H100", "providers": providers, "versions": {"torch": "2.13.0+cu128"}}
    topics = [advice.topic for advice in examine(describe(**ready))]
    assert topics == [
        "int8 ONNX",
        "bf16 PyTorch",
        "fp16 on the CPU",
        "fp16 on CUDA",
        "int8 on CUDA",
        OPENVINO,
        "telemetry",
    ]


def test_other_providers_are_said_to_be_here_or_how_they_are_had() -> None:
    (advice,) = advise(OPENVINO)
    assert advice.why == (
        "not here: pip uninstall onnxruntime && pip install onnxruntime-openvino, on x86; in an environment of its own"
    )
    here = {"providers": [OPENVINO, "CPUExecutionProvider"], "versions": {"onnxruntime-openvino": "1.24.1"}}
    (advice,) = advise(OPENVINO, **here)
    assert advice.why == "compressor verify --providers judges it, and bench measures it"
    assert advise(OPENVINO, **ARM) == []
    assert [a.why for a in advise("CoreMLExecutionProvider", **APPLE)] == [
        "not here: pip install onnxruntime, on macOS; in an environment of its own"
    ]
    assert advise("AzureExecutionProvider", providers=["AzureExecutionProvider", "CPUExecutionProvider"]) == []


def test_a_runtime_under_another_name_is_one() -> None:
    alone = {"versions": {"onnxruntime": None, "onnxruntime-openvino": "1.24.1"}}
    assert advise("onnxruntime", **alone) == []
    assert advise("onnxruntime beside onnxruntime-openvino", **alone) == []
    (old,) = advise("onnxruntime 1.20.0", versions={"onnxruntime": None, "onnxruntime-openvino": "1.20.0"})
    assert old.verdict == "avoid"
    (both,) = advise("onnxruntime beside onnxruntime-openvino", versions={"onnxruntime-openvino": "1.24.1"})
    assert both.verdict == "avoid"


def test_kernels_of_arm_processors() -> None:
    features = ["asimddp", "i8mm", "bf16", "sve", "sme", "sme2"]
    (bf16,) = advise("bf16 products of fp32", **ARM, features=features)
    assert "running.bf16_products (mlas.enable_gemm_fastmath_arm64_bfloat16)" in bf16.why
    assert [a.verdict for a in advise("SME2", **ARM, features=features)] == ["note"]
    assert advise("bf16 products of fp32", **APPLE, features=features) == []  # its kernels are for Linux
    assert advise("bf16 products of fp32", **ARM, features=["asimddp", "i8mm"]) == []
    assert advise("SME2", **ARM, features=features[:-1]) == []


def test_two_runtimes_in_one_folder() -> None:
    topic = "onnxruntime beside onnxruntime-gpu"
    (advice,) = advise(topic, versions={"onnxruntime-gpu": "1.31.1"})
    assert advice.verdict == "avoid"
    assert advise(topic, versions={"onnxruntime-gpu": "1.31.1", "onnxruntime": None}) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cores": 8, "threads": 8}, []),
        ({"cores": 2, "threads": 8}, [("avoid", "set OMP_NUM_THREADS=2")]),
        ({"cores": 8, "threads": 2, "cpu_quota": 2.5}, [("note", "may use 2.5 of 8 cores; threads by default: 2")]),
        (
            {"cores": 8, "threads": 8, "cpu_quota": 0.5},
            [("note", "threads by default: 1"), ("avoid", "8 threads for 1 ")],
        ),
        ({"cores": 2, "threads": 2, "cpu_quota": 4.0}, []),
    ],
)
def test_threads_follow_cores_and_quota(changes: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    found = advise("threads", **changes)
    assert [advice.verdict for advice in found] == [verdict for verdict, _ in expected]
    assert all(part in advice.why for advice, (_, part) in zip(found, expected, strict=True))


def test_little_memory_is_noted() -> None:
    assert advise("memory", memory_bytes=4 << 30) == []
    (advice,) = advise("memory", memory_bytes=2 << 30)
    assert advice.why == "2.0 GiB, below 4: distil on fewer texts in small batches"


@pytest.mark.parametrize(
    ("versions", "topic", "verdict"),
    [
        ({"onnx": "1.20.1"}, "onnx 1.20.1", "avoid"),
        ({"onnxruntime": "1.23.2"}, "onnxruntime 1.23.2", "avoid"),
        ({"onnxruntime": None, "onnxruntime-gpu": "1.9.0"}, "onnxruntime 1.9.0", "avoid"),
        ({"onnxruntime": None}, "onnxruntime", "missing"),
    ],
)
def test_versions_with_known_holes(versions: dict[str, str | None], topic: str, verdict: str) -> None:
    assert [advice.verdict for advice in advise(topic, versions=versions)] == [verdict]


def test_versions_at_their_floor_are_fine() -> None:
    at_floor = examine(describe(versions={"onnx": "1.21.0", "onnxruntime": "1.24.0rc1"}))
    assert at_floor == [advice for advice in examine(describe()) if advice.topic != "telemetry"]


@pytest.mark.parametrize(
    ("versions", "verdicts"),
    [
        ({"transformers": "4.57.6", "optimum-onnx": "0.1.0"}, []),
        ({"transformers": "5.23.0"}, ["note"]),
        ({"transformers": "5.0.0", "optimum-onnx": "0.1.0"}, ["avoid"]),
    ],
)
def test_optimum_onnx_holds_transformers_back(versions: dict[str, str], verdicts: list[str]) -> None:
    assert [advice.verdict for advice in advise("optimum-onnx", versions=versions)] == verdicts


@pytest.mark.parametrize(
    ("value", "verdict", "reason"),
    [
        ("1", "note", "off in all that this project runs (ORT_DISABLE_TELEMETRY=1); set it in programs of your own"),
        ("0", "avoid", "on: onnxruntime 1.31.1 takes ORT_DISABLE_TELEMETRY=0 for leave to report; set it to 1"),
    ],
)
def test_telemetry_is_told(value: str, verdict: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", value)
    (advice,) = advise("telemetry")
    assert advice.verdict == verdict
    assert advice.why.startswith(reason)
    assert advise("telemetry", versions={"onnxruntime": "1.28.0"}) == []


def printed(monkeypatch: pytest.MonkeyPatch, as_json: bool, quick: bool) -> str:
    monkeypatch.setattr("compressor.machine.doctor.describe", lambda: describe(features=["avx2"]))
    monkeypatch.setattr("compressor.machine.doctor.measure_peaks", lambda: {"fp32_gflops": 64.4, "int8_gops": 1802.0})
    out = io.StringIO()
    print_doctor(Console(file=out, width=60), as_json, quick)
    return out.getvalue()


def test_the_printed_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(monkeypatch, as_json=False, quick=False)
    assert text.startswith("Xeon, 2 cores, 8.0 GiB\navx2\n")
    assert "int8 ONNX" in text
    assert "measured: fp32 64 GFLOP/s, int8 1,802 GOP/s" in text
    assert "measured" not in printed(monkeypatch, as_json=False, quick=True)


def test_the_advice_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    report = json.loads(printed(monkeypatch, as_json=True, quick=True))
    assert list(report) == ["environment", "advice", "peaks"]
    assert report["peaks"] is None
    assert report["advice"][0]["topic"] == "int8 ONNX"
    assert report["advice"][0]["verdict"] == "avoid"
    assert json.loads(printed(monkeypatch, as_json=True, quick=False))["peaks"]["int8_gops"] == 1802.0
