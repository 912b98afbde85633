"""A folder holds what this project writes, and nothing else that somebody could run or load."""

import json
import shutil
from pathlib import Path

import pytest
from damage import reseal

from compressor.artifact.allowed import _VIEWS, check_names, has_conformance
from compressor.artifact.cases import TEXTS
from compressor.artifact.folder import Artifact
from compressor.artifact.layout import CASES
from compressor.core.errors import ArtifactError
from compressor.untrusted.inspection import inspect
from exporters.pack import TARGETS
from exporters.verify.conformance import write_conformance

STRANGE = [
    "modeling_own.py", "setup.sh", "model.pkl.gz", "weights.dill", "sitecustomize.py", "run.py", "Makefile", ".bashrc",
    "libevil.so.1", "evil.wasm", "index.html", "app.js", "demo.ipynb", "chat_template.jinja", "evil.lnk",
    "onnx/evil.onnx", "onnx/model.onnx.data", "onnx/other.onnx_data", "onnx/model_quantized.onnx", "model.onnx",
    "CONFIG.json", "config.JSON", "config.json.", "config.json.py", "sub/config.json", "\u0441onfig.json",
    "config.j\u0455on", "pyproject.toml",
    "onnx/ONNX/model.onnx", "unknown.json", "notes.txt", "config.pbtxt", "conda.yaml", "MLmodel", "artifact.json",
    "conformance/conftest.py", "conformance/run.sh", "conformance/__init__.py", "conformance/more/run.py", "run.mjs",
    "0_Pooling/config.json", "1_Router/config.json", "2_Dense/model.bin", "1_Pooling/model.safetensors",
    "config.json\u3000",
    "model.safetensors", "tokenizer.py", "requirements.txt", ".gitattributes", "manifest.json.bak", "onnx/.model.onnx",
]  # fmt: skip


@pytest.fixture(scope="module")
def artifact(handed_out: Path) -> Path:
    return handed_out


def refusal(folder: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        list(inspect(folder))
    return str(caught.value)


def test_what_is_handed_out_is_accepted(artifact: Path) -> None:
    settings = next(one for one in inspect(artifact) if one.check == "settings")
    assert settings.found.endswith(" read; no code but the runners as they were shipped, no pickles")


@pytest.mark.parametrize("name", STRANGE)
def test_another_file_is_refused_by_its_name(name: str, artifact: Path) -> None:
    manifest = json.loads((artifact / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": "0" * 64, "size": 1}
    with pytest.raises(ArtifactError) as caught:
        check_names(artifact, manifest)
    assert str(caught.value) == f"{artifact / name}: no file of an artifact; it may be code, and is not opened"


def test_a_file_that_is_in_the_manifest_is_refused_too(artifact: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(artifact, tmp_path / "brings"))
    (folder / "modeling_own.py").write_text("x = 1\n")
    reseal(folder)
    assert Artifact.open(folder)
    assert refusal(folder) == f"{folder}/modeling_own.py: no file of an artifact; it may be code, and is not opened"


@pytest.mark.parametrize("name", ["run.py", "run.mjs"])
def test_another_runner_is_refused(name: str, artifact: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(artifact, tmp_path / "brings"))
    with (folder / "conformance" / name).open("a") as file:
        file.write("\n")
    reseal(folder)
    assert refusal(folder) == (
        f"{folder}/conformance/{name}: not the runner that was shipped with any release; it is code"
    )


@pytest.mark.parametrize("missing", ["cases.json", "run.py", "run.mjs", ""])
def test_a_set_that_is_promised_is_there_and_whole(missing: str, artifact: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(artifact, tmp_path / "less"))
    for path in (folder / "conformance").glob(missing or "*"):
        path.unlink()
    reseal(folder, **({} if not missing else {"stage": "optimise"}))
    said = "not there; what is handed out has a conformance set"
    assert refusal(folder) == f"{folder}/conformance/{missing or 'cases.json'}: {said}"


def test_a_stage_without_a_set_states_that(artifact: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(artifact, tmp_path / "less"))
    shutil.rmtree(folder / "conformance")
    reseal(folder, stage="optimise")
    assert not has_conformance(folder, Artifact.open(folder).manifest)
    *_, settings, _, last = inspect(folder)
    assert settings.found.endswith(" read; no code, no pickles")
    assert (last.checked, last.found[:27]) == (False, "no conformance/cases.json i")


def test_a_reader_states_both_of_its_logits(reader: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(reader / "fp32", tmp_path / "reader"))
    write_conformance(folder)
    reseal(folder)
    *_, last = inspect(folder)
    assert last.found == f"{len(TEXTS)} texts give the stated tokens and outputs"
    stated = json.loads((folder / CASES).read_text())
    del stated["cases"][0]["outputs"]["end_logits"]
    (folder / CASES).write_text(json.dumps(stated))
    reseal(folder)
    assert refusal(folder).endswith(f"{CASES}: a sentence: must state the outputs end_logits, start_logits")


def test_every_view_has_its_names() -> None:
    assert {f"pack/{name}" for name in TARGETS} == _VIEWS.keys()
