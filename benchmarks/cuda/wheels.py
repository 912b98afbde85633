"""The packages that the machine with the card lacks: fetched where there is a network, installed there without one.

They go into a folder of their own in front of all others: a virtual environment made inside the one that holds PyTorch
would not see its packages, and what is installed there stays as it is.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from compressor.core.errors import ArtifactError, DependencyError, storage
from compressor.core.files import partial

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
SITE = "COMPRESSOR_CUDA_SITE"
"""The variable that names the folder of packages in the process that computes."""
_ROOT = Path(__file__).parents[2]
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
_PIP = (sys.executable, "-P", "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check")
_SYSTEM = ("/usr/local/nvidia/lib64", "/usr/local/nvidia/lib", "/usr/local/cuda/lib64")


def download(to: Path, python: str) -> None:
    """Fetch the pinned wheels for ``python`` ("3.12") on x86-64 Linux; DependencyError where pip cannot."""
    platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
    target = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, *platforms]
    pins = ["--no-deps", "--require-hashes", "--requirement", str(REQUIREMENTS)]
    _run([*_PIP, "download", *target, *pins, "--dest", str(to)], f"wheels for Python {python} cannot be fetched")


def install(wheels: Path, site: Path) -> None:
    """Install the wheels in ``wheels``, and nothing else, into the folder ``site``; no index is asked.

    DependencyError where one is for another Python or machine.
    """
    found = sorted(map(str, wheels.glob("*.whl")))
    if not found:
        raise ArtifactError(f"{wheels}: no wheels; prepare the parts again")
    draft = partial(site)
    alone = ["--no-index", "--no-deps", "--no-compile", "--no-cache-dir"]
    with storage(site):
        try:
            _run([*_PIP, "install", *alone, "--target", str(draft), *found], f"{wheels}: cannot be installed")
            shutil.rmtree(site, ignore_errors=True)
            os.rename(draft, site)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def enter(site: Path, arguments: Sequence[str]) -> None:
    """Go on in a process that has the packages in ``site``; return where this is that process already."""
    if os.environ.get(SITE) == str(site.absolute()):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    command = [sys.executable, "-P", "-m", "benchmarks.cuda", *arguments]
    os.execve(sys.executable, command, environment(site, os.environ, sys.path))


def environment(site: Path, given: Mapping[str, str], path: Sequence[str]) -> dict[str, str]:
    """Return the variables of that process: ``site`` first, and the folders of the libraries that CUDA needs.

    The loader reads its path when a process begins, so nothing but another process will do.
    """
    packages = [str(site.absolute()), str(_ROOT), *filter(None, [given.get("PYTHONPATH")])]
    libraries = [*library_folders(path), *filter(None, [given.get("LD_LIBRARY_PATH")])]
    libraries += [folder for folder in _SYSTEM if Path(folder).is_dir()]
    return dict(given) | {
        SITE: str(site.absolute()),
        "PYTHONPATH": os.pathsep.join(packages),
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "PYTHONUNBUFFERED": "1",
    }


def library_folders(path: Sequence[str]) -> list[str]:
    """Return the folders of NVIDIA's libraries below ``path``'s, where its packages for Python lie."""
    found = [str(folder) for entry in path if entry for folder in sorted(Path(entry).glob("nvidia/*/lib"))]
    return list(dict.fromkeys(found))


def require_own(name: str, file: str | None, site: Path) -> None:
    """Raise DependencyError where a package is not the one in ``site``."""
    if file is None or not Path(file).is_relative_to(site.absolute()):
        raise DependencyError(f"{name}: {file} is in front of the one in {site}; unset PYTHONPATH and run it again")


def _run(command: Sequence[str], what: str) -> None:
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False, env=own
    )
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        reason = (errors or lines or [f"exit status {done.returncode}"])[-1]
        raise DependencyError(f"{what}: {reason}")
