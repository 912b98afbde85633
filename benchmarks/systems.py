"""What is measured: each system a few words of text, so that a fresh process can open the same one."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compressor.artifact.folder import MANIFEST, size_bytes
from compressor.artifact.layout import Kind
from compressor.core.encoder import Encoder

_TORCH_FILES = (".json", ".model", ".safetensors", ".txt")
_OTHER_FORMS = ("onnx", "openvino")
TORCH_CUDA, TORCH_CUDA_FP16 = "PyTorch CUDA", "PyTorch CUDA fp16"


@dataclass(frozen=True)
class System:
    """An encoder and how it is run."""

    name: str
    label: str
    kind: Kind
    folder: str
    provider: str = "CPUExecutionProvider"
    threads: int | None = None
    """By default what its library takes, which differs: a benchmark gives all systems the same."""
    max_length: int | None = None

    def open(self) -> Encoder:
        """Load the encoder; the libraries that it does not need stay unloaded."""
        if self.kind == "onnx":
            from exporters.session import OnnxEncoder

            return OnnxEncoder(self.folder, [self.provider], self.threads)
        import torch

        if self.threads:
            torch.set_num_threads(self.threads)
        if self.kind == "torch-int8":
            from compressor.models.torch_int8 import TorchInt8Encoder

            return TorchInt8Encoder.load(Path(self.folder))
        from compressor.models.sentence_model import Precision, TorchEncoder

        precision: Precision = "fp16" if self.provider == TORCH_CUDA_FP16 else "fp32"
        device = "cuda" if self.provider in (TORCH_CUDA, TORCH_CUDA_FP16) else "cpu"
        return TorchEncoder.load(Path(self.folder), precision, device, self.max_length)

    def imports(self) -> tuple[str, ...]:
        """Name the modules that it runs on, so that a load can be timed without them."""
        onnx = ("exporters.session",)
        return onnx if self.kind == "onnx" else ("compressor.models.torch_int8", "compressor.models.sentence_model")

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @property
    def size_bytes(self) -> int:
        """Size on disk of the files that this system needs: a hub folder may hold the same weights many times."""
        folder = Path(self.folder)
        if self.kind == "onnx":
            return size_bytes(folder)
        files = [p for p in folder.rglob("*") if p.is_file() and p.suffix in _TORCH_FILES and p.name != MANIFEST]
        return sum(p.stat().st_size for p in files if p.relative_to(folder).parts[0] not in _OTHER_FORMS)


def threads_of(encoder: Any) -> int:
    """Return the threads that an open encoder or reader computes on, as its library has them."""
    own = getattr(encoder, "threads", None)
    if own is not None:
        return int(own)
    import torch

    return torch.get_num_threads()
