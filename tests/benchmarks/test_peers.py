"""Peers beside ours: who is asked for, who runs, who says why not, and what the table tells of them."""

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from beir import of_sentences
from builders import sentences
from peering import load

from benchmarks.peers import catalogue, environments, process, run
from benchmarks.peers.catalogue import PEERS, Form, Peer, chosen
from benchmarks.peers.entry import open_peer, open_system
from benchmarks.peers.forms import form_folder
from benchmarks.peers.process import Worker
from benchmarks.report import markdown
from benchmarks.report import peers as page
from benchmarks.systems import System
from compressor.core.errors import PeerError, RecipeError
from compressor.models.sentence_model import TorchEncoder
from compressor.models.source import Source
from compressor.texts.collections import Collection
from compressor.vectors.retrieval import Searches

TEXTS = sentences(64)
BF16 = next(peer for peer in PEERS if peer.name == "pytorch-bf16")
INT8 = next(peer for peer in PEERS if peer.name == "pytorch-int8")


def test_names_are_all_or_some() -> None:
    assert chosen("all") == list(PEERS)
    assert [peer.name for peer in chosen("openvino-int8, pytorch-bf16,openvino-int8")] == [
        "openvino-int8",
        "pytorch-bf16",
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("openvino-int9", r"^--peers = openvino-int9: no such peer; did you mean openvino-int8\?$"),
        ("tensorrt", r"^--peers = tensorrt: no such peer; allowed: all, or of pytorch-bf16, .*, model2vec$"),
        (" ,", r"^--peers = ' ,': none named; allowed: all, or of "),
    ],
)
def test_unknown_names_are_refused(names: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        chosen(names)


def test_every_peer_has_its_runner_its_pins_and_a_name_of_its_own() -> None:
    runners = Path(catalogue.__file__).parent / "runners"
    assert len({peer.name for peer in PEERS}) == len({peer.label for peer in PEERS}) == len(PEERS)
    for peer in PEERS:
        assert (runners / f"{peer.runner}.py").is_file()
        for name in filter(None, (peer.environment, peer.form and peer.form.environment)):
            pins = (environments.REQUIREMENTS / f"{name}.txt").read_text().split()
            assert all("==" in pin for pin in pins)
            assert not any(pin.startswith("torch==") and pin != "torch==2.13.0" for pin in pins)


def test_a_worker_gives_the_peers_own_vectors(worker: Worker, tiny: Path) -> None:
    told = load(worker, tiny, form="bf16")
    assert (told["dim"], told["max_length"], told["settings"]) == (32, 64, [{}])
    assert {"python", "torch", "sentence-transformers"} <= set(told["versions"])
    vectors = worker.vectors(TEXTS, 16)
    np.testing.assert_allclose(vectors, TorchEncoder.load(tiny, "bf16").encode(TEXTS, 16), atol=1e-6)
    assert 0 < worker.seconds(TEXTS, 16) < 60
    assert len(worker.ask("latencies", texts=TEXTS[:5])["milliseconds"]) == 5
    assert worker.cpu_seconds() > 0


def test_a_worker_that_waits_does_not_work(worker: Worker, tiny: Path) -> None:
    load(worker, tiny, form="bf16")
    worker.vectors(TEXTS, 16)
    time.sleep(0.5)
    before = worker.cpu_seconds()
    time.sleep(1)
    assert worker.cpu_seconds() - before < 0.05


def test_a_failure_is_one_line_and_the_worker_goes_on(worker: Worker, tiny: Path) -> None:
    with pytest.raises(PeerError, match=r"^ModuleNotFoundError: No module named 'runners\.nothing'$"):
        load(worker, tiny, runner="nothing")
    load(worker, tiny, form="int8")
    with pytest.raises(PeerError, match=r"^ValueError: Unsupported input type: int\."):
        worker.ask("encode", texts=[3], batch_size=1, to=None)
    assert worker.vectors(TEXTS[:2], 2).shape == (2, 32)


def test_a_worker_that_dies_says_by_what(worker: Worker, tiny: Path) -> None:
    load(worker, tiny, form="bf16")
    worker._process.kill()
    with pytest.raises(PeerError, match=r"^its process was ended by signal 9 \(SIGKILL\)$"):
        worker.vectors(TEXTS, 16)


def test_a_worker_that_does_not_answer_is_given_up(worker: Worker, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LIMIT_SECONDS", 0.01)
    with pytest.raises(PeerError, match=r"^did not answer within 0\.01 s$"):
        load(worker, tiny, form="bf16")


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="python: cannot be started: No such file or directory$"):
        Worker(tmp_path / "python", 1)


def test_a_closed_worker_leaves_no_process_and_no_file(tiny: Path) -> None:
    with Worker(environments.own(), 1, own=True) as opened:
        load(opened, tiny, form="bf16")
        pid, folder = opened._process.pid, Path(opened._folder.name)
        assert folder.is_dir()
    assert not psutil.pid_exists(pid)
    assert not folder.exists()


def test_threads_are_as_asked_whatever_the_shell_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("COMPRESSOR_API_KEY", "sesame")
    theirs, ours = process.variables_of(3, own=False), process.variables_of(3, own=True)
    assert {theirs["OMP_NUM_THREADS"], theirs["RAYON_NUM_THREADS"]} == {"3"}
    assert "PYTHONPATH" not in theirs
    assert "COMPRESSOR_API_KEY" not in theirs | ours
    assert ours["PYTHONPATH"].split(os.pathsep) == [str(Path(process.__file__).parents[2]), "/somewhere"]


# Environments: a package of this test's own, so that nothing is fetched.


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the pins of an environment ``small``: one package in a folder of its own, no index asked."""
    source = tmp_path / "small"
    source.mkdir()
    (source / "small.py").write_text("VALUE = 3\n")
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "small"\nversion = "1.0"\n'
    )
    (source / "backend.py").write_text(_BACKEND)
    requirements = tmp_path / "requirements"
    requirements.mkdir()
    (requirements / "small.txt").write_text(f"{source}\n")
    monkeypatch.setattr(environments, "REQUIREMENTS", requirements)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("COMPRESSOR_CACHE", str(tmp_path / "cache"))
    return requirements / "small.txt"


_BACKEND = """
import zipfile
from pathlib import Path

def build_wheel(folder, settings=None, metadata=None):
    name = "small-1.0-py3-none-any.whl"
    with zipfile.ZipFile(Path(folder) / name, "w") as wheel:
        wheel.write("small.py")
        wheel.writestr("small-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: small\\nVersion: 1.0\\n")
        wheel.writestr("small-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("small-1.0.dist-info/RECORD", "")
    return name
"""


def made() -> list[Path]:
    return sorted(environments.home().iterdir()) if environments.home().is_dir() else []


def test_an_environment_is_made_once_and_again_when_half_made(pins: Path) -> None:
    import subprocess

    python = environments.python("small")
    code = [str(python), "-c", "import small; print(small.VALUE)"]
    assert subprocess.run(code, capture_output=True, text=True, check=True).stdout == "3\n"
    (folder,) = made()
    stamp = (folder / "pyvenv.cfg").stat().st_mtime_ns
    assert environments.python("small") == python
    assert (folder / "pyvenv.cfg").stat().st_mtime_ns == stamp
    (folder / environments._MARKER).unlink()
    assert environments.python("small") == python
    assert made() == [folder]
    assert (folder / "pyvenv.cfg").stat().st_mtime_ns != stamp


def test_an_environment_that_cannot_be_made_leaves_nothing_and_says_why(pins: Path) -> None:
    pins.write_text("no-such-package-anywhere==9\n")
    with pytest.raises(PeerError, match=r"^environment small cannot be made: No matching distribution found for no-s"):
        environments.python("small")
    assert made() == []


def test_an_interrupted_environment_leaves_nothing(pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str, step: list[str], count: int) -> None:
        (Path(step[-1]) / "bin").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(environments, "_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        environments.python("small")
    assert made() == []


# The run.


def test_a_peer_whose_environment_cannot_be_made_has_the_reason(pins: Path, source: Source, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    for peer in (
        Peer("small", "small", "pytorch", "small"),
        Peer("small", "small", "pytorch", None, Form("small", "small", "pytorch")),
    ):
        entry = open_peer(peer, source, [], 1)
        assert entry.worker is None
        assert str(entry.reason).endswith("cannot be made, a file is in the way")


def test_a_form_is_never_kept_by_half(
    pins: Path, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "python", lambda name: environments.own())
    with pytest.raises(PeerError, match="^odd cannot be made: "):
        form_folder(Form("odd", "small", "batches"), source, [], 1)
    assert list((tmp_path / "cache" / "peers" / "forms").iterdir()) == []


@pytest.fixture
def systems(tiny: Path, artifacts: Callable[..., Path]) -> list[System]:
    graph = str(artifacts() / "int8")
    return [
        System("teacher", "teacher, PyTorch fp32 encode", "torch", str(tiny), "PyTorch CPU", 1),
        System("ours", "ours, int8", "onnx", graph, "CPUExecutionProvider", 1),
    ]


def test_a_run_measures_what_runs_and_says_why_of_the_rest(
    command: Any,
    systems: list[System],
    tiny: Path,
    tmp_path: Path,
    pins: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pins.write_text("no-such-package-anywhere==9\n")
    broken = Peer("broken", "a peer | <that> is broken", "pytorch", "small")
    monkeypatch.setattr(catalogue, "PEERS", (BF16, broken))
    texts, sts = tmp_path / "texts.txt", tmp_path / "sts.csv"
    texts.write_text("\n".join(sentences(900)))
    sts.write_text("\n".join(f"{a},{b},{i % 6}" for i, (a, b) in enumerate(zip(TEXTS[:30], TEXTS[30:60], strict=True))))
    few = ["--count", "64", "--batch-sizes", "8,16", "--rounds", "2", "--queries", "20", "--lengths", "16"]
    searched = of_sentences(tmp_path / "searched")
    given = ["--teacher", tiny, "--texts", texts, "--sts", sts, "--retrieval", searched, "--threads", "1", *few]
    status, out, err = command("bench", systems[1].folder, *given, "--peers", "all", "--out", tmp_path / "made")
    assert status == 0, err
    results = json.loads((tmp_path / "made" / "peers.json").read_text())
    teacher, ours, bf16, small = results["bench"]["systems"]
    assert [row["kind"] for row in (teacher, ours, bf16, small)] == ["teacher", "artifact", "peer", "peer"]
    assert teacher["offline"]["ratio"] == 1
    for row in (teacher, ours, bf16):
        assert len(row["offline"]["rounds"]) == 2
        assert row["offline"]["ratio_min"] <= row["offline"]["ratio"] <= row["offline"]["ratio_max"]
        assert row["single_stream"]["queries"] == 20
        assert [one["tokens"] for one in row["by_length"]] == [16]
        assert -100 <= row["sts"]["sts"] <= 100
        assert row["idle_share"] < 0.1
        assert row["threads"] == 1
    assert bf16["agreement"]["cosine_mean"] > 0.999
    assert bf16["versions"]["torch"]
    assert results["bench"]["best_peer"] == "pytorch-bf16"
    pairs = zip(ours["offline"]["rounds"], bf16["offline"]["rounds"], strict=True)
    assert ours["to_best_peer"]["ratio_max"] == pytest.approx(max(a / b for a, b in pairs))
    assert set(small) == {"name", "label", "kind", "reason"}
    searches = Searches([Collection.read(searched)])
    for row, alone in ((teacher, TorchEncoder.load(tiny)), (bf16, TorchEncoder.load(tiny, "bf16"))):
        assert list(row["retrieval"]) == ["searched"]
        own, wanted = row["retrieval"]["searched"], dict(searches.figures(alone)["searched"])
        index, wanted_index = own.pop("on_teachers_index", {}), dict(wanted.pop("on_teachers_index", {}))
        assert own == pytest.approx(wanted, abs=0.5)
        assert index == pytest.approx(wanted_index, abs=0.5)
        assert bool(index) == (row is bf16)
    assert ours["retrieval"]["searched"]["on_teachers_index"]["ndcg_at_10"] > 0
    assert "nDCG@10" in out
    assert "small cannot be made: No matching distribution found" in out
    told = (tmp_path / "made" / "peers.md").read_text()
    assert "| does not run: environment small cannot be made: No matching distribution" in told
    assert "a peer \\| &lt;that&gt; is broken" in told
    assert "| 16 tokens |" in told
    assert f"| {bf16['label']} | searched | {bf16['retrieval']['searched']['ndcg_at_10']:.1f} |" in told


@pytest.mark.slow
def test_a_peer_with_other_vectors_is_not_measured(source: Source, make_model: Callable[..., Path]) -> None:
    entries = [open_system(System("teacher", "t", "torch", str(source.folder), "PyTorch CPU", 1), "teacher", source, 1)]
    for options in ({"seed": 1}, {"dense": 16}):
        other = System("alien", "a", "torch", str(make_model(**options)), "PyTorch CPU", 1)
        entries.append(open_system(other, "peer", source, 1))
    try:
        run._agreements(entries, TEXTS, set())
        assert entries[0].reason is None
        told = r"its vectors are not the teacher's: mean cosine -?0\.\d{4}, at least 0\.9 is asked"
        assert re.fullmatch(told, str(entries[1].reason))
        assert entries[2].reason == "gives vectors of 16 numbers, the teacher of 32"
    finally:
        for entry in entries:
            entry.close()


def test_peers_are_measured_on_the_cpu_alone(command: Any, tiny: Path) -> None:  # noqa: F811
    status, _, err = command("bench", tiny, "--peers", "all", "--providers", "CUDAExecutionProvider")
    assert (status, err.count("\n")) == (1, 1)
    assert "bench.providers = ['CUDAExecutionProvider']: peers are measured on CPUExecutionProvider alone" in err
    status, _, err = command("bench", tiny, "--out", "somewhere")
    assert (status, err) == (1, "error: --out: an option of --peers; without, the figures are printed\n")


def test_two_artifacts_of_one_name_are_refused(command: Any, tiny: Path, tmp_path: Path) -> None:  # noqa: F811
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(sentences(300)))
    given = ["--teacher", tiny, "--texts", texts, "--out", tmp_path / "made", "--peers", "pytorch-bf16"]
    status, _, err = command("bench", tiny, tiny, *given)
    assert status == 1
    assert err.endswith(", pytorch-bf16: each needs a name of its own\n")
    assert not (tmp_path / "made").exists()


def test_the_page_says_what_beats_what() -> None:
    offline = {"batch_size": 32, "setting": {"streams": 2}, "texts_per_second": 400.0, "rounds": [400.0]}
    ratio = {"ratio": 4.0, "ratio_min": 3.9, "ratio_max": 4.1}
    rows = [
        {"name": "teacher", "label": "teacher", "kind": "teacher", "offline": offline | {"ratio": 1.0, "setting": {}}},
        {"name": "a", "label": "ours", "kind": "artifact", "offline": offline | ratio, "sts": {"en": 81.0},
         "to_best_peer": {"name": "p", "ratio": 1.5, "ratio_min": 1.4, "ratio_max": 1.6}},
        {"name": "p", "label": "peer", "kind": "peer", "offline": offline | ratio,
         "versions": {"python": "3", "x": "1"}},
    ]  # fmt: skip
    texts = {"source": "en", "count": 2000, "tokens_mean": 14.0}
    told = page.markdown(
        {"bench": {"texts": texts, "rounds": 5, "threads": 2, "systems": rows}, "command": "c"}, markdown.source
    )
    assert "| 400 | 4.00× [3.90–4.10] |" in told
    assert "| peer | x 1 |" in told
    assert "| batch 32, streams 2 |" in told
    assert "- a against peer, the fastest peer: 1.50× [1.40–1.60]" in told
    assert "By length" not in told
    assert "nDCG" not in told


@pytest.mark.consumers
@pytest.mark.parametrize("peer", [peer for peer in PEERS if peer.environment], ids=lambda peer: peer.name)
def test_every_peer_gives_the_real_teachers_vectors(
    peer: Peer, minilm: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Environments and forms are kept in the user's cache: the first time takes minutes each."""
    monkeypatch.delenv("COMPRESSOR_CACHE")
    texts = [f"{text} is what number {i} says" for i, text in enumerate(TEXTS)]
    entry = open_peer(peer, minilm, texts, 1)
    try:
        assert entry.reason is None
        for setting in entry.settings:
            entry.running.ask("use", setting=setting)
            vectors = entry.encode(texts, 8)
        assert vectors.shape == (len(texts), entry.dim)
        if peer.same_vectors:
            teacher = TorchEncoder.load(minilm.folder).encode(texts)
            cosines = (vectors * teacher).sum(1) / np.linalg.norm(vectors, axis=1)
            assert cosines.mean() > (0.98 if "int8" in peer.name else 0.999)
    finally:
        entry.close()


@pytest.mark.slow
def test_the_compiled_peer_gives_the_teachers_vectors_for_any_shape(minilm: Source) -> None:
    peer = next(peer for peer in PEERS if peer.name == "pytorch-compiled")
    entry = open_peer(peer, minilm, [], 1)
    try:
        assert entry.reason is None
        teacher = TorchEncoder.load(minilm.folder).encode(TEXTS)
        for batch_size in (1, 2, 8, 64):
            vectors = entry.encode(TEXTS, batch_size)
            cosines = (vectors * teacher).sum(1) / np.linalg.norm(vectors, axis=1)
            assert cosines.min() > 0.999
    finally:
        entry.close()
