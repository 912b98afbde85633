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
from commands import Command
from damage import reseal
from tokenizers import Tokenizer

from compressor.artifact import allowed
from compressor.artifact.cases import TEXTS, tolerance, truncation_of
from compressor.artifact.folder import sha256, writing
from compressor.artifact.layout import CASES, GRAPH, RUNNERS, RUNNERS_FOLDER
from compressor.artifact.runners.run import failures
from compressor.core.errors import ArtifactError
from compressor.machine.describe import saturates_here
from compressor.machine.exact import open_exact
from compressor.untrusted.cases import check_cases
from compressor.untrusted.graph import Refusal
from compressor.untrusted.inspection import inspect
from exporters.session import OnnxEncoder
from exporters.verify.conformance import cases, own_conformance, write_conformance


@pytest.fixture(params=["plain", "int8"])
def folder(request: pytest.FixtureRequest, artifacts: Callable[..., Path], tmp_path: Path) -> Path:
    """Return an artifact with its conformance set."""
    made = tmp_path / "artifact"
    shutil.copytree(artifacts(dense=16) / request.param, made)
    write_conformance(made, "int8" if request.param == "int8" else "fp32")
    return made


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    stated = json.loads((folder / CASES).read_text())
    edit(stated)
    (folder / CASES).write_text(json.dumps(stated))


def opened(folder: Path) -> tuple[Tokenizer, Any]:
    session = open_exact(str(folder / GRAPH), onnxruntime.SessionOptions(), providers=["CPUExecutionProvider"])
    return Tokenizer.from_file(str(folder / "tokenizer.json")), session


def saturates(folder: Path) -> bool:
    """Tell whether a plain session's vectors are others than elsewhere, on this processor."""
    return saturates_here() and "cosine" in json.loads((folder / CASES).read_text())["tolerance"]


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
    if saturates(folder):  # a plain session gives other vectors here, and is told so
        assert (done.returncode, done.stderr) == (1, "")
        assert all(": sentence_embedding is off by " in line for line in done.stdout.splitlines())
    else:
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
    if saturates(folder):
        assert (done.returncode, done.stdout.startswith("a sentence: ")) == (1, True)
    else:
        assert (done.returncode, done.stdout) == (1, f"{line}\n")
    change(folder, lambda stated: stated["cases"][0]["outputs"]["sentence_embedding"].reverse())
    near = 2e-4  # beyond the bar of fp32, within the cosine of int8

    def push(stated: dict[str, Any]) -> None:
        stated["cases"][0]["outputs"]["sentence_embedding"][0] += near

    change(folder, push)
    assert bool(told(folder)) is not int8


@pytest.mark.parametrize(("times", "passes"), [(1.05, True), (0.95, True), (1.2, False), (0.8, False), (2.0, False)])
def test_a_multiple_of_a_vector_is_told_though_its_cosine_is_1(times: float, passes: bool, folder: Path) -> None:
    machine, (precision, cut) = opened(folder), how(folder)

    def stretch(stated: dict[str, Any]) -> None:
        for case in stated["cases"]:
            case["outputs"] = {name: [times * value for value in row] for name, row in case["outputs"].items()}

    change(folder, stretch)
    found = told(folder)
    if passes and precision == "int8":
        assert found == []
        assert len(check_cases((folder / CASES).read_bytes(), *machine, precision, cut)) == len(TEXTS)
        return
    assert len(found) == len(TEXTS)
    assert "cosine 1.000000, norm 1 of " in found[0]
    assert refused(folder, machine).startswith(
        "does not conform on this machine: a sentence: sentence_embedding is off"
    )


def test_int8_sets_of_earlier_releases_are_held_to_the_norm_too(folder: Path) -> None:
    machine, (precision, cut) = opened(folder), how(folder)
    change(folder, lambda one: one["tolerance"].pop("norm", None))
    assert len(check_cases((folder / CASES).read_bytes(), *machine, precision, cut)) == len(TEXTS)
    stated = json.loads((folder / CASES).read_text())["cases"][0]["outputs"]["sentence_embedding"]
    change(folder, lambda one: one["cases"][0]["outputs"].update(sentence_embedding=[2 * value for value in stated]))
    assert [line.partition(":")[0] for line in told(folder)] == ["a sentence"]
    assert refused(folder, machine).startswith("does not conform on this machine: a sentence: ")


