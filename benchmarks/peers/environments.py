"""The peers' own environments: a virtual environment each, made from a file of pinned packages beside this one.

They lie in the cache under the hash of their pins, made aside and renamed, so that none is ever half made.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from compressor.core.cache import cache_folder, keeping
from compressor.core.errors import PeerError
from compressor.core.progress import say, track

REQUIREMENTS = Path(__file__).parent / "requirements"
_MARKER = ".made"  # written last


def python(name: str) -> Path:
    """Return the interpreter of the environment ``name``, made first where it is not there.

    PeerError, saying why, where it cannot be made.
    """
    pins = REQUIREMENTS / f"{name}.txt"
    folder = home() / f"{name}-{key(name)[:12]}"
    made = folder / _MARKER
    if not made.is_file():
        with keeping(folder, made.is_file) as draft:
            _make(name, pins, draft)
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def own() -> Path:
    """Return the interpreter of this project's own environment."""
    return Path(sys.executable)


def home() -> Path:
    """Return the folder of all environments."""
    return cache_folder() / "peers" / "environments"


def key(name: str) -> str:
    """Return the hash of what an environment is made of: its pins and the version of Python."""
    version = ".".join(map(str, sys.version_info[:2]))
    return hashlib.sha256(version.encode() + (REQUIREMENTS / f"{name}.txt").read_bytes()).hexdigest()


def pinned(name: str) -> dict[str, str]:
    """Return the versions that an environment has, by package."""
    lines = (REQUIREMENTS / f"{name}.txt").read_text("utf-8").split()
    return {package: version for package, equals, version in (line.partition("==") for line in lines) if equals}


def _make(name: str, pins: Path, folder: Path) -> None:
    count = sum(bool(line.strip()) and not line.startswith("#") for line in pins.read_text("utf-8").splitlines())
    say(f"  environment {name}: {count} packages, once")
    _run(name, [sys.executable, "-P", "-m", "venv", str(folder)], 0)
    install = ["-P", "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--requirement", str(pins)]
    _run(name, [str(folder / ("Scripts" if os.name == "nt" else "bin") / "python"), *install], count)
    (folder / _MARKER).write_text(pins.read_text("utf-8"), encoding="utf-8")


def _run(name: str, command: list[str], count: int) -> None:
    """Run a step; a package that pip has found counts as one of ``count``."""
    own = {variable: value for variable, value in os.environ.items() if variable not in ("PYTHONPATH", "PYTHONHOME")}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=own
    )
    lines = []
    try:
        assert process.stdout is not None
        with track(f"environment {name}", count, "packages") as advance:
            for line in process.stdout:
                lines += [line.strip()] if line.strip() else []
                advance(int(line.startswith("Collecting ")))
        status = process.wait()
    finally:
        process.kill()
        process.wait()
    if status:
        raise PeerError(f"environment {name} cannot be made: {_reason(lines, status)}")


def _reason(lines: list[str], status: int) -> str:
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
    return errors[-1] if errors else lines[-1] if lines else f"exit status {status}"
