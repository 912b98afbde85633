"""The process that reads one pickled weights file, with bounded memory and time, and writes it as safetensors.

It is started by its path, reads one request from stdin (JSON, a line) and answers with one line on stdout.
``weights_only`` has PyTorch build tensors and plain containers alone: what else a pickle asks for is not run.
"""

import json
import os
import pickle
import sys
from typing import Any

try:
    import resource
except ImportError:  # Windows: the parent's time-out is the only bound
    resource = None  # type: ignore[assignment]

_MEMORY = "asks for more memory than its size allows"
_ROOM = 2 << 30  # bytes that PyTorch itself takes beside the weights


def main() -> None:
    """Answer one request: ``{"written": names}``, or ``{"refused": line}``."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print is no answer
    request = json.loads(sys.stdin.readline())
    _limit(request["size"], request["cpu_seconds"])
    try:
        reply: dict[str, Any] = {"written": convert(request["path"], request["to"])}
    except pickle.UnpicklingError:
        reply = {"refused": "asks for more than tensors, which may be code; nothing of it was run"}
    except MemoryError:
        reply = {"refused": _MEMORY}
    except Exception as error:  # PyTorch raises its own kinds, and whatever a broken file leads it into
        reply = {"refused": _line(error)}
    answer.write(json.dumps(reply) + "\n")
    answer.flush()
    os._exit(0)  # no clean-up of what a stranger's file left


def convert(path: str, to: str) -> list[str]:
    """Write the tensors of the pickled file ``path`` to ``to``; return their names, ValueError where it has none."""
    import torch
    from safetensors.torch import save_file

    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not state or not all(isinstance(name, str) for name in state):
        raise ValueError("no table of tensors by name")
    for name, value in state.items():
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            raise ValueError(f"{name!a:.80}: {type(value).__name__}; only dense tensors are weights")
    # Two names may share one memory, which the format has not.
    save_file({name: value.detach().clone().contiguous() for name, value in state.items()}, to, {"format": "pt"})
    return list(state)


def _line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return _MEMORY if "can't allocate memory" in text else text.splitlines()[0][:200]


def _limit(size: int, cpu_seconds: int) -> None:
    if resource is None:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * size + (1 << 20), 2 * size + (1 << 20)))
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (_ROOM + 4 * size, _ROOM + 4 * size))
    except (ValueError, OSError):  # macOS
        return


if __name__ == "__main__":
    main()
