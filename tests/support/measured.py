"""The results of a run as it would have measured them, for pages, pictures and tables."""

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

SVG = "{http://www.w3.org/2000/svg}"


def agreement(mean: float) -> dict[str, float]:
    return {
        "cosine_mean": mean,
        "cosine_p1": mean - 0.02,
        "cosine_min": mean - 0.1,
        "neighbours_at_10": mean - 0.12,
    }


def system(name: str, label: str, size: int, sts: float, ratio: float, latency: float) -> dict[str, Any]:
    rounds = [515.0 * ratio * wobble for wobble in (0.97, 1.0, 1.02)]
    return {
        "name": name,
        "label": label,
        "provider": "CPUExecutionProvider" if name.startswith("onnx") else "PyTorch CPU",
        "size_bytes": size,
        "load_seconds": 0.41,
        "peak_memory_bytes": 3 * size + 210_000_000,
        "agreement": agreement(1.0 if name == "teacher" else 0.962),
        "sts": {"en-test": sts, "de-test": sts - 21.5},
        "offline": {
            "batch_size": 32,
            "by_batch_size": {"32": rounds[1], "128": 0.8 * rounds[1]},
            "texts_per_second": rounds[1],
            "rounds": rounds,
            "ratio": ratio,
            "ratio_min": ratio if name == "teacher" else 0.96 * ratio,
            "ratio_max": ratio if name == "teacher" else 1.03 * ratio,
        },
        "single_stream": {
            "queries": 500,
            "latency_ms_p50": latency,
            "latency_ms_p90": 1.1 * latency,
            "latency_ms_p99": 1.6 * latency,
        },
        "by_length": [
            {
                "tokens": tokens,
                "texts_per_second": 515 * ratio * 14 / tokens,
                "latency_ms_p50": latency * (0.6 + tokens / 40),
                "ratio": ratio,
            }
            for tokens in (16, 64, 128, 256)
        ],
    }


def limit(tokens: int, rate: int) -> dict[str, Any]:
    gops = rate * tokens * 0.01
    return {
        "tokens": tokens,
        "batch_size": 32,
        "texts_per_second": float(rate),
        "operations_per_text": tokens * 1e7,
        "gops": gops,
        "of_peak": {"int8": gops / 1802},
        "operators": [
            {"operator": "QAttention", "nodes": 3, "ms": 30.0, "share": 0.6, "gops": 90.0, "of_peak": 0.1},
            {"operator": "BiasGelu", "nodes": 3, "ms": 20.0, "share": 0.4},
        ],
    }


def stage(name: str, what: str, layers: int, dim: int, size: int, sts: float) -> dict[str, Any]:
    return {
        "stage": name,
        "what": what,
        "layers": layers,
        "dim": dim,
        "parameters": size // 4,
        "size_bytes": size,
        "seconds": 731.0,
        "agreement": agreement(1.0 if name == "teacher" else 0.962),
        "sts": {"en-test": sts},
    }


