"""A rehearsal of the whole way without a card: the CPU in its place, all of it small, none of it a figure."""

import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.cuda.material import WHEELS
from benchmarks.cuda.pack import Index, pack
from benchmarks.cuda.plan import Plan
from benchmarks.cuda.prepare import PARTS, Prepare
from compressor.core.progress import say
from compressor.models.source import find
from compressor.texts.corpus import Texts

PLAN = Plan(batches=(1, 2), lengths=(16, 8), rounds=2, seconds=0.02, recorded_batch=1)
MODULE = "compressor_rehearsal"
_PART_BYTES = 16 << 20
_TEXTS = 200


def prepare(config: Prepare, to: Path) -> Index:
    """Write parts as ``Prepare`` does; the wheel in them holds one empty module, and no index is asked for any."""
    source, corpus = find(config.teacher), Texts.read({"source": config.texts, "limit": 20 * _TEXTS}).load()
    with TemporaryDirectory() as aside:
        made = Path(aside)
        config.make(source, list(corpus.heldout)[:_TEXTS], corpus.source, made)
        write_wheel(made / WHEELS)
        index = pack(made, to / PARTS, "a rehearsal", _PART_BYTES)
    say(f"  {len(index.files)} files in {len(index.parts)} parts")
    return index


def write_wheel(folder: Path) -> Path:
    """Write a wheel that pip installs, in a few hundred bytes."""
    folder.mkdir(parents=True)
    info = f"{MODULE}-1.0.dist-info"
    files = {
        f"{MODULE}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {MODULE}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: compressor\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    path = folder / f"{MODULE}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))
    return path
