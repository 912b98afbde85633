"""Whether PyTorch has a card to compute on."""

from compressor.core.errors import ProviderError


def require_card(asked: str) -> None:
    """Raise ProviderError, naming what was ``asked`` for, where PyTorch sees no card: nothing runs on a CPU unasked."""
    import torch  # here: who names a card loads nothing

    if not torch.cuda.is_available():
        raise ProviderError(f"{asked}: PyTorch sees no CUDA device; install a CUDA build of torch and a driver")
