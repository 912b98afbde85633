"""Parts carry a folder whole, what files share once, and say in one line what is missing or damaged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cuda import wheels
from benchmarks.cuda.__main__ import main
from benchmarks.cuda.pack import INDEX, PART_BYTES, Index, Part, pack, transfers, unpack
from benchmarks.cuda.rehearsal import MODULE, write_wheel
from compressor.core.errors import ArtifactError, DependencyError

ROOT = Path(__file__).parents[2]
PART = 256 << 10


def weights(seed: int, count: int) -> bytes:
    return np.random.default_rng(seed).standard_normal(count).astype(np.float32).tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return files that share most of their bytes, at other places: 4 MB of 10 MB are their own."""
    made = tmp_path_factory.mktemp("cuda") / "made"
    (made / "graphs").mkdir(parents=True)
    table, layers = weights(0, 750_000), weights(1, 250_000)
    (made / "graphs" / "six").write_bytes(b"head" + table + layers)
    (made / "graphs" / "three").write_bytes(b"another, longer head" + table + layers[:400_000])
    (made / "teacher").write_bytes(layers[400_000:] + b"between" + table)
    (made / "zeros").write_bytes(bytes(5_000_000))
    (made / "empty").write_bytes(b"")
    return made


@pytest.fixture
def parts(folder: Path, tmp_path: Path) -> Path:
    pack(folder, tmp_path / "parts", "key", PART)
    return tmp_path / "parts"


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_is_unpacked_is_what_was_packed(folder: Path, parts: Path, tmp_path: Path) -> None:
    index = unpack(parts, tmp_path / "joined")
    found = content(tmp_path / "joined")
    found.pop(INDEX)
    assert found == content(folder)
    assert index.key == "key"
    assert index.size_bytes == sum(map(len, found.values()))


def test_what_files_share_is_carried_once(folder: Path, parts: Path) -> None:
    index = Index.read(parts)
    own = 4 * 1_000_000 + 5_000_000  # a table, layers, and zeros, in which nothing says where a block ends
    assert own <= index.carried_bytes < own + 700_000 < index.size_bytes - 5_000_000
    assert {part.size for part in index.parts[:-1]} == {PART}
    assert sorted(path.name for path in parts.iterdir()) == [INDEX, *(part.name for part in index.parts)]


def test_a_part_with_this_repository_is_below_what_a_transfer_carries() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout")
    names = [name for name in listed.stdout.decode().split("\0") if name]
    tree = sum((ROOT / name).stat().st_size for name in names if (ROOT / name).is_file())
    assert tree + PART_BYTES + (1 << 20) < 64 << 20


