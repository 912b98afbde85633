"""How many operations a second this machine reaches at best: large products of matrices, and nothing else."""

import time
from collections.abc import Callable

from compressor.core.cores import usable_cores
from compressor.machine.describe import bf16_is_fast
from compressor.machine.threads import torch_threads


def measure_peaks(seconds: float = 0.5, threads: int | None = None) -> dict[str, float]:
    """Measure the billions of operations a second of large matrix products on ``threads``, all usable cores by default.

    fp32 and, where it is not emulated, bf16 by PyTorch, int8 (u8 by constant s8, packed at load) by ONNX Runtime; each
    size has ``seconds``. A multiply-add is two operations; the fastest run of the best size counts, as caches differ.
    """
    count = threads or usable_cores()
    largest = 1024 if count <= 4 else 2048 if count <= 32 else 4096
    sizes = (largest // 2, largest)
    with torch_threads(count):
        peaks = {"fp32_gflops": max(_rate(_torch_product("float32", size), size, seconds) for size in sizes)}
        if bf16_is_fast():
            peaks["bf16_gflops"] = max(_rate(_torch_product("bfloat16", size), size, seconds) for size in sizes)
        peaks["int8_gops"] = max(_rate(_int8_product(size, count), size, seconds) for size in sizes)
    return peaks


def _rate(product: Callable[[], object], size: int, seconds: float) -> float:
    return 2 * size**3 / _fastest(product, seconds) / 1e9


def _fastest(product: Callable[[], object], seconds: float) -> float:
    """Repeat ``product`` for so long, and return what its fastest run took, in seconds."""
    product()  # the first one packs matrices and wakes the threads
    fastest, stop = float("inf"), time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        product()
        now = time.perf_counter()
        fastest = min(fastest, now - start)
        if now >= stop:
            return fastest


def _torch_product(dtype: str, size: int) -> Callable[[], object]:
    import torch

    left, right = (torch.rand(size, size).to(getattr(torch, dtype)) for _ in range(2))
    return lambda: left @ right


def _int8_product(size: int, threads: int) -> Callable[[], object]:
    """Build one MatMulInteger of u8 activations by constant s8 weights, as a quantized layer has it."""
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    weights = numpy_helper.from_array(random.integers(-127, 128, (size, size), dtype=np.int8), "weights")
    node = helper.make_node("MatMulInteger", ["activations", "weights"], ["sums"])
    activations = helper.make_tensor_value_info("activations", TensorProto.UINT8, [size, size])
    sums = helper.make_tensor_value_info("sums", TensorProto.INT32, [size, size])
    graph = helper.make_graph([node], "peak", [activations], [sums], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {"activations": random.integers(0, 256, (size, size), dtype=np.uint8)}
    return lambda: session.run(None, feed)
