"""An encoder that was used goes on in a forked child, and where it is unpickled; a batcher says why it does not."""

import copy
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders import sentences
from forked import forked

from compressor.artifact.layout import GRAPH
from compressor.core.errors import ArtifactError, CompressorError
from exporters.runtime import forking
from exporters.runtime.forking import PerProcess
from exporters.runtime.running import Running
from exporters.serving import Batcher
from exporters.session import OnnxEncoder

USED = """
import threading, numpy as np
from compressor.core.errors import CompressorError
from exporters.serving import Batcher
from exporters.session import OnnxEncoder
many = [f"the cat 猫 {{i}}" for i in range(300)]
encoder = OnnxEncoder({folder!r}, threads=2)
wanted = encoder.encode(many)
def same(): return bool(np.abs(encoder.encode(many) - wanted).max() < 1e-6)
"""


@pytest.fixture(scope="module")
def fp32(artifacts: Callable[..., Path]) -> Path:
    return artifacts() / "fp32"


def test_an_encoder_that_was_used_goes_on_in_a_forked_child(fp32: Path) -> None:
    child = """
os.chdir("/")
workers = [threading.Thread(target=same) for _ in range(3)]
for one in workers: one.start()
for one in workers: one.join()
encoder.encode(["one"])
print("child", same(), flush=True)
grandchild = os.fork()
if grandchild == 0:
    print("grandchild", same(), flush=True)
    sys.exit(0)
assert os.waitpid(grandchild, 0)[1] == 0
"""
    said = forked(USED.format(folder=str(fp32)), child, "print('parent', same())")
    assert said.splitlines() == ["child True", "grandchild True", "parent True"]


def test_a_child_that_does_not_use_it_ends(fp32: Path) -> None:
    # Threads of its own take the places of the parent's, which freed sessions would wait for.
    before = USED.format(folder=str(fp32)) + "few = OnnxEncoder(encoder.folder, threads=2)\n"
    child = "own = OnnxEncoder(encoder.folder, threads=2); own.encode(many); del encoder; print('ends')"
    assert forked(before, child) == "ends\n"


def test_a_stream_and_a_batcher_belong_to_their_process(fp32: Path) -> None:
    before = """
batcher = Batcher(encoder)
batcher.submit("a cat").result(10)
stream = encoder.stream(many * 4)
next(stream)
"""
    child = """
for what in (lambda: next(stream), lambda: batcher.submit("a cat")):
    try:
        what()
    except CompressorError as error:
        print(str(error).replace(str(os.getppid()), "N"))
batcher.close()
with Batcher(encoder) as own:
    print(own.submit("a cat").result(10).shape)
"""
    after = "print(batcher.submit('a dog').result(10).shape, sum(map(len, stream)) > 0)"
    assert forked(USED.format(folder=str(fp32)) + before, child, after).splitlines() == [
        "stream: belongs to process N, which this one was forked from; begin another here",
        "batcher: belongs to process N, which this one was forked from; begin another here",
        "(32,)",
        "(32,) True",
    ]


@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_another_graph_is_not_opened_by_a_child(
    change: str, fp32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(fp32, tmp_path / "artifact")
    opened = PerProcess(tmp_path / "artifact", lambda folder: folder.name)
    assert opened() == "artifact"
    graph = tmp_path / "artifact" / GRAPH
    if change == "removed":
        graph.unlink()
    else:
        graph.write_bytes(graph.read_bytes() + b" ")
    assert opened() == "artifact"  # who has it open goes on
    monkeypatch.setattr(forking.os, "getpid", lambda: -1)
    with pytest.raises(ArtifactError, match=r"model\.onnx: changed since the process that this one was forked from"):
        opened()


def test_a_pickled_encoder_is_its_folder_and_its_options(fp32: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fp32.parent)
    encoder = OnnxEncoder(fp32.name, threads=1, running=Running(batch_tokens=64))
    content = pickle.dumps(encoder)
    assert len(content) < 1000
    monkeypatch.chdir("/")
    for again in (pickle.loads(content), copy.deepcopy(encoder)):
        assert (again.folder, again.threads, again.batch_tokens) == (fp32, 1, 64)
        np.testing.assert_array_equal(again.encode(sentences(20)), encoder.encode(sentences(20)))


def test_a_batcher_is_not_pickled(fp32: Path) -> None:
    cannot = pytest.raises(CompressorError, match=r"^batcher: cannot be pickled, its workers are threads; make one in")
    with Batcher(OnnxEncoder(fp32, threads=1)) as batcher, cannot:
        pickle.dumps(batcher)
