"""An artifact goes to the hub whole, private and once; or one line says why not, before anything is sent."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from builders import sentences
from commands import Command, refusal
from damage import reseal
from hubs import ATTRIBUTES, TOKEN, StandIn, standing_in
from huggingface_hub import ModelCard, constants, file_download, snapshot_download
from packed import contents, view

from compressor.core.errors import ArtifactError
from compressor.untrusted.inspection import check, inspect
from exporters.publish.hub import Push, send
from exporters.session import OnnxEncoder

ROOT = Path(__file__).parents[2]
FROM = ["--target", "hub", "--push"]
FILES = "/{repo_id}/resolve/{revision}/{filename}"


@pytest.fixture(scope="module")
def artifact(servable: dict[str, Path]) -> Path:
    return servable["int8"]


@pytest.fixture(scope="module")
def packed(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return view(artifact, tmp_path_factory.mktemp("packed") / "view", "hub")


ACCEPTED = set[bytes]()


def once(folder: Path) -> None:
    """Check a folder, the same bytes once: each check is a process of its own."""
    bytes_of = hashlib.sha256(repr(contents(folder)).encode()).digest()
    if bytes_of not in ACCEPTED:
        check(folder)
        ACCEPTED.add(bytes_of)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    """Run a stand-in for the hub that this process' client asks, logged in."""
    with standing_in() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        for holder in (constants, file_download):  # releases before 1.0 have a copy in the second
            monkeypatch.setattr(holder, "HUGGINGFACE_CO_URL_TEMPLATE", running.url + FILES, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # it is on loopback
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the stand-in takes large files by LFS alone
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client waits before it asks again
        monkeypatch.setattr("exporters.publish.hub.check", once)
        yield running


def edited(artifact: Path, to: Path, old: str, new: str) -> Path:
    """Copy an artifact as one whose card says something else."""
    shutil.copytree(artifact, to)
    card = (to / "README.md").read_text("utf-8")
    assert old in card
    (to / "README.md").write_text(card.replace(old, new), "utf-8")
    reseal(to)
    return to


def test_it_is_sent_whole_and_private(
    hub: StandIn, artifact: Path, packed: Path, command: Command, tmp_path: Path
) -> None:
    status, out, _ = command("pack", artifact, *FROM, "org/model")
    assert status == 0
    kept = hub.repositories["org/model"]
    assert kept.private
    assert kept.files() == contents(packed)
    lines = out.splitlines()
    assert lines[0].startswith(f"org/model: {len(contents(packed))} files, ")
    assert lines[1:] == ["org/model: private, as it was sent", f"{hub.url}/org/model/commit/{kept.refs['main']}"]
    large = [name for name in contents(packed) if name.endswith((".onnx", ".safetensors"))]
    assert len(hub.large) == len(large) > 1
    assert all(one.token is None for one in hub.asked if one.path.startswith("/large/"))  # where files lie, it is none
    commits = [one for one in hub.asked if "/commit/" in one.path]
    head = json.loads(commits[0].body.splitlines()[0])["value"]
    assert len(commits) == 1
    assert head["parentCommit"] in kept.commits
    assert kept.messages[-1] == head["summary"]
    copy = Path(snapshot_download("org/model", local_dir=tmp_path / "copy", token=TOKEN))
    assert {one.check for one in inspect(copy) if one.checked} == {"files", "settings", "graph", "conformance"}
    texts = sentences(8)
    np.testing.assert_array_equal(OnnxEncoder(copy).encode(texts), OnnxEncoder(artifact).encode(texts))


def test_the_environment_says_which_hub_and_who_and_large_files_go_by_xet(
    hub: StandIn, artifact: Path, packed: Path, tmp_path: Path
) -> None:
    pytest.importorskip("hf_xet", reason="hf_xet is not installed")
    hub.xet = tmp_path / "store"
    large = [content for name, content in contents(packed).items() if name.endswith((".onnx", ".safetensors"))]
    hub.large = {hashlib.sha256(content).hexdigest(): content for content in large}
    ours = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"} | ours
    line = [sys.executable, "-m", "compressor.cli", "pack", str(artifact), *FROM, "model", "--out", str(tmp_path / "v")]
    done = subprocess.run(line, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    kept = hub.repositories["me/model"]  # a name alone is the token's owner's
    assert done.stdout.splitlines()[-1] == f"{hub.url}/me/model/commit/{kept.refs['main']}"
    assert kept.files() == contents(packed) == contents(tmp_path / "v")
    assert [*hub.xet.rglob("xorbs/default.*")]
    assert not any(route.startswith("PUT") for route in hub.routes())
    assert TOKEN not in done.stdout


def test_a_reader_goes_there_with_its_task_and_all_may_see_it(
    hub: StandIn, servable: dict[str, Path], command: Command, tmp_path: Path
) -> None:
    options = ["--public", "--license", "apache-2.0", "--base-model", "org/other"]
    status, out, _ = command("pack", servable["reader"], *FROM, "me/reader", *options)
    assert status == 0
    assert "me/reader: public, as it was sent" in out
    kept = hub.repositories["me/reader"]
    assert not kept.private
    card = ModelCard((kept.files() or {})["README.md"].decode()).data.to_dict()
    stated = ("question-answering", "onnxruntime", ["onnx", "question-answering"], "org/other", "apache-2.0")
    assert tuple(card[name] for name in ("pipeline_tag", "library_name", "tags", "base_model", "license")) == stated


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("license: mit\n", "", "README.md: states no licence; what is published has one, as --license apache-2.0"),
        ("license: mit\n", "license: unknown\n", "README.md: license: unknown; what is published has one"),
        ("someone/something", "/home/me/teacher", "base_model: /home/me/teacher: no name on the hub; give one by --"),
    ],
)
def test_a_card_that_does_not_tell_is_refused_before_the_hub_is_asked(
    old: str, new: str, line: str, hub: StandIn, artifact: Path, command: Command, tmp_path: Path
) -> None:
    folder = edited(artifact, tmp_path / "edited", old, new)
    assert line in refusal(command("pack", folder, *FROM, "me/model"))
    assert hub.asked == []


