"""Open models: texts in or token ids in, vectors out on the host, so that every pass has ended when it returns."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime import OrtValue
from sentence_transformers import SentenceTransformer

from benchmarks.cuda.material import Material
from benchmarks.cuda.place import Place
from benchmarks.cuda.systems import System, TorchForm
from compressor.artifact.layout import EMBEDDING, GRAPH
from compressor.core.encoder import Vectors
from compressor.core.errors import ModelError
from compressor.models.sentence_model import ComputePrecision, TorchEncoder, open_model
from exporters.runtime.providers import CUDA, check_active, with_options
from exporters.session import OnnxEncoder

Ids = NDArray[np.int64]
_PRECISIONS: Mapping[TorchForm, ComputePrecision] = {
    "fp16": "fp16", "fp32": "fp32", "bf16": "bf16", "fp16-plain": "fp16", "fp16-compiled": "fp16",
}  # fmt: skip
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
_WARM_UP = ["a sentence", "a sentence that is somewhat longer than the other", "words"]
_FREE_AXES = ("batch_size", "sequence_length")  # as every exported graph names them


class Runner(Protocol):
    """A model that takes texts and ids, as ``OnnxEncoder`` does."""

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> Any: ...

    def run_ids(self, input_ids: Ids, attention_mask: Ids) -> Vectors: ...


class TorchRunner:
    """A sentence-transformers model on a device: its own ``encode``, and its modules for ids."""

    def __init__(self, model: SentenceTransformer, place: Place) -> None:
        self.model, self._device = model, place.device
        self._encoder = TorchEncoder(model)
        self._types = "token_type_ids" in model.tokenizer.model_input_names

    @property
    def attention(self) -> str:
        """Name the attention that transformers runs it with."""
        transformer: Any = self.model[0].auto_model
        return str(transformer.config._attn_implementation)

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> Vectors:
        return self._encoder.encode(texts, batch_size)

    def run_ids(self, input_ids: Ids, attention_mask: Ids) -> Vectors:
        """Return float32 vectors of int64 [batch, length] token ids."""
        return self.compute(self.put(input_ids, attention_mask)).cpu().numpy()

    @torch.inference_mode()  # as in encode: torch.compile would compile again for tensors of another kind
    def put(self, input_ids: Ids, attention_mask: Ids) -> dict[str, torch.Tensor]:
        """Copy ids and mask to the device."""
        ids = torch.from_numpy(input_ids).to(self._device, non_blocking=True)
        mask = torch.from_numpy(attention_mask).to(self._device, non_blocking=True)
        types = {"token_type_ids": torch.zeros_like(ids)} if self._types else {}
        return {"input_ids": ids, "attention_mask": mask, **types}

    @torch.inference_mode()
    def compute(self, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return float32 [batch, dim] on the device."""
        return self.model(dict(features))[EMBEDDING[1]].float()


