"""What is published can be read by whom the umask lets; what may not be read is one clear line."""

import builtins
import io
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from compressor.artifact.folder import Artifact, writing
from compressor.cli.app import guarded
from compressor.core.errors import ArtifactError, ModelError
from compressor.models.projection import PROJECTION, Projection
from compressor.untrusted.inspection import inspect
from compressor.untrusted.settings import check_json
from compressor.untrusted.weights import read_header
from compressor.vectors.codes import RANGES, Ranges
from exporters.graph.files import load


@pytest.fixture(params=[0o022, 0o027, 0o077])
def umask(request: pytest.FixtureRequest) -> Any:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder: Path) -> set[tuple[bool, int]]:
    return {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in (folder, *folder.rglob("*"))}


def test_what_is_published_has_the_modes_of_the_umask(tmp_path: Path, umask: int) -> None:
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True, mode=0o700)
    save_file({"a": np.zeros(2, np.float32)}, source / "inner" / "model.safetensors")
    (source / "script").write_text("x")
    (source / "script").chmod(0o755)
    (source / "kept").write_text("x")
    (source / "kept").chmod(0o400)
    source.chmod(0o700)
    with writing(tmp_path / "made", "export", "key") as draft:
        shutil.copytree(source, draft.folder, dirs_exist_ok=True)
    assert modes(tmp_path / "made") == {(True, 0o777 & ~umask), (False, 0o666 & ~umask)}
    assert Artifact.open(tmp_path / "made").manifest["stage"] == "export"


def test_ranges_that_a_user_fits_can_be_read_by_others(tmp_path: Path, umask: int) -> None:
    Ranges.fit(np.eye(3, dtype=np.float32)).save(tmp_path)
    assert stat.S_IMODE((tmp_path / RANGES).stat().st_mode) == 0o666 & ~umask


def closed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let files called ``name`` be refused, as the system refuses those of another user; to root it never does."""
    own = io.open

    def opened(file: Any, *arguments: Any, **named: Any) -> Any:
        if os.fspath(file).endswith(name) if isinstance(file, (str, os.PathLike)) else False:
            raise PermissionError(13, "Permission denied", os.fspath(file))
        return own(file, *arguments, **named)

    monkeypatch.setattr(io, "open", opened)
    monkeypatch.setattr(builtins, "open", opened)


@pytest.mark.parametrize("name", ["manifest.json", "onnx/model.onnx", "modules.json"])
def test_an_artifact_that_may_not_be_read(
    name: str, artifacts: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with writing(tmp_path / "made", "export", "key") as draft:
        shutil.copytree(artifacts(dense=16) / "plain", draft.folder, dirs_exist_ok=True)
    closed(monkeypatch, name)
    with pytest.raises(ArtifactError) as caught:
        list(inspect(tmp_path / "made"))
    assert str(caught.value) == f"{tmp_path}/made/{name}: cannot be read (Permission denied)"


def test_weights_settings_and_graphs_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("model.safetensors", "config.json", "model.onnx", RANGES, PROJECTION):
        (tmp_path / name).write_bytes(b"\xff" * 100)
    reads: list[tuple[str, type[Exception], Callable[[], Any]]] = [
        ("model.safetensors", ModelError, lambda: read_header(tmp_path / "model.safetensors")),
        ("config.json", ModelError, lambda: check_json(tmp_path / "config.json")),
        ("model.onnx", ArtifactError, lambda: load(tmp_path / "model.onnx")),
        (RANGES, ArtifactError, lambda: Ranges.load(tmp_path, 4)),
        (PROJECTION, ModelError, lambda: Projection.load(tmp_path)),
    ]
    for name, kind, read in reads:
        with monkeypatch.context() as patch:
            closed(patch, name)
            with pytest.raises(kind) as caught:
                read()
        assert str(caught.value) == f"{tmp_path / name}: cannot be read (Permission denied)"
        with pytest.raises(kind) as caught:  # what may be read, and is something else, is another fault
            read()
        assert "cannot be read (" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "fork") or os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_told_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with writing(tmp_path / "made", "export", "key") as draft:
        (draft.folder / "config.json").write_text("{}")
    (tmp_path / "made" / "config.json").chmod(0o600)
    folder = tmp_path
    while folder != Path(folder.root):  # pytest's own folders are their owner's
        folder.chmod(folder.stat().st_mode | 0o055)
        folder = folder.parent
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os._exit(guarded(lambda: Artifact.open(tmp_path / "made")))
        finally:
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    said = capfd.readouterr().err.replace("\n", "")
    assert said.endswith("made/config.json: cannot be read (Permission denied)")


def test_an_error_of_the_system_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def closed() -> None:
        raise PermissionError(13, "Permission denied", "/root/x[/b].txt")

    assert guarded(closed) == 1
    assert capsys.readouterr().err == "error: /root/x[/b].txt: Permission denied\n"
