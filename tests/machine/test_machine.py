"""This machine is described in JSON; features and limits are read as each system gives them."""

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from compressor.core.cores import usable_cores
from compressor.machine import describe as machine


def test_this_machine_is_described_in_json() -> None:
    found = json.loads(json.dumps(machine.describe()))
    assert list(found) == (
        ["cpu", "architecture", "features", "cores", "cpu_quota", "threads", "memory_bytes"]
        + ["os", "python", "versions", "providers", "cuda"]
    )
    assert found["cpu"]
    assert found["cores"] == machine.cores() >= 1
    assert set(found["features"]) <= set(machine.FEATURES)
    assert found["memory_bytes"] > 1 << 28
    assert "CPUExecutionProvider" in found["providers"]
    assert list(found["versions"])[:9] == list(machine.PACKAGES)
    assert found["versions"]["numpy"] == version("numpy")


Files = dict[str, str]


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[Files], Path]:
    """Write files below an empty root folder."""

    def written(files: Files) -> Path:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return written


GROUPS = "sys/fs/cgroup"
NESTED = {
    "proc/self/cgroup": "0::/pod/box\n",
    f"{GROUPS}/pod/cpu.max": "150000 100000\n",
    f"{GROUPS}/pod/box/cpu.max": "max 100000\n",
}
OLD = {
    "proc/self/cgroup": "4:cpu,cpuacct:/docker/abc\n0::/\n",
    f"{GROUPS}/cpu/cpu.cfs_quota_us": "50000",
    f"{GROUPS}/cpu/cpu.cfs_period_us": "100000",
}


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n", f"{GROUPS}/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/\n", f"{GROUPS}/cpu.max": "250000 100000\n"}, 2.5),
        (NESTED, 1.5),
        (NESTED | {f"{GROUPS}/pod/box/cpu.max": "100000 100000\n"}, 1.0),
        (OLD, 0.5),
        (OLD | {f"{GROUPS}/cpu/cpu.cfs_quota_us": "-1"}, None),
    ],
)
def test_the_tightest_control_group_counts(tree: Callable[[Files], Path], files: Files, quota: float | None) -> None:
    assert machine.cpu_quota(tree(files)) == quota


@pytest.mark.parametrize(
    ("quota", "cores"), [(None, 4), ("max", 4), ("250000", 2), ("100000", 1), ("50000", 1), ("900000", 4)]
)
def test_no_more_threads_than_a_quota_lets_run(
    tree: Callable[[Files], Path], quota: str | None, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    files = {"proc/self/cgroup": "0::/\n"} | ({f"{GROUPS}/cpu.max": f"{quota} 100000\n"} if quota else {})
    assert usable_cores(tree(files)) == cores


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("model name\t: Xeon\nflags\t\t: fpu avx2 avx_vnni amx_int8\n", ["avx2", "avx_vnni", "amx_int8"]),
        ("processor : 0\nFeatures\t: fp asimd asimddp i8mm bf16\n", ["asimddp", "i8mm", "bf16"]),
        (
            "Features\t: fp asimd asimddp sve i8mm bf16 sme smei8i32 sme2\n",
            [
                "asimddp",
                "i8mm",
                "bf16",
                "sve",
                "sme",
                "sme2",
            ],
        ),
        ("", []),
    ],
)
def test_features_on_linux(text: str, found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr(machine, "read_control", lambda path: text)
    assert machine.features() == found


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({"hw.optional.arm.FEAT_DotProd": "1", "hw.optional.arm.FEAT_I8MM": "0"}, ["asimddp"]),
        ({"machdep.cpu.leaf7_features": "SMEP AVX2 AVX512F AVX512VNNI"}, ["avx2", "avx512f", "avx512_vnni"]),
    ],
)
def test_features_on_macos(told: Files, found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr(machine, "_output", lambda *command: told.get(command[-1], ""))
    assert machine.features() == found


def test_other_systems_tell_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Windows")
    assert machine.features() == []


def test_commands_that_are_missing_or_fail_say_nothing() -> None:
    assert machine._output("no-such-command-here") == ""
    assert machine._output("false") == ""
    assert machine._output("echo", "told") == "told"
