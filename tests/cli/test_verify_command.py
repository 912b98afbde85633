"""``compressor verify`` of an artifact: measured against its student and teacher, and each mistake one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from beir import of_sentences
from commands import Command, refusal
from graphs import build_family
from questions import questions, write_squad

from compressor.answering.readers.base import tokenizer_of
from compressor.answering.readers.model import reader_of
from compressor.artifact.folder import writing
from exporters.verify.conformance import write_conformance

TEST = questions(60, seed=1)
LOOSE = ["--f1-drop", "100", "--exact-drop", "100", "--alone", "0.9"]


@pytest.fixture(scope="module")
def home(reader: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the whole artifacts ``fp32`` and ``int8`` of a reader, and ``test.json``."""
    home = tmp_path_factory.mktemp("verified")
    for name, made in {"fp32": "o", "int8": "q"}.items():
        with writing(home / name, f"artifacts/{name}", "key", {"precision": name}) as draft:
            shutil.copytree(reader / made, draft.folder, dirs_exist_ok=True)
            write_conformance(draft.folder, "int8" if name == "int8" else "fp32")
            (draft.folder / "README.md").write_text("# A reader\n")
    write_squad(home / "test.json", TEST)
    return home


def saved(encoder: Path, to: Path) -> Path:
    """Write an untrained reader on an encoder into ``to``."""
    reader_of(encoder).save_pretrained(to)
    tokenizer_of(encoder).save_pretrained(to)
    return to


def figures(printed: str) -> dict[str, Any]:
    return {f"{one['check']}: {one['figure']}": one for one in json.loads(printed) if "figure" in one}


def test_a_reader_is_measured_against_its_student(command: Command, home: Path, reader: Path) -> None:
    given = ["--student", reader / "torch", "--questions", home / "test.json", "--json"]
    status, out, err = command("verify", home / "fp32", *given)
    assert (status, err.count("error")) == (0, 0)
    found = figures(out)
    assert 0 < found["parity with PyTorch: max_difference"]["value"] < 1e-4
    assert found["answers: same_as_pytorch"]["value"] == found["batch invariance: same_answers"]["value"] == 1.0
    assert found["answers: f1_drop"]["value"] == 0.0
    assert found["answers: f1"]["value"] > 0
    assert found["fusions as run: attention"]["value"] == 4
    assert "answers: f1_of_teachers" not in found  # no teacher was given: nothing is made up
    assert all(one["passed"] for one in found.values())


def test_with_a_teacher_its_f1_is_a_bar(command: Command, home: Path, reader: Path) -> None:
    given = ["--student", reader / "torch", "--questions", home / "test.json", "--teacher", reader / "torch", "--json"]
    status, out, _ = command("verify", home / "fp32", *given)
    assert status == 0
    share = figures(out)["answers: f1_of_teachers"]
    assert share["value"] == pytest.approx(1.0)
    assert share["bar"] == 0.9
    line = refusal(command("verify", home / "fp32", *given[:-1], "--limit", "10", "--teacher", home / "test.json"))
    assert "no such folder, and not a name on the hub" in line


def test_an_encoder_is_measured_where_it_searches(
    command: Command, handed_out: Path, make_model: Callable[..., Path], texts: Path, tmp_path: Path
) -> None:
    model, beir = make_model(dense=16), of_sentences(tmp_path / "beir")
    given = ["--student", model, "--teacher", model, "--texts", texts, "--int8-cosine-mean", "0.9", "--retrieval", beir]
    status, out, err = command("verify", handed_out, *given, "--neighbours-at-10", "0", "--json")
    assert status == 0, err
    found = figures(out)
    assert 0.8 < found["retrieval: ndcg_at_10_of_teachers"]["value"] < 1.2
    assert found["retrieval: ndcg_at_10_of_teachers, beir"]["value"] == pytest.approx(
        found["retrieval: ndcg_at_10_of_teachers"]["value"]
    )
    assert 0.9 < found["agreement by length: cosine_mean_to_32"]["value"] < 1
    assert 0.5 < found["agreement with the teacher: ranking_kept"]["value"] <= 1


