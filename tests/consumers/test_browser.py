"""The example page gives our vectors in Chromium, and asks no other host for anything."""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consumers.conftest import Hold
from consumers.texts import TEXTS

pytestmark = pytest.mark.consumers

_PAGE = Path(__file__).parents[2] / "examples" / "browser"


@pytest.fixture(scope="module")
def chromium() -> str:
    """Return the browser's command; skip where there is none."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no chromium on the path")
    return found


@pytest.fixture
def address(folder: Path, node: Path, tmp_path: Path) -> Iterator[str]:
    """Serve the page, the artifact as ``model`` and the packages as an installation without others would have them."""
    modules = node / "node_modules"
    own = modules / "@huggingface/transformers/node_modules/onnxruntime-web"
    for name, target in {
        "index.html": _PAGE / "index.html",
        "model": folder,
        "node_modules/@huggingface": modules / "@huggingface",
        "node_modules/onnxruntime-web": own if own.is_dir() else modules / "onnxruntime-web",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(target)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing of each request."""


def test_browser_page(folder: Path, node: Path, chromium: str, address: str, hold: Hold, tmp_path: Path) -> None:
    program = node / f"browser-{os.getpid()}.mjs"  # packages are found from where a program lies
    shutil.copy(Path(__file__).with_name("browser.mjs"), program)
    try:
        done = subprocess.run(
            ["node", str(program), chromium, address, str(tmp_path / "page.png")],
            input=json.dumps(TEXTS),
            capture_output=True,
            text=True,
            timeout=600,
        )
    finally:
        program.unlink()
    assert done.returncode == 0, done.stderr[-4000:]
    said = json.loads(done.stdout)
    assert said["outside"] == []
    assert (tmp_path / "page.png").stat().st_size > 10_000
    similarities = np.array(said["cells"])
    assert similarities.shape == (6, 6)
    assert np.diag(similarities) == pytest.approx(1.0)
    np.fill_diagonal(similarities, 0)
    assert similarities.argmax(1).tolist() == [1, 0, 3, 2, 5, 4]  # each sentence's other wording
    hold(np.array(said["vectors"], np.float32), same_kernels=False)
