"""The snippets of ``exporters/publish/templates/consumers.md``, taken out and run on other texts."""

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np

from compressor.core.encoder import Vectors
from exporters.publish.template import CONSUMERS

_TEXTS = re.compile(r'^(?P<name>texts|const texts) = \["A sentence\.", "Another one\."\];?$', re.MULTILINE)
_SENTINEL = "VECTORS "


def snippet(consumer: str) -> str:
    """Return the code under the heading ``consumer``, as it stands."""
    section = CONSUMERS.read_text(encoding="utf-8").split(f"\n## {consumer}\n")[1].split("\n## ")[0]
    return re.search(r"```\w+\n(.*?)```", section, re.DOTALL)[1]  # type: ignore[index]


def run_python(interpreter: Path, code: str, folder: Path, texts: list[str]) -> Vectors:
    """Run a snippet in ``folder`` on ``texts`` and return its ``vectors``, float32 [len(texts), dim]."""
    tail = f"\nprint({_SENTINEL!r} + __import__('json').dumps([[float(x) for x in v] for v in vectors]))\n"
    return _run([str(interpreter), "-"], _with_texts(code, texts) + tail, folder)


def run_node(modules: Path, code: str, folder: Path, texts: list[str]) -> Vectors:
    """Run a snippet with the packages of ``modules``, as run_python."""
    tail = f"\nconsole.log({json.dumps(_SENTINEL)} + JSON.stringify(vectors.map((v) => Array.from(v))));\n"
    program = modules / f"snippet-{os.getpid()}.mjs"  # packages are found from where a program lies
    program.write_text(_with_texts(code, texts) + tail, encoding="utf-8")
    try:
        return _run(["node", str(program)], "", folder)
    finally:
        program.unlink()


def _with_texts(code: str, texts: list[str]) -> str:
    replaced, count = _TEXTS.subn(lambda found: f"{found['name']} = {json.dumps(texts, ensure_ascii=False)}", code)
    assert count == 1, "a snippet names its texts once"
    return replaced


def _run(command: list[str], program: str, folder: Path) -> Vectors:
    own = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONDONTWRITEBYTECODE": "1"}
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        command, input=program, capture_output=True, text=True, cwd=folder, env=inherited | own, timeout=600
    )
    assert done.returncode == 0, done.stderr[-4000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith(_SENTINEL))
    return np.array(json.loads(line.removeprefix(_SENTINEL)), np.float32)
