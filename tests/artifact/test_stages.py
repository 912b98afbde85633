"""A stage is made once, and again only when something it depends on has changed."""

import json
import sys
import time
from pathlib import Path

import pytest
from rich.text import Text

from compressor.artifact import workspace as stages
from compressor.artifact.code import Sources
from compressor.artifact.folder import MANIFEST, Artifact, Draft, key_of
from compressor.artifact.workspace import Key, Keyed, Model, Workspace, stage_key
from compressor.core.config import Config
from compressor.core.errors import ArtifactError, StorageError


class Halve(Config):
    by: int = 2
    kind: str = "mean"


class Third(Config):
    by: int = 2
    kind: str = "mean"


class Stage:
    """A stage of a workspace that counts how often it was made."""

    def __init__(self, folder: Path) -> None:
        self.work, self.made = Workspace(folder), 0

    def run(self, config: Config = Halve(), inputs: list[Keyed] | None = None, name: str = "halve") -> Model:  # noqa: B008
        def make(draft: Draft) -> None:
            self.made += 1
            (draft.folder / "model.txt").write_text(f"made {self.made}")
            draft.figures["cosine"] = self.made / 4

        return self.work.stage(name, config, inputs or [Key("input")], make)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "run")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(stages, "say", lambda *parts: lines.append(Text.assemble(*parts).plain))
    return lines


def test_what_is_made(stage: Stage, said: list[str]) -> None:
    made = stage.run()
    assert made.folder == stage.work.folder / "halve"
    assert made.key == stage_key("halve", Halve(), [Key("input")])
    assert made.figures.pop("seconds") >= 0
    assert made.figures == {"cosine": 0.25}
    manifest = Artifact.open(made.folder).manifest
    assert (manifest["stage"], manifest["key"], manifest["config"]) == ("halve", made.key, {"by": 2, "kind": "mean"})
    assert said == ["halve"]


def test_unchanged_it_is_not_made_again(stage: Stage, said: list[str]) -> None:
    first, second = stage.run(), stage.run(Halve(by=2), [Key("input")])
    assert stage.made == 1
    assert second == first
    assert said == ["halve", "halve: unchanged"]


@pytest.mark.parametrize(
    ("config", "inputs"),
    [
        (Halve(by=3), ["input"]),
        (Halve(kind="max"), ["input"]),
        (Halve(), ["other"]),
        (Halve(), ["input", "input"]),
        (Halve(), ["in", "put"]),
    ],
)
def test_changed_it_is_made_again(stage: Stage, config: Config, inputs: list[str]) -> None:
    first, second = stage.run(), stage.run(config, [Key(key) for key in inputs])
    assert stage.made == 2
    assert second.key != first.key
    assert (second.folder / "model.txt").read_text() == "made 2"
    stage.run(config, [Key(key) for key in inputs])
    assert stage.made == 2
    stage.run()  # one folder a stage: what was before is not kept
    assert stage.made == 3


def test_a_stage_follows_the_stage_before_it(stage: Stage) -> None:
    last = [stage.run(Third(), [stage.run(Halve(by=by))], "third") for by in (2, 3, 3)]
    assert stage.made == 4
    assert last[0].key != last[1].key == last[2].key


def test_keys_cover_name_release_and_source(stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def key(name: str = "halve") -> str:
        return stage_key(name, Halve(), [Key("input")])

    keys = {key(), key("other")}
    with monkeypatch.context() as patch:
        patch.setattr(stages, "version", lambda name: "99")
        keys.add(key())
    (tmp_path / "changed.py").write_text("CHANGED = 1")
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[__name__], "__file__", str(tmp_path / "changed.py"))
        patch.setattr(stages, "code_key", lambda *modules: key_of(Sources({}).key(*modules)))
        keys.add(key())
    assert len(keys) == 4


def spoil(folder: Path, how: str) -> str:
    path = folder / "model.txt"
    if how == "changed":
        path.write_text("mode 1")
        return f"{path}: sha256 differs from {MANIFEST}"
    if how == "cut":
        path.write_text("made")
        return f"{path}: 4 bytes, {MANIFEST} says 6"
    path.unlink()
    return f"{path}: named in {MANIFEST} and not there"


@pytest.mark.parametrize("how", ["changed", "cut", "gone"])
def test_what_is_damaged_counts_as_not_made(stage: Stage, how: str) -> None:
    asked = ("halve", Halve(), [Key("input")])
    assert not stage.work.is_made(*asked)
    made = stage.run()
    assert stage.work.is_made(*asked)
    assert not stage.work.is_made("halve", Halve(by=3), [Key("input")])
    spoil(made.folder, how)
    assert not stage.work.is_made(*asked)