def test_what_verify_refuses_is_neither_written_nor_sent(
    hub: StandIn, artifact: Path, packed: Path, command: Command, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(artifact, tmp_path / "damaged"))
    (folder / "config.json").write_bytes((folder / "config.json").read_bytes() + b" ")
    assert "config.json" in refusal(command("pack", folder, *FROM, "me/model", "--out", tmp_path / "view"))
    wrong = Path(shutil.copytree(artifact, tmp_path / "wrong"))  # all hashes are right, and the vectors are not
    cases = wrong / "conformance" / "cases.json"
    cases.write_text(cases.read_text("utf-8").replace("0.", "0.9", 40), "utf-8")
    reseal(wrong)
    refusal(command("pack", wrong, *FROM, "me/model", "--out", tmp_path / "view"))
    assert not (tmp_path / "view").exists()
    added = Path(shutil.copytree(packed, tmp_path / "added"))
    (added / "train.py").write_text("print('hello')")
    with pytest.raises(ArtifactError, match=r"train\.py: not named in manifest\.json"):
        send(added, Push(repository="me/model"))
    with pytest.raises(ArtifactError, match="no view for the hub; compressor pack --target hub makes one"):
        send(artifact, Push(repository="me/model"))
    assert hub.asked == []


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ([*FROM, "a/b/c"], r"--push a/b/c: no name of a repository; allowed: NAME or OWNER/NAME of letters"),
        ([*FROM, "me/my model"], r"--push me/my model: no name of a repository"),
        ([*FROM, "me/a--b"], r"--push me/a--b: no name of a repository"),
        ([*FROM, "x" * 97], r"no name of a repository"),
        (["--target", "ort", "--push", "me/model"], r"--push: an option of --target hub; other views have no place"),
        (["--target", "hub", "--public", "--out", "view"], r"--public: an option of --push"),
        (["--target", "hub", "--create-pr", "--out", "view"], r"--create-pr: an option of --push"),
    ],
)
def test_a_wrong_request_is_answered_before_work(
    options: list[str], line: str, hub: StandIn, command: Command, tmp_path: Path
) -> None:
    assert line in refusal(command("pack", tmp_path / "no-such", *options))  # the artifact is not looked at yet
    assert hub.asked == []


