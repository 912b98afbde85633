"""Where a run computes: on a card, or on the CPU in its place for a rehearsal; and what machine that is."""

import subprocess
from dataclasses import dataclass
from typing import Any, Literal

import onnxruntime
import torch

from compressor.machine.card import require_card
from compressor.machine.describe import describe
from exporters.runtime.providers import CPU, CUDA, require_providers

Device = Literal["cuda", "cpu"]


@dataclass(frozen=True)
class Place:
    """One device, as each library names it."""

    device: Device
    provider: str
    compiler: str
    """What torch.compile compiles with."""

    @property
    def rehearsal(self) -> bool:
        """Whether what is measured here is no figure."""
        return self.device == "cpu"

    def require(self) -> None:
        """Raise ProviderError where either library does not have the device: nothing runs on a CPU unasked."""
        require_providers([self.provider])
        if self.device == "cuda":
            require_card(CUDA)

    def machine(self) -> dict[str, str]:
        """Return what stands beside every row: the card, its driver, and the versions that run on it."""
        card = torch.cuda.get_device_name(0) if self.device == "cuda" else "no card: a rehearsal on the CPU"
        return {
            "card": card,
            "driver": driver() if self.device == "cuda" else "none",
            "cuda": str(torch.version.cuda),
            "torch": str(torch.__version__),
            "onnxruntime": str(onnxruntime.__version__),
        }

    def environment(self) -> dict[str, Any]:
        """Describe the machine; of two installed ONNX Runtimes, the one that is imported."""
        described = describe()
        versions = described["versions"] | {"onnxruntime": str(onnxruntime.__version__)}
        return described | {"versions": versions} | {"card": self.machine()}


ON_CARD = Place("cuda", CUDA, "inductor")
REHEARSAL = Place("cpu", CPU, "eager")


def driver() -> str:
    """Return the version of NVIDIA's driver; "unknown" where its tool does not say."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return (done.stdout.splitlines() or ["unknown"])[0].strip()