class TorchRecorded:
    """A model's launches for ids of one shape, recorded once and replayed."""

    def __init__(self, runner: TorchRunner, place: Place, rows: int, tokens: int) -> None:
        ones = np.ones((rows, tokens), np.int64)
        # Each at a place of its own: recorded launches read where the first ones did.
        self._features = {name: values.clone() for name, values in runner.put(ones, ones).items()}
        self._replay: Callable[[], torch.Tensor] = lambda: runner.compute(self._features)
        if place.device == "cuda":
            self._replay = self._recorded(runner)

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> Any:
        raise ModelError("recorded launches take ids of one shape, no texts")

    @torch.inference_mode()
    def run_ids(self, input_ids: Ids, attention_mask: Ids) -> Vectors:
        self._features["input_ids"].copy_(torch.from_numpy(input_ids))
        self._features["attention_mask"].copy_(torch.from_numpy(attention_mask))
        return self._replay().cpu().numpy()

    def _recorded(self, runner: TorchRunner) -> Callable[[], torch.Tensor]:
        """Record after some runs on a stream aside, as PyTorch's notes on CUDA graphs have it."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                runner.compute(self._features)
        torch.cuda.current_stream().wait_stream(aside)
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded):
            vectors = runner.compute(self._features)

        def replay() -> torch.Tensor:
            recorded.replay()
            return vectors

        return replay


class OnnxRecorded:
    """A graph's launches for ids of one shape, recorded by ONNX Runtime's provider and replayed."""

    def __init__(self, folder: Path, place: Place, rows: int, tokens: int) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        for axis, size in zip(_FREE_AXES, (rows, tokens), strict=True):
            options.add_free_dimension_override_by_name(axis, size)  # what computes shapes becomes constant
        providers = [(name, own | _recording(name)) for name, own in with_options([place.provider])]
        self._session = onnxruntime.InferenceSession(str(folder / GRAPH), options, providers=providers)
        check_active([place.provider], self._session.get_providers())
        self._session.disable_fallback()
        self._bind(place, rows, tokens)

    def _bind(self, place: Place, rows: int, tokens: int) -> None:
        """Put inputs and output at places of their own: a recorded launch reads and writes where the first one did."""
        ones = np.ones((rows, tokens), np.int64)
        dim = next(output.shape[-1] for output in self._session.get_outputs() if output.name == EMBEDDING[1])
        self._inputs = {
            one.name: OrtValue.ortvalue_from_numpy(ones * (one.name != "token_type_ids"), place.device, 0)
            for one in self._session.get_inputs()
        }
        self._vectors = OrtValue.ortvalue_from_shape_and_type([rows, dim], np.float32, place.device, 0)
        self._binding = self._session.io_binding()
        for name, held in self._inputs.items():
            self._binding.bind_ortvalue_input(name, held)
        self._binding.bind_ortvalue_output(EMBEDDING[1], self._vectors)

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> Any:
        raise ModelError("recorded launches take ids of one shape, no texts")

    def run_ids(self, input_ids: Ids, attention_mask: Ids) -> Vectors:
        self._inputs["input_ids"].update_inplace(input_ids)
        self._inputs["attention_mask"].update_inplace(attention_mask)
        self._session.run_with_iobinding(self._binding)
        return self._vectors.numpy()


def open_system(system: System, material: Material, place: Place) -> Runner:
    """Open one that takes any shape; for one whose launches are recorded, what ``record`` records."""
    if system.onnx is not None:
        return OnnxEncoder(material.graph(system.layers, system.onnx), [place.provider])
    assert system.torch is not None
    plain = system.torch == "fp16-plain"
    model = open_model(material.teacher, place.device, "eager" if plain else None)
    model = model.to(_DTYPES[_PRECISIONS[system.torch]])
    runner = TorchRunner(model, place)
    return _compiled(runner, place) if system.torch == "fp16-compiled" else runner


def record(system: System, opened: Runner, material: Material, place: Place, rows: int, tokens: int) -> Runner:
    """Record the launches of a system for ids of one shape."""
    if isinstance(opened, TorchRunner):
        return TorchRecorded(opened, place, rows, tokens)
    assert system.onnx is not None
    return OnnxRecorded(material.graph(system.layers, system.onnx), place, rows, tokens)


def _recording(provider: str) -> dict[str, str]:
    return {"enable_cuda_graph": "1"} if provider == CUDA else {}


def _compiled(runner: TorchRunner, place: Place) -> TorchRunner:
    """Compile the transformer once for all shapes, and once for a batch of one text."""
    import torch._dynamo.config
    import torch._dynamo.utils

    torch._dynamo.config.fail_on_recompile_limit_hit = True  # else what is not compiled runs all the same
    transformer: Any = runner.model[0].auto_model
    # Not the module: sentence-transformers calls its forward, past what Module.compile puts in.
    transformer.forward = torch.compile(transformer.forward, dynamic=True, backend=place.compiler)
    for count in (3, 2, 1):
        runner.encode(_WARM_UP[:count], count)
        runner.encode([" ".join(_WARM_UP)] * count, count)
    if not torch._dynamo.utils.counters["stats"]["unique_graphs"]:
        raise ModelError("torch.compile compiled nothing")
    return runner
