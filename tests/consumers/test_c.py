"""The C API of the wheel's own shared library gives our vectors."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from consumers.conftest import Hold
from consumers.snippets import snippet
from consumers.texts import TEXTS
from exporters.session import OnnxEncoder

pytestmark = pytest.mark.consumers

HEADERS = Path(os.environ.get("ORT_INCLUDE") or Path(__file__).parent)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the snippet against the wheel's library, and ORT_INCLUDE's headers if it names some."""
    compiler = shutil.which("cc")
    [library] = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*") or [None]
    if not compiler or not library:
        pytest.skip(f"no {'C compiler' if library else 'shared library in the wheel'}")
    home = tmp_path_factory.mktemp("c")
    (home / "embed.c").write_text(snippet("C"), encoding="utf-8")
    (home / "libonnxruntime.so.1").symlink_to(library)  # the name that the library gives itself
    command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{HEADERS}", "embed.c", "-o", "embed"]
    command += ["libonnxruntime.so.1", f"-Wl,-rpath,{home}"]
    subprocess.run(command, cwd=home, check=True)
    return home / "embed"


def test_c_api(folder: Path, encoder: OnnxEncoder, program: Path, hold: Hold) -> None:
    ids = "".join(" ".join(map(str, one)) + "\n" for one in encoder.tokenize(TEXTS))
    done = subprocess.run([program], input=ids, cwd=folder, capture_output=True, text=True, check=True)
    hold(np.array([line.split() for line in done.stdout.splitlines()], np.float32))
