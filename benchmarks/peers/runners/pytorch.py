"""sentence-transformers' ``encode`` in PyTorch: fp32, bf16, dynamic int8, and compiled."""

import io
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from .encoding import Encoding

PACKAGES = ("torch", "sentence-transformers", "transformers")
_WARM_UP = ["a sentence", "a sentence that is somewhat longer than the other", "words"]


def _opened(model: SentenceTransformer) -> Encoding:
    return Encoding(model.eval(), _saved_bytes(model), torch.get_num_threads())


def load(teacher: str, folder: str | None, threads: int, form: str) -> Encoding:
    """Open the teacher in ``form``: fp32, bf16, int8 or compiled (bf16, too)."""
    torch.set_num_threads(threads)
    model = SentenceTransformer(
        teacher, device="cpu", local_files_only=True, trust_remote_code=False, model_kwargs={"dtype": torch.float32}
    ).eval()
    if form == "fp32":
        return _opened(model)
    if form == "int8":
        return _opened(torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8))
    model = model.bfloat16()
    if form == "compiled":
        return _compiled(model)
    return _opened(model)


def _compiled(model: SentenceTransformer) -> Encoding:
    """Compile the transformer once for all shapes, and once for a batch of one text, before anything is timed.

    With weights frozen into the code, as PyTorch's guide to inference on CPUs has it.
    """
    import torch._dynamo.config
    import torch._dynamo.utils
    import torch._inductor.config

    torch._inductor.config.freezing = True
    torch._dynamo.config.fail_on_recompile_limit_hit = True  # else what is not compiled runs all the same
    transformer: Any = model[0].auto_model
    # Not the module: sentence-transformers calls its forward, past what Module.compile puts in.
    transformer.forward = torch.compile(transformer.forward, dynamic=True)
    running = _opened(model)
    for count in (3, 2, 1):
        running.encode(_WARM_UP[:count], count)
        running.encode([" ".join(_WARM_UP)] * count, count)
    if not torch._dynamo.utils.counters["stats"]["unique_graphs"]:
        raise RuntimeError("torch.compile compiled nothing")
    return running


def _saved_bytes(model: torch.nn.Module) -> int:
    """Return the size of the model's weights as PyTorch saves them."""
    saved = io.BytesIO()
    torch.save(model.state_dict(), saved)
    return saved.tell()