def test_int8_is_judged_as_int8(command: Command, home: Path, reader: Path) -> None:
    given = ["--student", reader / "torch", "--questions", home / "test.json"]
    status, out, err = command("verify", home / "int8", *given, *LOOSE)
    assert status == 0, err
    assert "integer_products = 16 (>= 16)" in out
    assert "pass  batch invariance: same_answers = " in out


def test_fewer_questions_are_read_with_a_limit(command: Command, home: Path, reader: Path) -> None:
    given = ["--student", reader / "torch", "--questions", home / "test.json", "--json", "--limit", "7"]
    status, out, _ = command("verify", home / "fp32", *given)
    assert status == 0
    exact = figures(out)["answers: exact"]["value"]
    assert exact * 7 / 100 == pytest.approx(round(exact * 7 / 100))


def test_another_student_misses_parity(
    command: Command, home: Path, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    other = saved(make_model(seed=1), tmp_path / "other")
    line = refusal(command("verify", home / "fp32", "--student", other, "--questions", home / "test.json"))
    assert line.startswith("error: verify fp32: parity with PyTorch: max_difference = ")
    assert line.endswith("must be <= 0.001; the bar is verify.parity")


def test_a_student_of_another_vocabulary_is_one_line(
    command: Command, home: Path, reader: Path, tmp_path: Path
) -> None:
    family = saved(build_family(tmp_path / "roberta", "roberta"), tmp_path / "family")
    line = refusal(command("verify", home / "fp32", "--student", family, "--questions", home / "test.json"))
    assert line.startswith(f"error: {family}: token ")
    assert "the model has vectors for" in line
    swapped = Path(shutil.copytree(reader / "torch", tmp_path / "swapped"))
    stated = json.loads((swapped / "tokenizer.json").read_text())
    words = stated["model"]["vocab"]
    words["cat"], words["dog"] = words["dog"], words["cat"]
    (swapped / "tokenizer.json").write_text(json.dumps(stated))
    line = refusal(command("verify", home / "fp32", "--student", swapped, "--questions", home / "test.json"))
    assert line == f"error: {swapped}: reads other tokens of the questions than {home / 'fp32'}; not its student"


def test_a_student_that_answers_nothing_is_one_line(command: Command, home: Path, tiny: Path) -> None:
    line = refusal(command("verify", home / "fp32", "--student", tiny, "--questions", home / "test.json"))
    assert line == f"error: {tiny}: no weights of a question-answering head; compressor finetune makes one"


def test_what_belongs_to_the_other_task_is_refused(
    command: Command, home: Path, reader: Path, tiny: Path, texts: Path, handed_out: Path
) -> None:
    artifact, asked = home / "fp32", home / "test.json"
    own, encoder = ["--student", reader / "torch"], ["--student", tiny]
    wanted = "--questions: a reader needs them, and takes no --texts; give a file in SQuAD's format"
    lines: list[tuple[str, tuple[Any, ...]]] = [
        (wanted, (artifact, *own, "--texts", texts)),
        (wanted, (artifact, *own)),
        (f"--questions {asked}: an option of readers; an encoder takes --texts",
         (handed_out, *encoder, "--questions", asked)),
        ("--neighbours-at-10: an option of sentence-embedding; the model is for question-answering",
         (artifact, *own, "--questions", asked, "--neighbours-at-10", "0.5")),
        ("--f1-drop: an option of question-answering; the model is for sentence-embedding",
         (handed_out, *encoder, "--f1-drop", "1")),
        ("--retrieval beir: an option of encoders; this artifact answers questions",
         (artifact, *own, "--questions", asked, "--retrieval", "beir")),
        ("verify.retrieval_share = 0.9: needs a collection in --retrieval",
         (handed_out, *encoder, "--retrieval-share", "0.9")),
        ("options: f1_drop = 101.0: input should be less than or equal to 100", (artifact, "--f1-drop", "101")),
    ]  # fmt: skip
    for line, words in lines:
        assert refusal(command("verify", *words)) == f"error: {line}"


@pytest.mark.parametrize(
    "words", [("--teacher", "x"), ("--texts", "x"), ("--questions", "x"), ("--limit", "3"), ("--retrieval", "x")]
)
def test_what_is_measured_on_needs_a_student(command: Command, home: Path, words: tuple[str, str]) -> None:
    line = refusal(command("verify", home / "fp32", *words))
    assert line == f"error: {words[0]}: an option of --student; without one, files and graph alone are checked"
