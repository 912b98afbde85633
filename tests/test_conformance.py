"""An artifact carries hard texts with what it makes of them, and a runner that tells when a runtime differs."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from damage import reseal
from tokenizers import Tokenizer

from compressor.artifact import writing
from compressor.errors import ArtifactError
from compressor.inspect_cases import check_cases
from compressor.inspect_graph import Refusal
from exporters import conformance
from exporters.conformance import INT8_COSINE, RUNNERS, TEXTS, write_conformance
from exporters.inspection import inspect
from exporters.layout import CASES, GRAPH
from exporters.runners.run import failures
from exporters.session import OnnxEncoder


@pytest.fixture(params=["plain", "int8"])
def folder(request: pytest.FixtureRequest, artifacts: Callable[..., Path], tmp_path: Path) -> Path:
    """Return an artifact with its conformance set."""
    made = tmp_path / "artifact"
    shutil.copytree(artifacts(dense=16) / request.param, made)
    write_conformance(made, INT8_COSINE if request.param == "int8" else None)
    return made


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    stated = json.loads((folder / CASES).read_text())
    edit(stated)
    (folder / CASES).write_text(json.dumps(stated))


def opened(folder: Path) -> tuple[Tokenizer, Any]:
    session = onnxruntime.InferenceSession(folder / GRAPH, providers=["CPUExecutionProvider"])
    return Tokenizer.from_file(str(folder / "tokenizer.json")), session


def told(folder: Path) -> list[str]:
    return list(failures(json.loads((folder / CASES).read_text()), *opened(folder)))


def test_the_set_holds_hard_texts_and_our_own_vectors(folder: Path) -> None:
    stated = json.loads((folder / CASES).read_text())
    assert [case["name"] for case in stated["cases"]] == list(TEXTS)
    encoder = OnnxEncoder(folder, threads=1)
    for case in stated["cases"]:
        ((text, times),) = [(part["text"], part["times"]) for part in case["texts"]]
        assert encoder.tokenize([text * times]) == [case["ids"]]
        assert len(case["ids"]) <= 64
        made, wanted = encoder.encode([text * times])[0], np.array(case["outputs"]["sentence_embedding"])
        assert np.abs(made - wanted).max() < 1e-6
    longest = max(stated["cases"], key=lambda case: len(case["ids"]))
    assert longest["name"].startswith("10,000")
    assert len((folder / CASES).read_bytes()) < 100_000


def test_the_artifact_conforms_to_itself(folder: Path) -> None:
    assert told(folder) == []
    done = subprocess.run([sys.executable, folder / "conformance/run.py"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "conforms\n", "")


def test_other_token_ids_are_told(folder: Path) -> None:
    change(folder, lambda stated: stated["cases"][3]["ids"].append(7))
    assert told(folder) == ["one letter: token ids differ"]


def test_another_vector_is_told(folder: Path) -> None:
    int8 = "cosine" in json.loads((folder / CASES).read_text())["tolerance"]
    change(folder, lambda stated: stated["cases"][0]["outputs"]["sentence_embedding"].reverse())
    (line,) = told(folder)
    assert line.startswith("a sentence: sentence_embedding is off by ")
    done = subprocess.run([sys.executable, folder / "conformance/run.py"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, f"{line}\n")
    change(folder, lambda stated: stated["cases"][0]["outputs"]["sentence_embedding"].reverse())
    near = 2e-4  # beyond the bar of fp32, within the cosine of int8

    def push(stated: dict[str, Any]) -> None:
        stated["cases"][0]["outputs"]["sentence_embedding"][0] += near

    change(folder, push)
    assert bool(told(folder)) is not int8


def test_it_is_checked_with_a_bound_on_what_is_run(folder: Path) -> None:
    machine = opened(folder)

    def refusal(folder: Path) -> str:
        with pytest.raises(Refusal) as caught:
            check_cases((folder / CASES).read_bytes(), *machine)
        return str(caught.value)

    assert check_cases((folder / CASES).read_bytes(), *machine) == len(TEXTS)
    good = (folder / CASES).read_text()
    bombs: list[Callable[[dict[str, Any]], Any]] = [
        lambda stated: stated["cases"][0]["texts"][0].update(times=1 << 40),
        lambda stated: stated["cases"][0].update(ids=[1] * 5000),
        lambda stated: stated["cases"][0]["inputs"].update(input_ids=[1] * 5000),
        lambda stated: stated.update(graph="../../elsewhere.onnx"),
        lambda stated: stated.update(cases=[]),
    ]
    for bomb in bombs:
        (folder / CASES).write_text(good)
        change(folder, bomb)
        assert refusal(folder).startswith(f"{CASES}: must be of {GRAPH}, at most 100 cases of ")
    for text, reason in (("{}", "KeyError"), ("[]", "TypeError"), ("{", "JSONDecodeError")):
        (folder / CASES).write_text(text)
        assert refusal(folder) == f"{CASES}: not the cases of an artifact: {reason}"
    (folder / CASES).write_text(good)
    change(folder, lambda stated: stated["cases"][0]["texts"][0].update(times=0.5))
    assert refusal(folder).startswith(f"{CASES}: cannot be run: can't multiply sequence")
    (folder / CASES).write_text(good)
    change(folder, lambda stated: [case["ids"].append(7) for case in stated["cases"][:3]])
    assert refusal(folder) == "does not conform on this machine: a sentence: token ids differ; 2 more"


def test_verify_holds_the_machine_against_it(folder: Path, tmp_path: Path) -> None:
    config = {"precision": folder.name}
    with writing(tmp_path / "made", "artifacts/int8", "key", config) as draft:
        shutil.copytree(folder, draft.folder, dirs_exist_ok=True)
    *_, last = inspect(tmp_path / "made")
    assert (last.check, last.found) == ("conformance", f"{len(TEXTS)} texts give the stated tokens and outputs")
    change(tmp_path / "made", lambda stated: stated["cases"][3]["ids"].append(7))
    reseal(tmp_path / "made")
    with pytest.raises(ArtifactError, match=r"does not conform on this machine: one letter: token ids differ$"):
        list(inspect(tmp_path / "made"))


def test_a_case_is_short_however_much_a_model_reads(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    made = Path(shutil.copytree(artifacts(dense=16) / "plain", tmp_path / "artifact"))
    (made / "sentence_bert_config.json").write_text('{"max_seq_length": 8192}')
    assert conformance._truncation(made) == {"max_length": 512}


def test_the_runners_are_short_and_shipped(folder: Path) -> None:
    for name in ("run.py", "run.mjs"):
        assert (folder / "conformance" / name).read_bytes() == (RUNNERS / name).read_bytes()
        assert len((RUNNERS / name).read_text().splitlines()) <= 40