def test_transfers_are_within_their_bounds() -> None:
    sizes = [50, 10, 60, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    made = [Part(f"p{number}", size, "") for number, size in enumerate(sizes)]
    assert transfers(made, 60, 8) == [
        ["p0", "p1"], ["p2"], ["p3", "p4", "p5", "p6", "p7", "p8", "p9"], ["p10", "p11", INDEX],
    ]  # fmt: skip


@pytest.mark.parametrize("damage", ["changed", "shorter", "missing"])
def test_damage_is_refused_in_one_line(damage: str, parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = parts / "part-002"
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(whole[:-1] if damage == "shorter" else bytes([whole[0] ^ 1]) + whole[1:])
    said = {
        "changed": "sha256 differs from index.json; carry it again",
        "shorter": f"{PART - 1} bytes, index.json says {PART}; carry it again",
        "missing": "not there; carry it to this machine",
    }[damage]
    assert main(["join", str(parts.parent)]) == 1
    assert capsys.readouterr().err == f"error: {path}: {said}\n"
    assert not (parts.parent / "joined").exists()


def test_an_index_that_is_none_is_refused(parts: Path, tmp_path: Path) -> None:
    stated = json.loads((parts / INDEX).read_text())
    for change, said in (
        ({"format": "other"}, r"format = 'other': must be compressor-parts/1"),
        ({"files": {"../out": stated["files"]["empty"]}}, r"'\.\./out': outside the folder"),
        ({"files": {"/out": stated["files"]["empty"]}}, r"'/out': outside the folder"),
    ):
        (parts / INDEX).write_text(json.dumps(stated | change))
        with pytest.raises(ArtifactError, match=rf"index\.json: not an index of parts: {said}$"):
            unpack(parts, tmp_path / "joined")
    (parts / INDEX).unlink()
    with pytest.raises(ArtifactError, match=r"index\.json: not there; python -m benchmarks\.cuda prepare writes it$"):
        unpack(parts, tmp_path / "joined")


def test_another_folder_is_left_alone(folder: Path, parts: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    for write in (lambda: unpack(parts, tmp_path / "mine"), lambda: pack(folder, tmp_path / "mine", "key")):
        with pytest.raises(ArtifactError, match="mine: holds something else; give a new folder$"):
            write()
    assert content(tmp_path / "mine") == {"thesis.txt": b"years"}


def test_an_earlier_pack_is_replaced_and_joined_again(folder: Path, parts: Path, tmp_path: Path) -> None:
    unpack(parts, tmp_path / "joined")
    (other := tmp_path / "other").mkdir()
    (other / "one").write_bytes(b"1")
    pack(other, parts, "another key", PART)
    assert unpack(parts, tmp_path / "joined").key == "another key"
    assert content(tmp_path / "joined").keys() == {"one", INDEX}


def test_join_installs_the_wheels_and_needs_nothing_that_they_bring(tmp_path: Path) -> None:
    write_wheel(tmp_path / "made" / "wheels")
    pack(tmp_path / "made", tmp_path / "parts", "key", 200)
    without = "import sys\nfor name in ('pydantic', 'torch', 'onnxruntime', 'onnx'): sys.modules[name] = None\n"
    code = f"{without}from benchmarks.cuda.__main__ import main\nsys.exit(main(['join', {str(tmp_path)!r}]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    assert (site / f"{MODULE}.py").is_file()
    seen = subprocess.run(
        [sys.executable, "-P", "-c", f"import {MODULE}, benchmarks; print({MODULE}.__file__)"],
        env=wheels.environment(site, os.environ, sys.path), cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert seen.stdout.strip() == str(site / f"{MODULE}.py")


def test_a_wheel_for_another_machine_is_refused_in_one_line(tmp_path: Path) -> None:
    made = write_wheel(tmp_path / "wheels")
    made.rename(made.with_name(made.name.replace("py3-none-any", "cp27-cp27m-win32")))
    with pytest.raises(
        DependencyError, match=r"cannot be installed: .* is not a supported wheel on this platform"
    ) as one:
        wheels.install(tmp_path / "wheels", tmp_path / "site")
    assert "\n" not in str(one.value)
    assert not (tmp_path / "site").exists()


def test_the_environment_has_the_wheels_first_and_cudas_libraries(tmp_path: Path) -> None:
    for name in ("cu13", "cudnn"):
        (tmp_path / "packages" / "nvidia" / name / "lib").mkdir(parents=True)
    given = {"PYTHONPATH": "/own", "LD_LIBRARY_PATH": "/driver", "KEPT": "1"}
    made = wheels.environment(tmp_path / "site", given, ["", str(tmp_path / "packages")])
    assert made["PYTHONPATH"].split(os.pathsep) == [str(tmp_path / "site"), str(ROOT), "/own"]
    nvidia = tmp_path / "packages" / "nvidia"
    libraries = made["LD_LIBRARY_PATH"].split(os.pathsep)
    assert libraries[:3] == [str(nvidia / "cu13" / "lib"), str(nvidia / "cudnn" / "lib"), "/driver"]
    assert made["KEPT"] == "1"
    assert made[wheels.SITE] == str(tmp_path / "site")


def test_what_is_in_front_of_the_wheels_is_refused(tmp_path: Path) -> None:
    wheels.require_own("onnxruntime", str(tmp_path / "site" / "onnxruntime" / "__init__.py"), tmp_path / "site")
    with pytest.raises(
        DependencyError, match=r"^onnxruntime: /usr/x\.py is in front of the one in .*site; unset PYTHON"
    ):
        wheels.require_own("onnxruntime", "/usr/x.py", tmp_path / "site")


def test_every_wheel_is_pinned_with_its_hash() -> None:
    text = wheels.REQUIREMENTS.read_text("utf-8").replace("\\\n", " ")
    pins = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    assert {pin[0].partition("==")[0] for pin in pins} >= {"onnxruntime-gpu", "pydantic", "pydantic_core"}
    for name, *hashes in pins:
        assert "==" in name
        assert hashes
        assert all(one.startswith("--hash=sha256:") and len(one) == len("--hash=sha256:") + 64 for one in hashes)
