"""The ways to run the teacher and its students on a card that are measured beside each other."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.cuda.material import Form, Stated
from benchmarks.cuda.plan import Cell, Plan

BASELINE = "torch-fp16"
"""What ratios are taken to."""
AGAIN = "torch-fp16-again"
"""The baseline under another name: their ratio should be 1."""
TorchForm = Literal["fp16", "fp32", "bf16", "fp16-plain", "fp16-compiled"]
_TORCH: tuple[tuple[str, str, TorchForm], ...] = (
    (BASELINE, "PyTorch fp16", "fp16"),
    ("torch-fp16-compiled", "PyTorch fp16, torch.compile", "fp16-compiled"),
    ("torch-fp16-plain", "PyTorch fp16, attention in plain operators", "fp16-plain"),
    ("torch-bf16", "PyTorch bf16", "bf16"),
    ("torch-fp32", "PyTorch fp32", "fp32"),
)
_LABELS: dict[Form, str] = {"fp32": "fp32", "fp16": "fp16", "fp16-fused": "fp16, residuals fused"}


@dataclass(frozen=True)
class System:
    """One way to run one model."""

    name: str
    label: str
    layers: int
    torch: TorchForm | None = None
    onnx: Form | None = None
    recorded_of: str | None = None
    """The system whose launches are recorded once, for ids of one shape, and replayed (CUDA graphs)."""
    instead_of: str | None = None
    """The system without which alone it is measured."""
    main_length_alone: bool = False
    """Measured at the length that matters most, and at no other."""

    @property
    def half(self) -> bool:
        """Whether it computes in sixteen bits."""
        return "fp32" not in (self.torch, self.onnx)

    def at(self, cell: Cell, plan: Plan) -> bool:
        """Tell whether it is measured in a row: recorded launches beside the baseline and what they are recorded of."""
        if cell.mode == "recorded":
            return self.recorded_of is not None or self.name == BASELINE or self.onnx == "fp16-fused"
        return self.recorded_of is None and (not self.main_length_alone or cell.tokens == plan.lengths[0])


def systems_of(stated: Stated) -> list[System]:
    """List all of them, the baseline first; PyTorch runs the teacher, ONNX Runtime each depth."""
    depth = stated.layers
    systems = [System(name, label, depth, torch=form) for name, label, form in _TORCH]
    systems.append(System("torch-fp16-recorded", "PyTorch fp16, CUDA graph", depth, torch="fp16", recorded_of=BASELINE))
    for student in stated.students:
        systems += _onnx(student.layers, student.layers == depth)
    return [*systems, System(AGAIN, "PyTorch fp16, again", depth, torch="fp16")]


def _onnx(layers: int, deepest: bool) -> list[System]:
    name, fused = f"onnx-{layers}", f"onnx-{layers}-fp16-fused"
    return [
        System(fused, _label(layers, "fp16-fused"), layers, onnx="fp16-fused"),
        System(f"{name}-fp16", _label(layers, "fp16"), layers, onnx="fp16", instead_of=None if deepest else fused),
        System(f"{name}-fp32", _label(layers, "fp32"), layers, onnx="fp32", main_length_alone=not deepest),
        System(f"{name}-recorded", f"{_label(layers, 'fp16-fused')}, CUDA graph", layers, onnx="fp16-fused",
               recorded_of=fused),
    ]  # fmt: skip


def _label(layers: int, form: Form) -> str:
    return f"{layers} layer{'s' if layers > 1 else ''}, ONNX {_LABELS[form]}"


def measured(systems: Iterable[System], failed: Sequence[str]) -> list[System]:
    """Return those that are measured: without what ``failed`` its checks, and with what then takes its place."""
    return [
        system
        for system in systems
        if not {system.name, system.recorded_of} & set(failed)
        and (system.instead_of is None or system.instead_of in failed)
    ]