def test_a_view_has_a_place_unless_it_is_sent(artifact: Path, command: Command) -> None:
    status, _, err = command("pack", artifact, "--target", "hub")
    assert status == 2
    assert "'--out': missing; give a folder" in err


def test_offline_nothing_is_asked(
    hub: StandIn, artifact: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    line = refusal(command("pack", artifact, *FROM, "me/model"))
    assert line == "error: --push me/model: HF_HUB_OFFLINE is set, so nothing is sent; unset it"
    assert hub.asked == []


def test_without_a_token_nothing_is_asked(
    hub: StandIn, artifact: Path, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    line = refusal(command("pack", artifact, *FROM, "me/model"))
    assert line == f"error: me/model: no token for {hub.url}: hf auth login, or HF_TOKEN in the environment"
    assert hub.asked == []
    (tmp_path / "no-token").write_text(TOKEN)  # as hf auth login leaves it
    assert command("pack", artifact, *FROM, "me/model")[0] == 0


def test_who_may_see_a_repository_is_never_changed(hub: StandIn, artifact: Path, command: Command) -> None:
    hub.make("me/open", private=False)
    hub.make("me/closed", private=True)
    for options, line in (
        (["me/open"], "me/open: is public; with --public it goes there, under another name it stays private"),
        (["me/open", "--create-pr"], "me/open: is public; with --public it goes there"),
        (["me/closed", "--public"], "me/closed: is private, and is not made public from here; leave --public out"),
    ):
        assert line in refusal(command("pack", artifact, *FROM, *options))
    assert {route.partition(" ")[0] for route in hub.routes()} == {"GET"}
    assert command("pack", artifact, *FROM, "me/open", "--public")[0] == 0
    assert command("pack", artifact, *FROM, "me/closed")[0] == 0
    assert (hub.repositories["me/open"].private, hub.repositories["me/closed"].private) == (False, True)


def test_a_hub_that_makes_it_public_all_the_same_gets_nothing(hub: StandIn, artifact: Path, command: Command) -> None:
    hub.on_create = lambda private: False
    line = refusal(command("pack", artifact, *FROM, "me/model"))
    assert line == "error: me/model: the hub made it public; nothing was sent"
    assert set(hub.repositories["me/model"].files() or {}) == {".gitattributes"}


def test_a_pull_request_leaves_the_repository_as_it_is(
    hub: StandIn, artifact: Path, packed: Path, command: Command
) -> None:
    line = refusal(command("pack", artifact, *FROM, "org/model", "--create-pr"))
    assert line == "error: org/model: not there, so nobody takes a pull request; leave --create-pr out"
    assert hub.repositories == {}
    before = dict(hub.make("org/model").files() or {})
    status, out, _ = command("pack", artifact, *FROM, "org/model", "--create-pr")
    kept = hub.repositories["org/model"]
    assert status == 0
    assert kept.files() == before
    assert kept.files("refs/pr/1") == contents(packed)
    pull = f"{hub.url}/org/model/discussions/1"
    assert out.splitlines()[-2:] == [pull, f"{hub.url}/org/model/commit/{kept.refs['refs/pr/1']}"]


def test_an_earlier_artifact_is_replaced_with_what_it_had_beside(
    hub: StandIn, servable: dict[str, Path], packed: Path, command: Command, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(servable["fp32"], tmp_path / "earlier"))
    (folder / "vocab.txt").write_text("[PAD]\n")
    reseal(folder)
    assert command("pack", folder, *FROM, "me/model")[0] == 0
    kept = hub.repositories["me/model"]
    assert "vocab.txt" in (kept.files() or {})
    assert command("pack", servable["int8"], *FROM, "me/model")[0] == 0
    assert kept.files() == contents(packed)
    commits = len(kept.commits)
    status, out, _ = command("pack", servable["int8"], *FROM, "me/model")
    assert (status, len(kept.commits)) == (0, commits)
    assert "me/model: private, there already, nothing changed" in out
    assert out.splitlines()[-1] == f"{hub.url}/me/model/commit/{kept.refs['main']}"
    kept.add((kept.files() or {}) | {"NOTES.md": b"mine", "vocab.txt": b""})
    head = kept.refs["main"]
    line = refusal(command("pack", servable["int8"], *FROM, "me/model"))
    assert "me/model: holds NOTES.md, which no artifact brought; take it out, or give another" in line
    assert kept.refs["main"] == head


def test_a_repository_of_something_else_is_left_alone(hub: StandIn, artifact: Path, command: Command) -> None:
    files = {"model.safetensors": b"x", "README.md": b"# Mine", "config.json": b"{}"}
    kept = hub.make("me/mine", files)
    line = refusal(command("pack", artifact, *FROM, "me/mine"))
    assert line == "error: me/mine: holds something else, config.json; give a new or an empty repository"
    assert kept.files() == files | {".gitattributes": ATTRIBUTES}
    hub.make("me/page", {"README.md": b"---\nlicense: mit\n---\n"})  # as the hub makes one where a licence is chosen
    assert command("pack", artifact, *FROM, "me/page")[0] == 0


INFO, MAKE, SEND = "GET /api/models/me/model", "POST /api/repos/create", "POST /api/models/me/model/commit/main"
MADE = "; me/model was made, and nothing was put there"


@pytest.mark.parametrize(
    ("route", "status", "message", "line"),
    [
        (INFO, 401, "Invalid credentials", "answers 401 (Invalid credentials); it does not take the token: hf auth lo"),
        (MAKE, 403, "No rights in me", "answers 403 (No rights in me); the token may not write there: it must have"),
        (MAKE, 409, "Exists", "answers 409 (Exists); there is such a repository, or another process is making it"),
        (INFO, 503, "", "answers 503; it cannot answer now: run the command again later"),
        ("POST .*/preupload/main", 404, "", f"answers 404; there is no such owner or repository, or this token{MADE}"),
        ("POST .*/batch", 500, "Oops", f"answers 500 (Oops); it cannot answer now: run the command again later{MADE}"),
        ("PUT /large/.*", 502, "", f"answers 502; it cannot answer now: run the command again later{MADE}"),
        (SEND, 412, "Moved on", f"answers 412 (Moved on); somebody else wrote there meanwhile{MADE}"),
        (SEND, 418, "Tea", f"answers 418 (Tea); it takes no such upload{MADE}"),
        (
            "GET .*/revision/.*",
            500,
            "",
            "answers 500; it cannot answer now: run the command again later; the commit is",
        ),
    ],
)
def test_what_the_hub_refuses_is_one_line(
    route: str, status: int, message: str, line: str, hub: StandIn, artifact: Path, command: Command
) -> None:
    hub.refuse(route, status, message)
    said = refusal(command("pack", artifact, *FROM, "me/model"))
    start, _, end = line.partition(MADE)
    assert said.startswith(f"error: me/model: {hub.url} {start}")
    assert said.endswith(MADE) == (MADE in line)
    assert end == ""


def test_a_licence_that_the_hub_does_not_know_is_refused_by_it(hub: StandIn, artifact: Path, command: Command) -> None:
    line = refusal(command("pack", artifact, *FROM, "me/model", "--license", "no-such"))
    assert 'answers 400 (Invalid metadata in README.md. - "license" must be one of [apache-2.0, mit]); it takes' in line
    assert hub.large == {}


def test_the_token_is_printed_nowhere(hub: StandIn, artifact: Path, command: Command) -> None:
    hub.refuse(MAKE, 403, f"token {TOKEN} may not")
    status, out, err = command("pack", artifact, *FROM, "me/model")
    assert (status, TOKEN in out + err) == (1, False)
    assert "answers 403 (token (token) may not)" in err


def test_a_hub_that_is_not_there_is_one_line(
    hub: StandIn, artifact: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with standing_in() as other:
        closed = other.url
    monkeypatch.setattr(constants, "ENDPOINT", closed)
    line = refusal(command("pack", artifact, *FROM, "me/model"))
    assert line.startswith(f"error: me/model: {closed} is not reached, or answers what nobody reads: ")


def test_a_copy_that_came_otherwise_is_told(hub: StandIn, artifact: Path, command: Command) -> None:
    hub.on_commit = lambda files: files | {".gitattributes": files[".gitattributes"] + b"*.json filter=lfs\n"}
    line = refusal(command("pack", artifact, *FROM, "me/model"))
    assert line == "error: me/model: .gitattributes is not there as it was sent, and verify refuses the copy"
