"""The consumers' own environments: a virtual environment or node_modules each, made from pinned files beside this one.

They lie in ``.venv-consumers``, or where COMPRESSOR_CONSUMERS says, and are made again when their pins change.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.peers import environments as peers

HERE = Path(__file__).parent
PYTHON = ("sentence-transformers", "fastembed", "mlflow")
_NODE = ("package.json", "package-lock.json")


class Unavailable(Exception):
    """An environment that cannot be made here, with the reason in one line."""


def home() -> Path:
    """Return the folder of all environments."""
    return Path(os.environ.get("COMPRESSOR_CONSUMERS") or HERE.parents[1] / ".venv-consumers").absolute()


def python(name: str) -> Path:
    """Return the interpreter of one of PYTHON, made first where it is not there; Unavailable if it cannot be."""
    folder, pins = home() / name, _pins(name)
    interpreter = folder / "bin" / "python"
    if not _is_ready(folder, pins):
        shutil.rmtree(folder, ignore_errors=True)
        _run(name, sys.executable, "-m", "venv", str(folder))
        _run(name, str(interpreter), "-m", "pip", "install", "--quiet", "--requirement", str(pins))
        _note(folder, pins)
    return interpreter


def _pins(name: str) -> Path:
    own = HERE / f"requirements-{name}.txt"
    return own if own.is_file() else peers.REQUIREMENTS / f"{name}.txt"


def node() -> Path:
    """Return the folder that holds node_modules, installed first where it is not; Unavailable if it cannot be."""
    folder, pins = home() / "node", [HERE / name for name in _NODE]
    if not shutil.which("node") or not shutil.which("npm"):
        raise Unavailable("node: no node or no npm on the path")
    if not _is_ready(folder, *pins):
        folder.mkdir(parents=True, exist_ok=True)
        for path in pins:
            shutil.copy(path, folder)
        # No package's own script is run; onnxruntime-node's would fetch CUDA libraries.
        _run("node", "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder))
        _note(folder, *pins)
    return folder


def _is_ready(folder: Path, *pins: Path) -> bool:
    made = folder / ".pins"
    return made.is_file() and made.read_text() == _pinned(*pins)


def _note(folder: Path, *pins: Path) -> None:
    (folder / ".pins").write_text(_pinned(*pins))


def _pinned(*pins: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in pins)).hexdigest()


def _run(name: str, *command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
        raise Unavailable(f"{name}: cannot be made: {said[-1] if said else f'exit status {done.returncode}'}")


def main() -> None:
    """Make all of them, a line each."""
    for name in (*PYTHON, "node"):
        try:
            print(f"{name}: {node() if name == 'node' else python(name)}", flush=True)
        except Unavailable as error:
            print(error, flush=True)


if __name__ == "__main__":
    main()