@pytest.mark.parametrize("how", ["changed", "cut", "gone"])
def test_damaged_it_is_made_again(stage: Stage, said: list[str], how: str) -> None:
    fault = spoil(stage.run().folder, how)
    stage.run()
    assert stage.made == 2
    assert said[1] == f"halve: made again: {fault}"
    assert (Artifact.open(stage.work.folder / "halve").folder / "model.txt").read_text() == "made 2"


def test_a_folder_of_someone_else_is_left_alone(stage: Stage) -> None:
    (stage.work.folder / "halve").mkdir(parents=True)
    (stage.work.folder / "halve" / "mine.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"halve: holds something else; give an empty or a new folder$"):
        stage.run()
    assert stage.made == 0
    made = stage.run(name="other")
    (made.folder / MANIFEST).write_text(json.dumps({"format": "compressor-artifact/1"}))
    with pytest.raises(ArtifactError, match="other: holds something else"):
        stage.run(name="other")


def test_a_stage_that_fails_is_made_the_next_time(stage: Stage) -> None:
    stage.run()

    def fail(draft: Draft) -> None:
        (draft.folder / "half.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage.work.stage("halve", Halve(by=3), [Key("input")], fail)
    assert [path.name for path in stage.work.folder.iterdir()] == ["halve"]
    stage.run()
    assert stage.made == 1
    stage.run(Halve(by=3))
    assert stage.made == 2


def test_checkpoints_are_named_by_key(stage: Stage) -> None:
    def name(config: Config = Halve(), *inputs: str) -> str:  # noqa: B008
        return stage.work.checkpoints("halve", config, [Key(key) for key in inputs]).name

    assert stage.work.checkpoints("halve", Halve(), []).parent == stage.work.folder
    assert name() == f".halve-checkpoints-{stage_key('halve', Halve(), [])[:12]}"
    assert len({name(), name(Halve(by=3)), name(Halve(), "input"), name(Halve(), "other")}) == 4


def test_checkpoints_go_once_the_stage_is_made(stage: Stage) -> None:
    folders: list[Path] = [stage.work.checkpoints("halve", Halve(by=by), [Key("input")]) for by in (2, 3)]
    other = stage.work.checkpoints("other", Halve(), [Key("input")])
    for folder in (*folders, other):
        (folder / "checkpoint-10").mkdir(parents=True)

    def fail(draft: Draft) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        stage.work.stage("halve", Halve(), [Key("input")], fail)
    assert all(folder.is_dir() for folder in folders)
    stage.run()
    assert not any(folder.exists() for folder in folders)
    assert other.is_dir()


def test_the_time_of_a_stopped_run_counts(stage: Stage) -> None:
    kept = stage.work.checkpoints("halve", Halve(), [Key("input")])

    def stop(draft: Draft) -> None:
        kept.mkdir(exist_ok=True)
        time.sleep(0.2)
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            stage.work.stage("halve", Halve(), [Key("input")], stop)
    assert 0.4 <= stage.run().figures["seconds"] < 5
    assert stage.run(Halve(by=3)).figures["seconds"] < 0.4
    assert not kept.exists()


def test_a_second_run_is_kept_out(tmp_path: Path) -> None:
    work, other = Workspace(tmp_path / "run"), Workspace(tmp_path / "other")
    with work.lock():
        with pytest.raises(ArtifactError) as caught, Workspace(tmp_path / "run").lock():
            pass
        assert str(caught.value) == f"{tmp_path / 'run'}: another run is at work in this folder"
        with other.lock():
            pass
    with work.lock():
        pass


def test_a_lock_ends_with_its_run(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Workspace(tmp_path).lock():
        raise KeyboardInterrupt
    with Workspace(tmp_path).lock():
        assert (tmp_path / ".lock").is_file()


def test_a_file_where_the_run_belongs(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(StorageError) as caught, Workspace(tmp_path / "run").lock():
        pass
    assert str(caught.value) == f"{tmp_path / 'run'}: cannot be made, a file is in the way"


def test_what_is_said_goes_to_stderr(stage: Stage, capfd: pytest.CaptureFixture[str]) -> None:
    stage.run()
    out, err = capfd.readouterr()
    assert (out, err.strip()) == ("", "halve")
