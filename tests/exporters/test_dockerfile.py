"""The Dockerfile's steps, as far as they go without a daemon: what it copies, installs, runs and as whom."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from served import serving_by

from compressor.cli.table import COMMANDS

ROOT = Path(__file__).parents[2]
Step = tuple[str, str]


def stages() -> list[list[Step]]:
    """Return the instructions of each stage, comments out and continued lines joined."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text("utf-8"))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    steps = [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]
    starts = [i for i, (word, _) in enumerate(steps) if word == "FROM"]
    return [steps[start:end] for start, end in zip(starts, [*starts[1:], len(steps)], strict=True)]


def of(stage: list[Step], word: str) -> list[str]:
    return [rest for name, rest in stage if name == word]


def copied(stage: list[Step]) -> list[tuple[str, str]]:
    """Return what a stage takes from the folder that is built, and where to."""
    found = []
    for rest in of(stage, "COPY"):
        if not rest.startswith("--from"):
            *sources, to = rest.split()
            found += [(source, to) for source in sources]
    return found


def test_it_is_built_in_one_stage_and_run_in_another_without_rights() -> None:
    build, final = stages()
    assert of(build, "FROM")[0].removesuffix(" AS build") == of(final, "FROM")[0]
    version = re.search(r"python:(\d+\.\d+)-slim", of(final, "FROM")[0])
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    assert version is not None
    assert requires == f">={version[1]}"
    user, group = of(final, "USER")[0].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert of(final, "RUN") == []
    assert of(final, "COPY") == ["--from=build /opt/compressor /opt/compressor"]


def test_what_it_copies_is_there_and_all_that_the_build_reads() -> None:
    build, _ = stages()
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    for source, _ in copied(build):
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored
    assert ignored[0] == "*"
    assert not any(
        fnmatch(source, pattern) for source, _ in copied(build) for pattern in ignored[1:] if pattern[0] != "!"
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = [name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]]
    assert {"pyproject.toml", project["project"]["readme"], "LICENSE", *packages} == {
        source for source, _ in copied(build)
    }


def test_it_installs_what_serve_needs_and_runs_it() -> None:
    build, final = stages()
    [install] = [line for line in of(build, "RUN") if "pip install" in line]
    extras = re.search(r"'\.\[(\w+)\]'$", install)
    assert extras is not None
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = stated["dependencies"] + stated["optional-dependencies"][extras[1]]
    names = {re.split(r"[^A-Za-z0-9-]", one, maxsplit=1)[0] for one in needed}
    assert {"starlette", "uvicorn", "orjson", "prometheus-client", "onnxruntime", "onnx"} <= names
    assert not names & {"torch", "transformers", "sentence-transformers"}
    program, command, *options = json.loads(of(final, "ENTRYPOINT")[0])
    assert (program in stated["scripts"], command in COMMANDS, options) == (True, True, ["--host", "0.0.0.0"])
    assert json.loads(of(final, "CMD")[0]) == ["/artifact"]
    check = json.loads(of(final, "HEALTHCHECK")[0].partition("CMD ")[2])
    compile(check[2], "HEALTHCHECK", "exec")
    assert f":{of(final, 'EXPOSE')[0]}/ready" in check[2]


@pytest.mark.slow
def test_its_steps_make_an_environment_that_serves(servable: dict[str, Path], tmp_path: Path) -> None:
    """Run the build stage's steps in a folder that has what is copied, and what the final stage starts."""
    build, final = stages()
    source, made = tmp_path / "source", tmp_path / "made"
    for name, _ in copied(build):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, _parent(source / name))
    for line in of(build, "RUN"):
        line = re.sub(r"^python ", f"{sys.executable} ", line.replace("/opt/compressor", str(made)))
        subprocess.run(line, shell=True, check=True, cwd=source)
    installed = {path.name.partition("-")[0].lower() for path in made.glob("lib/*/site-packages/*.dist-info")}
    assert {"starlette", "onnxruntime", "compressor"} <= installed
    assert not installed & {"torch", "transformers"}
    program, *words = json.loads(of(final, "ENTRYPOINT")[0])
    words[words.index("0.0.0.0")] = "127.0.0.1"
    command = [str(made / "bin" / program), *words, str(servable["fp32"]), "--port", "0"]
    with serving_by(command, tmp_path, {}) as server:
        assert len(server.ask("/v1/embeddings", {"input": "a"}).json["data"]) == 1
        check = json.loads(of(final, "HEALTHCHECK")[0].partition("CMD ")[2])[2].replace(":8000", f":{server.port}")
        subprocess.run([made / "bin" / "python", "-c", check], check=True)


def _parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