def how(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the precision of the graph, and how its texts are cut."""
    stated = json.loads((folder / CASES).read_text())["tolerance"]
    return "int8" if "cosine" in stated else "fp32", truncation_of(folder)


def refused(folder: Path, machine: tuple[Tokenizer, Any], precision: str | None = None) -> str:
    with pytest.raises(Refusal) as caught:
        check_cases((folder / CASES).read_bytes(), *machine, precision or how(folder)[0], truncation_of(folder))
    return str(caught.value)


LOOSE: list[Any] = [
    {"absolute": 1e9},
    {"absolute": 1e-3},
    {"absolute": 1e-4, "cosine": 0.5},
    {"absolute": 1e-4, "cosine": -1},
    {"absolute": 1e-4, "cosine": 1e9},
    {"absolute": float("nan")},
    {"absolute": True},
    {"absolute": -1.0},
    {"absolute": "1"},
    {"absolute": 1e-4, "relative": 1.0},
    {"absolute": 1e-4, "norm": 0.2},
    {"absolute": 1e-4, "cosine": 0.99, "norm": 2.0},
    {"absolute": 1e-4, "cosine": 0.99, "norm": float("nan")},
    {"cosine": 0.99},
    {},
    None,
]


@pytest.mark.parametrize("stated", LOOSE)
def test_a_tolerance_is_the_projects_own(stated: Any, folder: Path) -> None:
    precision, _ = how(folder)
    change(folder, lambda one: one.update(tolerance=stated))
    said = refused(folder, opened(folder), precision)
    assert said.startswith(f"{CASES}: tolerance = ")
    assert said.endswith(f": must be {json.dumps(tolerance(precision))}, for its graph is {precision}")


def test_the_runner_takes_no_tolerance_that_lets_anything_pass(folder: Path) -> None:
    machine = opened(folder)
    for loose in ({"absolute": 1e9}, {"absolute": 1e-4, "cosine": 0.5}, {"absolute": 1e-4, "cosine": 0.99, "norm": 9}):
        change(folder, lambda one, loose=loose: one.update(tolerance=loose))
        said = list(failures(json.loads((folder / CASES).read_text()), *machine))
        bounds = "at most 1e-4 of each number, or a cosine of at least 0.99 and a norm within a tenth"
        assert said[0] == f"tolerance {loose}: {bounds}"
    change(folder, lambda one: one.update(tolerance={"absolute": 1e-4}, cases=[]))
    assert told(folder) == ["cases without outputs: nothing to be held against"]


def test_int8s_tolerance_is_not_for_fp32(folder: Path) -> None:
    change(folder, lambda one: one.update(tolerance=tolerance("int8")))
    said = refused(folder, opened(folder), "fp32")
    assert said.startswith(
        f'{CASES}: tolerance = {{"absolute": 0.0001, "cosine": 0.99, "norm": 0.1}}: must be {{"absolute": 0.0001}}'
    )


HOLES: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda s: s.update(cases=s["cases"][:1]), "must be the 18 hard texts of every set: 'empty' is missing"),
    (lambda s: s["cases"].append(s["cases"][0]), "must be the 18 hard texts of every set: others are among them"),
    (lambda s: s["cases"][0].update(outputs={}), "a sentence: must state the outputs sentence_embedding"),
    (lambda s: s["cases"][0].pop("outputs"), "a sentence: must have outputs, and inputs attention_mask, input_ids"),
    (lambda s: s["cases"][0]["texts"][0].update(text="a"), "a sentence: not the text of that name"),
    (lambda s: s["cases"][0]["texts"][0].update(times=2), "a sentence: not the text of that name"),
    (lambda s: s.update(truncation={"max_length": 1}), 'truncation = {"max_length": 1}: must be {"max_length": 64}'),
    (lambda s: s["cases"][0]["outputs"].update(sentence_embedding=[1.0]), "has 16 numbers, stated are 1"),
]


@pytest.mark.parametrize(("edit", "line"), HOLES)
def test_a_set_holds_all_texts_and_outputs(edit: Callable[[dict[str, Any]], Any], line: str, folder: Path) -> None:
    change(folder, edit)
    assert line in refused(folder, opened(folder))


def test_a_case_feeds_the_graph_its_own_text(folder: Path) -> None:
    stated = json.loads((folder / CASES).read_text())
    first, second = stated["cases"][0], stated["cases"][4]
    change(folder, lambda s: s["cases"][0].update(inputs=second["inputs"], outputs=second["outputs"]))
    assert first["ids"] != second["ids"]
    assert refused(folder, opened(folder)) == f"{CASES}: a sentence: input_ids: not the tokens of its text"


def test_it_is_checked_with_a_bound_on_what_is_run(folder: Path) -> None:
    machine, (precision, cut) = opened(folder), how(folder)
    assert len(check_cases((folder / CASES).read_bytes(), *machine, precision, cut)) == len(TEXTS)

    def refusal(folder: Path) -> str:
        return refused(folder, machine, precision)

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
    assert refusal(folder) == f"{CASES}: a sentence: not the text of that name"
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
    assert truncation_of(made) == {"max_length": 512}


def test_the_runners_are_short_and_shipped(folder: Path) -> None:
    for name in RUNNERS:
        assert (folder / "conformance" / name).read_bytes() == (RUNNERS_FOLDER / name).read_bytes()
        assert len((RUNNERS_FOLDER / name).read_text().splitlines()) <= 55


def test_runners_of_earlier_releases_are_known() -> None:
    # Who changes a runner moves its old hash to allowed._EARLIER, and writes the new one here.
    assert {name: sha256(RUNNERS_FOLDER / name) for name in RUNNERS} == {
        "run.py": "1800078173b23c59107c5ebb0036671169a36b00a32ea3c1ad58a262d23d145c",
        "run.mjs": "050314e1e823c2f6ab591c2ff6cc39f039573e699f48fb09276349bc61984b79",
    }
    assert [len(allowed._shipped(name)) for name in RUNNERS] == [5, 4]


def test_what_is_made_of_a_hand_out_has_a_set_of_its_own(
    artifacts: Callable[..., Path], texts: Path, command: Command, tmp_path: Path
) -> None:
    """Not that of the fp32 graph, whose outputs and tolerance no int8 one keeps."""
    write_conformance(source := Path(shutil.copytree(artifacts() / "fp32", tmp_path / "fp32")))
    status, _, err = command("quantize", source, "--out", tmp_path / "int8", "--texts", texts)
    assert status == 0, err
    stated = json.loads((tmp_path / "int8" / CASES).read_text())
    assert stated["tolerance"] == tolerance("int8")
    assert [case["outputs"] for case in stated["cases"]] == [case["outputs"] for case in cases(tmp_path / "int8")]
    status, out, err = command("verify", tmp_path / "int8")
    assert status == 0, err
    assert "texts give the stated tokens and outputs" in out


def test_what_has_no_set_is_given_none(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    own_conformance(artifacts() / "fp32", tmp_path, "int8")
    assert list(tmp_path.iterdir()) == []
