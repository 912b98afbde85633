"""A file or folder that is written appears whole, with the modes of the umask, and what fails leaves nothing."""

import os
import re
import stat
import threading
from pathlib import Path

import pytest

from compressor.artifact.folder import write_json
from compressor.core.cache import keeping
from compressor.core.errors import StorageError, storage
from compressor.core.files import claim_file, partial, replace_text, replacing, this_machine


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    to = tmp_path / "made.txt"
    to.write_text("earlier")
    with replacing(to) as draft:
        draft.write_text("later")
        assert (draft.parent, to.read_text()) == (tmp_path, "earlier")
    assert to.read_text() == "later"
    assert os.listdir(tmp_path) == ["made.txt"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_what_fails_leaves_what_was_there(error: BaseException, tmp_path: Path) -> None:
    to = tmp_path / "made.txt"
    to.write_text("earlier")

    def stop() -> None:
        with replacing(to) as draft:
            draft.write_text("half")
            raise error

    with pytest.raises(type(error)):
        stop()
    assert to.read_text() == "earlier"
    assert os.listdir(tmp_path) == ["made.txt"]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_a_file_has_the_mode_of_the_umask(umask: int, tmp_path: Path) -> None:
    for name in ("text", "json"):
        (tmp_path / name).write_text("earlier")
        (tmp_path / name).chmod(0o600)
    before = os.umask(umask)
    try:
        replace_text(tmp_path / "text", "later")
        write_json(tmp_path / "json", {"later": 1})
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o666 & ~umask}


def test_threads_that_write_one_file_have_names_of_their_own(tmp_path: Path) -> None:
    to, together = tmp_path / "made.txt", threading.Barrier(2)
    seen: dict[str, tuple[str, str]] = {}

    def write(text: str) -> None:
        with replacing(to) as draft:
            draft.write_text(text * 1000)
            together.wait(20)
            seen[text] = draft.name, draft.read_text()

    threads = [threading.Thread(target=write, args=[text]) for text in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names, texts = zip(*(seen[text] for text in "ab"), strict=True)
    assert (len(set(names)), texts) == (2, ("a" * 1000, "b" * 1000))
    assert to.read_text() in texts
    assert os.listdir(tmp_path) == ["made.txt"]


def test_a_name_says_whose_it_is(tmp_path: Path) -> None:
    one, other = partial(tmp_path / "made"), partial(tmp_path / "made")
    assert one != other
    for path in (one, other):
        assert path.parent == tmp_path
        assert re.fullmatch(rf"\.made\.partial-[0-9a-f]{{8}}{this_machine()}-{os.getpid()}", path.name)


def test_text_makes_its_folder_and_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    replace_text(tmp_path / "new" / "made.md", "äöü\n")
    assert (tmp_path / "new" / "made.md").read_bytes() == "äöü\n".encode()
    to = tmp_path / "new" / "made.md" / "inner.md"
    with pytest.raises(StorageError) as caught:
        replace_text(to, "")
    assert str(caught.value) == f"{to}: cannot be made, a file is in the way"


def fill(folder: Path, text: str) -> None:
    (folder / "text").write_text(text)
    (folder / "whole").touch()


def test_a_folder_is_kept_and_a_damaged_one_is_replaced(tmp_path: Path) -> None:
    to = tmp_path / "deep" / "made"
    for text in ("first", "again"):
        with keeping(to, (to / "whole").is_file) as draft:
            fill(draft, text)
            assert draft.parent == to.parent
        assert (to / "text").read_text() == text
        (to / "whole").unlink()
    assert os.listdir(to.parent) == ["made"]


def test_of_two_that_make_a_folder_the_first_to_end_is_kept(tmp_path: Path) -> None:
    to = tmp_path / "made"
    with keeping(to, (to / "whole").is_file) as draft:
        fill(draft, "second")
        to.mkdir()
        fill(to, "first")
    assert (to / "text").read_text() == "first"
    assert os.listdir(tmp_path) == ["made"]


def test_a_folder_that_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    to = tmp_path / "made"

    def stop() -> None:
        with keeping(to, to.is_dir) as draft:
            fill(draft, "half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert not os.listdir(tmp_path)


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    for to, message in (
        (tmp_path, "a folder; give a file to write"),
        (tmp_path / "none" / "made.json", "its folder is not there"),
    ):
        with pytest.raises(StorageError) as caught:
            write_json(to, {})
        assert str(caught.value) == f"{to}: {message}"
    with pytest.raises(FileNotFoundError), storage(tmp_path / "made"):
        (tmp_path / "other").read_text()  # another file's error stays its own
    with pytest.raises(IsADirectoryError), storage(tmp_path / "made"):
        tmp_path.read_text()
    assert os.listdir(tmp_path) == []


def test_a_file_is_claimed_before_the_work(tmp_path: Path) -> None:
    claim_file(to := tmp_path / "deep" / "new" / "made.json")
    assert (to.parent.is_dir(), to.exists()) == (True, False)
    write_json(to, {})
    claim_file(to)  # an earlier one may be replaced
    for wrong, message in (
        (to.parent, "a folder; give a file to write"),
        (to / "inner.json", "cannot be made, a file is in the way"),
    ):
        with pytest.raises(StorageError) as caught:
            claim_file(wrong)
        assert str(caught.value) == f"{wrong}: {message}"


def test_a_folder_that_may_not_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may write anywhere
    with pytest.raises(StorageError, match=r"made\.json: may not be written \(Permission denied\)$"):
        claim_file(tmp_path / "made.json")
