"""What runs an artifact needs the base dependencies alone: no PyTorch, no transformers, no onnx."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from builders import sentences

import exporters
from exporters import OnnxEncoder

ROOT = Path(__file__).parents[2]
USE = """
import json, sys
from exporters import Batcher, OnnxEncoder, OnnxReader
encoder, reader = OnnxEncoder(sys.argv[1]), OnnxReader(sys.argv[2])
texts = json.loads(sys.argv[3])
with Batcher(encoder) as batcher:
    served = batcher.submit(texts[0]).result()
[answer] = reader.answer([texts[0]], [texts[1]])
print(json.dumps({
    "vectors": encoder.encode(texts).tolist(), "served": served.tolist(), "answer": answer.text(),
    "loaded": sorted({name.partition(".")[0] for name in sys.modules}),
}))
"""
ONLY = """
import importlib.abc, sys
class Only(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Only())
"""


def base_distributions() -> set[str]:
    """Return the names of all distributions that an install without extras brings."""
    found, left = set[str](), list(project()["dependencies"])
    while left:
        stated = left.pop()
        name = re.split(r"[^A-Za-z0-9._-]", stated, maxsplit=1)[0].lower().replace("_", "-")
        if name not in found and "extra ==" not in stated:
            found.add(name)
            try:
                left += metadata.requires(name) or []
            except metadata.PackageNotFoundError:  # another system's
                continue
    return found


def project() -> dict[str, list[str]]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"])


def refused() -> list[str]:
    """Return the packages of this environment that the base dependencies do not bring."""
    base = base_distributions()
    owners = metadata.packages_distributions()
    return [
        p for p, names in owners.items() if not {n.lower().replace("_", "-") for n in names} & (base | {"compressor"})
    ]


def check(done: subprocess.CompletedProcess[str], encoder: Path, texts: list[str]) -> None:
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not {"torch", "transformers", "onnx", "scipy", "sentence_transformers"} & set(found["loaded"])
    wanted = OnnxEncoder(encoder).encode(texts)
    assert np.abs(np.array(found["vectors"]) - wanted).max() < 1e-5
    assert np.abs(np.array(found["served"]) - wanted[0]).max() < 1e-5
    assert found["answer"] in texts[1]


def test_encoders_readers_and_batchers_run_on_the_base_dependencies(sealed: Path, reader: Path) -> None:
    assert {"torch", "onnx", "transformers"} <= set(refused())
    texts = sentences(3)
    code = f"REFUSED = {refused()!r}\n{ONLY}{USE}"
    command = [sys.executable, "-c", code, str(sealed / "fp32"), str(reader / "fp32"), json.dumps(texts)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    check(subprocess.run(command, capture_output=True, text=True, env=env, check=False), sealed / "fp32", texts)


EMBED = """
import sys
from exporters import embed
done = embed(sys.argv[1], sys.argv[2], sys.argv[3], to="npy", precision="int8")
print(done.rows, *sorted({"torch", "pyarrow", "datasets"} & set(sys.modules)))
embed(sys.argv[1], sys.argv[2], sys.argv[3])
"""


def test_texts_are_embedded_on_the_base_dependencies(embeddable: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(sentences(20)))
    code = f"REFUSED = {refused()!r}\n{ONLY}{EMBED}"
    command = [sys.executable, "-c", code, str(embeddable), str(tmp_path / "a.txt"), str(tmp_path / "out")]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.stdout == "20\n"
    assert np.load(tmp_path / "out" / "part-00000.npy").shape == (20, 32)
    line = done.stderr.strip().splitlines()[-1]
    assert line.endswith("DependencyError: pyarrow: not installed; pip install 'compressor[embed]'"), done.stderr


def test_what_makes_artifacts_is_named_where_it_is_not_installed() -> None:
    code = f"REFUSED = {refused()!r}\n{ONLY}\nfrom compressor.cli.app import main\nmain()"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, "export", "model", "--out", "made"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"error: \w+ is not installed; .*pip install 'compressor\[train\]'\n", done.stderr)
    helped = subprocess.run([*command[:3], "--help"], capture_output=True, text=True, env=env, check=False)
    assert (helped.returncode, "Question answering:" in helped.stdout) == (0, True)


def test_what_checks_artifacts_is_named_where_it_is_not_installed(sealed: Path) -> None:
    code = f"REFUSED = {refused()!r}\n{ONLY}\nfrom compressor.cli.app import main\nmain()"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, "verify", str(sealed / "fp32")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    line = "error: onnx: not installed, and artifacts are checked by it; pip install 'compressor[check]'\n"
    assert (done.returncode, done.stderr) == (1, line)


@pytest.mark.slow
def test_a_fresh_environment_runs_an_artifact(sealed: Path, reader: Path, tmp_path: Path) -> None:
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(ROOT)], check=True, cwd=tmp_path)
    texts = sentences(3)
    command = [str(python), "-c", USE, str(sealed / "fp32"), str(reader / "fp32"), json.dumps(texts)]
    check(subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False), sealed / "fp32", texts)


def test_public_names() -> None:
    import compressor

    assert exporters.__all__ == ["Batcher", "OnnxEncoder", "OnnxReader", "embed"]
    assert compressor.__all__ == ["ReaderRecipe", "Recipe", "compress"]
    for package in (compressor, exporters):
        assert all(getattr(package, name).__doc__ for name in package.__all__)
        assert set(package.__all__) <= set(dir(package))
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            _ = package.nothing
        assert Path(str(package.__file__)).with_name("py.typed").is_file()


def test_errors_are_all_public() -> None:
    from compressor import errors
    from compressor.core import errors as own

    kinds = {n for n, kind in vars(own).items() if isinstance(kind, type) and issubclass(kind, own.CompressorError)}
    assert set(errors.__all__) == kinds
    assert all(getattr(errors, name) is getattr(own, name) for name in kinds)


def test_importing_the_packages_loads_nothing_more() -> None:
    code = "import sys, compressor, exporters; print(sorted(m for m in sys.modules if m in ('numpy', 'torch', 'rich')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"
