"""How an artifact runs fastest on the CPU that it was tuned on: threads, batches, ONNX Runtime's own settings."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from compressor.artifact.manifest import MANIFEST, own_manifest
from compressor.core.errors import ArtifactError
from compressor.core.strict_json import JsonObject
from compressor.machine.describe import features
from exporters.runtime.names import CPU, name_of

_MOST = {"threads": 1024, "batch_tokens": 1 << 31}
BF16_PRODUCTS = "mlas.enable_gemm_fastmath_arm64_bfloat16"
"""ONNX Runtime's setting for products of fp32 in bf16 (onnxruntime_session_options_config_keys.h)."""


@dataclass(frozen=True)  # no Config: who only encodes loads no pydantic
class Running:
    """Settings of sessions and batches."""

    threads: int = 1
    """Threads a session; as many sessions run side by side as the cores allow."""
    batch_tokens: int | None = 256
    """Tokens of a batch on a CPU, padding included, at most: few enough for a layer's states to stay in the cache of a
    core. None: as many as its texts have."""
    equal_lengths: bool = False
    """Only texts of one length share a batch, so that none is padded."""
    arena: bool = True
    """ONNX Runtime keeps the memory of one run for the next."""
    spinning: bool = True
    """Threads of one session wait for each other awake."""
    bf16_products: bool = False
    """Products of fp32 are multiplied in bf16 where the processor is an ARM one that can; elsewhere nothing changes."""

    @classmethod
    def load(cls, folder: Path, provider: str = CPU) -> "Running":
        """Return what the manifest in ``folder`` states for this CPU and the ``provider`` of that name.

        The defaults for another, or without one; what states no provider was searched on the CPU provider.

        Raises ArtifactError for settings that are none.
        """
        if not (folder / MANIFEST).is_file():
            return cls()
        choice = own_manifest(folder)["figures"].get("choice")
        if choice is None:
            return cls()
        try:
            own = choice["cpu_features"] == features() and name_of(choice.get("provider", CPU)) == provider
            return cls.read(choice["running"]) if own else cls()
        except (ValueError, LookupError, TypeError) as error:
            raise ArtifactError(f"{folder / MANIFEST}: figures.choice: {error}") from error

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> "Running":
        """Make it of what ``as_dict`` gave; ValueError, naming the setting, for anything else."""
        usual = cls()
        known = {field.name for field in fields(cls)}
        for name, value in dict(stated).items():
            if name not in known:
                raise ValueError(f"running.{name}: no such setting; known are {', '.join(sorted(known))}")
            if name == "batch_tokens" and value is None:
                continue
            if name in _MOST and not (type(value) is int and 1 <= value <= _MOST[name]):
                raise ValueError(f"running.{name} = {value!a:.40}: must be a whole number from 1 to {_MOST[name]}")
            if name not in _MOST and type(value) is not type(getattr(usual, name)):
                raise ValueError(f"running.{name} = {value!a:.40}: must be true or false")
        return cls(**stated)

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it; ``bf16_products`` where it is on."""
        return {name: value for name, value in asdict(self).items() if name != "bf16_products" or value}

    def session_options(self) -> dict[str, Any]:
        """Return what differs from ONNX Runtime's defaults, as its session options name it."""
        options: dict[str, Any] = {}
        if not self.arena:
            options["enable_cpu_mem_arena"] = False
        if not self.spinning:
            options["session.intra_op.allow_spinning"] = "0"
        if self.bf16_products:
            options[BF16_PRODUCTS] = "1"
        return options