@pytest.fixture
def results() -> dict[str, Any]:
    """A run as the pipeline writes it: three layers, 256 dimensions, int8."""
    return {
        "name": "minilm-l3-d256-int8",
        "command": "compressor run recipes/minilm-l3-d256-int8.toml",
        "created": "2025-11-21T02:14:09+00:00",
        "seconds": 1460.0,
        "recipe": {
            "name": "minilm",
            "distil": {"layers": [0, 2, 5], "lr": 3e-4, "queries": None},
            "pca": {"dim": 256},
        },
        "environment": {
            "cpu": "Intel(R) Xeon(R) Processor @ 2.70GHz",
            "cores": 2,
            "features": ["avx512_vnni", "amx_int8"],
            "memory_bytes": 8_200_000_000,
            "os": "Linux 6.1, Debian 12",
            "python": "3.11.2",
            "versions": {"torch": "2.13.0", "transformers": "5.0.1", "onnxruntime": "1.31.1"},
            "providers": ["CPUExecutionProvider"],
        },
        "teacher": {
            "name": "all-MiniLM-L6-v2",
            "source": "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
            "weights_sha256": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        },
        "texts": {"source": "docstrings", "count": 374_000, "heldout": 2000, "fingerprint": "9f2c41d07be1"},
        "story": [
            stage("teacher", "as it comes", 6, 384, 90_900_000, 82.03),
            stage("distil", "layers 0, 2, 5 of 6; trained 12.0 min", 3, 384, 69_600_000, 82.48),
            stage("pca", "256 of 384 dimensions, mean kept", 3, 256, 70_000_000, 82.34),
            stage("quantize", "PyTorch dynamic int8", 3, 256, 53_900_000, 80.90),
            stage("fp32", "one graph with pooling, Dense and Normalize", 3, 256, 70_100_000, 82.34),
            stage("int8", "MatMul per channel, embedding table per row", 3, 256, 18_180_000, 81.70),
        ],
        "verify": [
            {
                "artifact": "fp32",
                "check": "parity with PyTorch",
                "figure": "largest difference",
                "value": 3.1e-7,
                "bar": 1e-5,
                "direction": "<=",
                "passed": True,
            },
            {
                "artifact": "int8",
                "check": "agreement",
                "figure": "mean cosine",
                "value": 0.9874,
                "bar": 0.98,
                "direction": ">=",
                "passed": True,
            },
            {
                "artifact": "int8",
                "check": "batch invariance",
                "figure": "lowest cosine",
                "value": 0.9991,
                "bar": None,
                "direction": ">=",
                "passed": True,
            },
        ],
        "graphs": {
            "fp32": {"MatMul": 26, "Add": 31, "LayerNormalization": 7, "Softmax": 3, "Gather": 6},
            "int8": {"MatMulInteger": 20, "MatMul": 6, "DynamicQuantizeLinear": 14, "Add": 31, "Gather": 6},
        },
        "bench": {
            "texts": {
                "source": "STS benchmark",
                "count": 2758,
                "tokens_mean": 14.1,
                "tokens_p50": 13,
                "tokens_p99": 37,
            },
            "rounds": 5,
            "threads": 2,
            "a_a": {
                "system": "onnx-int8",
                "offline": {"ratio": 1.006, "low": 0.981, "high": 1.024, "confidence": 0.96875, "holds": True},
                "single_stream": {"ratio": 0.99, "low": 0.97, "high": 1.01, "confidence": 0.97852, "holds": True},
            },
            "limit": {
                "threads": 2,
                "peaks": {"fp32_gflops": 130.0, "int8_gops": 1802.0},
                "by_length": [limit(16, 6000), limit(128, 700)],
            },
            "systems": [
                system("teacher", "teacher, PyTorch fp32 encode", 90_900_000, 82.03, 1.0, 7.9),
                system("student", "student, PyTorch fp32", 70_000_000, 82.34, 1.86, 4.3),
                system("torch-int8", "student, PyTorch dynamic int8", 53_900_000, 80.90, 2.31, 3.6),
                system("onnx-fp32", "ONNX Runtime fp32", 70_100_000, 82.34, 3.04, 2.2),
                system("onnx-int8", "ONNX Runtime int8", 18_180_000, 81.70, 8.13, 1.37),
            ],
        },
    }


def _asked(figures: dict[str, Any]) -> dict[str, Any]:
    """Return figures of questions instead of texts."""
    return {name.replace("texts_", "questions_"): value for name, value in figures.items()}


@pytest.fixture
def reader_results(results: dict[str, Any]) -> dict[str, Any]:
    """The same of a reader: F1 and exact match instead of vectors' quality, questions instead of texts."""
    bench, story = results["bench"], results["story"]
    for row, f1 in zip(bench["systems"], (51.2, 50.4, 49.9, 50.4, 50.1), strict=True):
        del row["sts"], row["agreement"]
        row |= {"answers": {"f1": f1, "exact": f1 / 2}, "parameters": row["size_bytes"] // 4}
        row |= {"offline": _asked(row["offline"]), "by_length": list(map(_asked, row["by_length"]))}
    for row, f1 in zip(story, (51.2, 12.3, 50.4, 49.9, 50.4, 50.1), strict=True):
        del row["sts"], row["agreement"], row["layers"], row["dim"]
        row["answers"] = {"f1": f1, "exact": f1 / 2}
    story[1]["stage"], story[2]["stage"] = "distil-1", "distil-2"
    tries = [{"learning_rate": rate, "epochs": 2.0, "f1": 50.0, "exact": 25.0} for rate in (1e-4, 3e-4)]
    bench["limit"] |= {"unit": "questions", "by_length": list(map(_asked, bench["limit"]["by_length"]))}
    bench["texts"] |= {"source": "test.json", "count": 500}
    del results["texts"]
    return results | {
        "task": "question-answering",
        "teacher": results["teacher"] | {"tries": tries},
        "questions": {"source": "train.json; test.json", "train": {"questions": 4595}, "test": {"questions": 1761}},
    }


def circles(svg: str) -> list[tuple[float, float, float]]:
    found = ElementTree.fromstring(svg).iter(f"{SVG}circle")
    return [(float(c.get("cx", "")), float(c.get("cy", "")), float(c.get("r", ""))) for c in found]
