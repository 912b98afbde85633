"""OpenVINO: the teacher in one graph with its pooling, quantized by NNCF, on streams that batches are queued for.

Throughput hint, streams and requests as https://docs.openvino.ai (Optimize Inference) has them; NNCF's transformer
preset with SmoothQuant, its default for them.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("CI", "true")  # the only word by which openvino-telemetry reports nothing
import openvino  # noqa: E402

from . import Setting, Vectors
from .batches import Prompted, Tail, Tokens, files_bytes, transformer_folder

PACKAGES = ("openvino", "nncf", "torch", "transformers")
_GRAPH = "openvino_model.xml"
_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


def prepare(teacher: str, folder: str, texts: list[str], form: str) -> None:
    """Write the teacher as one graph; with ``form`` int8 quantized, its ranges calibrated on ``texts``."""
    graph = _converted(Path(teacher))
    if form == "int8":
        import nncf

        tokens = Tokens(Path(teacher))
        sample = [{"input_ids": ids, "attention_mask": mask} for _, ids, mask in tokens.batches(texts, 1)]
        graph = nncf.quantize(
            graph, nncf.Dataset(sample), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(sample)
        )
    openvino.save_model(graph, Path(folder) / _GRAPH, compress_to_fp16=False)


def _converted(teacher: Path) -> Any:
    import torch
    from transformers import AutoModel

    tail = Tail(teacher)

    class Whole(torch.nn.Module):
        """The transformer and what comes after it."""

        def __init__(self) -> None:
            super().__init__()
            self.transformer = AutoModel.from_pretrained(
                transformer_folder(teacher), local_files_only=True, dtype=torch.float32, attn_implementation="sdpa"
            )

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            states = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            vectors = states[:, 0]
            if tail.pooling == "mean":
                weights = attention_mask.unsqueeze(-1).to(states.dtype)
                vectors = (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(vectors, dim=1) if tail.normalize else vectors

    example = {name: torch.ones((2, 7), dtype=torch.int64) for name in ("input_ids", "attention_mask")}
    example["attention_mask"][1, 5:] = 0
    with torch.no_grad():
        graph = openvino.convert_model(Whole().eval(), example_input=example)
    for value, name in zip(graph.inputs, example, strict=True):
        value.get_tensor().set_names({name})
        value.get_node().set_partial_shape(openvino.PartialShape([-1, -1]))
        value.get_node().set_element_type(openvino.Type.i64)
    graph.validate_nodes_and_infer_types()
    return graph


class OpenVino(Prompted):
    """A compiled graph, its streams fed by a queue of requests."""

    def __init__(self, teacher: Path, folder: Path, threads: int, form: str) -> None:
        super().__init__(teacher)
        self._core, self._path = openvino.Core(), folder / _GRAPH
        self._tokens, self._threads, self._form = Tokens(teacher), threads, form
        self.max_length, self.size_bytes = self._tokens.max_length, files_bytes(folder)
        self.settings: Sequence[Setting] = [{"streams": n} for n in _divisors(threads)]
        self.use(self.settings[0])
        self.dim = int(self._compiled.output(0).partial_shape[1].get_length())
        self.threads = int(self._compiled.get_property("INFERENCE_NUM_THREADS"))

    def use(self, setting: Setting) -> None:
        """Compile the graph for so many streams; ValueError where the processor does not have the precision."""
        given: dict[str, Any] = {
            "PERFORMANCE_HINT": "THROUGHPUT" if setting["streams"] > 1 else "LATENCY",
            "NUM_STREAMS": setting["streams"],
            "INFERENCE_NUM_THREADS": self._threads,
        }
        if precision := _PRECISIONS.get(self._form):
            given["INFERENCE_PRECISION_HINT"] = precision
        self._compiled = self._core.compile_model(str(self._path), "CPU", given)
        got = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if self._form == "bf16" and got != "bf16":
            raise ValueError(f"OpenVINO has no bf16 on this processor: it took {got}")
        self._queue = openvino.AsyncInferQueue(self._compiled, 2 * setting["streams"])
        self._queue.set_callback(_keep)

    def encode(self, texts: list[str], batch_size: int) -> Vectors:
        vectors = np.empty((len(texts), self.dim), np.float32)
        for rows, ids, mask in self._tokens.batches(texts, batch_size):
            self._queue.start_async({"input_ids": ids, "attention_mask": mask}, userdata=(vectors, rows))
        self._queue.wait_all()
        return vectors


def load(teacher: str, folder: str, threads: int, form: str) -> OpenVino:
    """Open the graph that ``prepare`` wrote, to compute in ``form``."""
    return OpenVino(Path(teacher), Path(folder), threads, form)


def _keep(request: Any, place: tuple[Vectors, Any]) -> None:
    vectors, rows = place
    vectors[rows] = request.get_output_tensor(0).data


def _divisors(threads: int) -> list[int]:
    return [n for n in range(1, threads + 1) if threads % n == 0]
