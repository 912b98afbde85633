"""A view for the hub runs and is served as the artifact: what its recipe states, and what was chosen, goes with it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from packed import seal, view

from compressor.artifact.folder import Draft, writing
from compressor.artifact.manifest import KEPT, own_manifest, read_manifest
from compressor.core.errors import ArtifactError
from compressor.machine.describe import features
from exporters.runtime import providers
from exporters.runtime.prefixes import vector_lengths
from exporters.runtime.running import Running
from exporters.server.run import named

RUNNING = Running(batch_tokens=64, equal_lengths=True)


@pytest.fixture(scope="module")
def hub(sealed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a view of a Matryoshka artifact of 7-bit weights that a search chose how to run."""
    home = tmp_path_factory.mktemp("hub")
    recipe = {"name": "nested", "distil": {"matryoshka": [4, 8]}, "int8": {"reduce_range": True}}
    with writing(home / "made", "artifacts/int8", "key", {"recipe": recipe}) as draft:
        _copy(sealed / "int8", draft)
        draft.figures["choice"] = {"cpu_features": features(), "running": RUNNING.as_dict(), "kept_products": 2}
    return view(home / "made", home / "view", "hub", license="mit")


def _copy(artifact: Path, draft: Draft) -> None:
    shutil.copytree(artifact, draft.folder, dirs_exist_ok=True)
    (draft.folder / "manifest.json").unlink()


def test_it_is_called_cut_and_run_as_the_artifact(hub: Path) -> None:
    assert read_manifest(hub)["stage"] == "pack/hub"
    assert vector_lengths(hub, 16) == (8, 4)
    assert named([str(hub)]) == {"nested": hub}
    assert Running.load(hub) == RUNNING
    assert providers._seven_bits(hub)


def test_its_sessions_of_seven_bits_need_no_exact_sums(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("opened for exact sums")

    monkeypatch.setattr(providers, "saturates_here", lambda: True)
    monkeypatch.setattr(providers, "open_exact", refused)
    assert providers.open_session(hub, ["CPUExecutionProvider"], 1) is not None


def test_a_view_without_the_artifacts_manifest_is_refused_in_one_line(hub: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(hub, tmp_path / "bare"))
    (bare / KEPT).write_text("{}")
    with pytest.raises(ArtifactError, match=rf"^{bare / KEPT}: format is not "):
        own_manifest(bare)
    (bare / KEPT).unlink()
    with pytest.raises(ArtifactError, match=rf"^{bare}: no {KEPT}; not an artifact of this project$"):
        own_manifest(bare)


def test_any_other_folder_has_the_manifest_that_it_has(sealed: Path, tmp_path: Path) -> None:
    made = seal(sealed / "int8", tmp_path / "made", "int8")
    (made / KEPT).write_text("{}")
    assert own_manifest(made) == read_manifest(made)
