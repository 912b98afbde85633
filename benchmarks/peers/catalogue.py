"""Which peers there are: all on the teacher's own weights, but for Model2Vec, which has none of its layers left."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from compressor.core.errors import RecipeError


@dataclass(frozen=True)
class Form:
    """The teacher as a peer needs it, made once and kept."""

    name: str
    environment: str
    runner: str
    options: Mapping[str, Any] = field(default_factory=dict)
    calibrated: bool = False
    """Whether it depends on a sample of texts."""


@dataclass(frozen=True)
class Peer:
    """Another way to run the teacher."""

    name: str
    label: str
    runner: str
    """The module in ``runners``."""
    environment: str | None = None
    """One of those in ``requirements``; None for this project's own."""
    form: Form | None = None
    """None for the teacher's folder as it is."""
    options: Mapping[str, Any] = field(default_factory=dict)
    same_vectors: bool = True
    """Whether it must agree with the teacher; only what is another model need not."""


def _own(name: str, label: str, form: str) -> Peer:
    return Peer(name, label, "pytorch", options={"form": form})


def _made(name: str, label: str, runner: str, form: str, of: str | None = None) -> Peer:
    """A peer whose form is made by its own runner; ``of``, where it runs a form of another name."""
    options = {"form": of or form}
    own_form = Form(f"{runner}-{of or form}", runner, runner, options, calibrated=form == "int8")
    return Peer(name, label, runner, runner, own_form, {"form": form})


PEERS = (
    _own("pytorch-bf16", "sentence-transformers, PyTorch bf16", "bf16"),
    _own("pytorch-int8", "sentence-transformers, PyTorch dynamic int8", "int8"),
    _own("pytorch-compiled", "sentence-transformers, torch.compile bf16", "compiled"),
    _made("onnx-fp32", "sentence-transformers, ONNX backend fp32", "onnx", "fp32"),
    _made("onnx-o3", "sentence-transformers, ONNX backend O3", "onnx", "O3"),
    _made("onnx-qint8", "sentence-transformers, ONNX backend qint8_avx512_vnni", "onnx", "qint8_avx512_vnni"),
    _made("openvino-fp32", "OpenVINO fp32", "openvino", "fp32"),
    _made("openvino-bf16", "OpenVINO bf16", "openvino", "bf16", of="fp32"),
    _made("openvino-int8", "OpenVINO int8 static, NNCF with SmoothQuant", "openvino", "int8"),
    Peer("ctranslate2-int8", "CTranslate2 int8", "ctranslate2", "ctranslate2",
         Form("ctranslate2-int8", "ctranslate2", "ctranslate2")),
    Peer("fastembed", "fastembed, fp32", "fastembed", "fastembed",
         Form("onnx-fp32", "onnx", "onnx", {"form": "fp32"})),
    Peer("model2vec", "Model2Vec, distilled from the teacher", "model2vec", "model2vec",
         Form("model2vec", "model2vec", "model2vec"), same_vectors=False),
)  # fmt: skip


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Kind = TypeVar("_Kind", bound=_Named)


def chosen(names: str) -> list[Peer]:
    """Return the peers that an option names, ``all`` or some with commas between; RecipeError for others."""
    return named(names, PEERS)


def named(names: str, peers: Sequence[_Kind]) -> list[_Kind]:
    """Return those of ``peers`` that an option names, ``all`` or some with commas between; RecipeError for others."""
    known = {peer.name: peer for peer in peers}
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if wanted == ["all"]:
        return list(peers)
    for name in wanted:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"allowed: all, or of {', '.join(known)}"
            raise RecipeError(f"--peers = {name}: no such peer; {hint}")
    if not wanted:
        raise RecipeError(f"--peers = {names!r}: none named; allowed: all, or of {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(wanted)]
