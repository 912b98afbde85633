"""A model's prompts are in its conformance set as sentence-transformers puts them; none are left out unseen."""

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
from packed import edit_json
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from compressor.artifact.cases import BEHIND, TEXTS, cases_behind
from compressor.artifact.folder import writing
from compressor.artifact.layout import CASES, GRAPH
from compressor.artifact.prompts import Prompts, kept_prompts
from compressor.artifact.runners.run import failures
from compressor.core.errors import ArtifactError
from compressor.models.sentence_model import open_model
from compressor.untrusted.inspection import Finding, inspect
from exporters.session import OnnxEncoder
from exporters.verify.closeness import of_cases
from exporters.verify.conformance import cases, write_conformance

USAGE = "config_sentence_transformers.json"
PROMPTS = {"query": "two red houses : ", "document": "here : ", "other": "new "}
COUNTS = {None: (27, 9), "other": (26, 26), "query": (23, 23)}  # of all cases, and of those behind a prompt


def with_prompts(folder: Path, to: Path, prompts: dict[str, str], default: str | None = None) -> Path:
    """Hand out a stage's folder with other prompts and a conformance set."""
    with writing(to, "artifacts/fp32", "key", {"precision": "fp32"}) as draft:
        shutil.copytree(folder, draft.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
        edit_json(draft.folder / USAGE, prompts=prompts, default_prompt_name=default)
        write_conformance(draft.folder)
    return to


@pytest.fixture
def plain(artifacts: Callable[..., Path]) -> Path:
    return artifacts() / "fp32"


@pytest.fixture
def folder(plain: Path, tmp_path: Path) -> Path:
    """Return a hand-out with prompts, none of them a default."""
    return with_prompts(plain, tmp_path / "prompted", PROMPTS)


def stated(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / CASES).read_text())["cases"]
    return found


def change(folder: Path, edit: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Change the cases, and the manifest with them."""
    whole = json.loads((folder / CASES).read_text())
    edit(whole["cases"])
    (folder / CASES).write_text(json.dumps(whole))
    reseal(folder)


def by_sentence_transformers(model: SentenceTransformer, name: str | None, text: str) -> Any:
    if name in ("query", "document"):
        return (model.encode_query if name == "query" else model.encode_document)([text])[0]
    return model.encode([text], prompt_name=name)[0]


@pytest.mark.parametrize("default", COUNTS)
def test_cases_are_what_sentence_transformers_gives(
    default: str | None, plain: Path, tiny: Path, tmp_path: Path
) -> None:
    model = open_model(tiny)
    model.prompts.update(PROMPTS)
    model.default_prompt_name = default
    encoder = OnnxEncoder(made := with_prompts(plain, tmp_path / "made", PROMPTS, default), threads=1)
    found = stated(made)
    assert len(found) == COUNTS[default][0]
    for case in found:
        ((text, times),) = [(part["text"], part["times"]) for part in case["texts"]]
        name, prompt, whole = case.get("prompt_name"), case.get("prompt", ""), text * times
        assert prompt == (PROMPTS[name] if name else PROMPTS.get(default or "", ""))
        assert encoder.tokenize([whole], prompt) == [case["ids"]]
        wanted = np.array(case["outputs"]["sentence_embedding"])
        assert np.abs(encoder.encode([whole], prompt_name=name)[0] - wanted).max() < 1e-6
        assert np.abs(by_sentence_transformers(model, name, whole) - wanted).max() < 1e-5


def test_a_prompt_changes_ids_and_vectors_and_what_is_cut(folder: Path) -> None:
    found = {case["name"]: case for case in stated(folder)}
    behind = [f"{text}, prompt {name!r}" for name in ("query", "document") for text in BEHIND]
    assert [*found] == [*TEXTS, *behind, "a sentence, prompt 'other'"]
    prompt = OnnxEncoder(folder, threads=1).tokenize([PROMPTS["query"]])[0][:-1]
    for name in BEHIND:
        own, plain = found[f"{name}, prompt 'query'"], found[name]
        assert own["ids"][: len(prompt)] == prompt
        assert own["ids"] == [*prompt, *plain["ids"][1:]] or len(own["ids"]) == len(plain["ids"]) == 64
        off = np.array(own["outputs"]["sentence_embedding"]) - np.array(plain["outputs"]["sentence_embedding"])
        assert np.abs(off).max() > 1e-3


def test_without_prompts_the_set_is_as_it_was(plain: Path, tmp_path: Path) -> None:
    none = with_prompts(plain, tmp_path / "none", {"query": "", "document": ""})
    bare = Path(shutil.copytree(plain, tmp_path / "bare"))
    (bare / USAGE).unlink()
    write_conformance(bare)
    assert (none / CASES).read_bytes() == (bare / CASES).read_bytes()
    assert b"prompt" not in (none / CASES).read_bytes()
    assert [case["name"] for case in stated(none)] == list(TEXTS)
    *_, last = inspect(none)
    assert last.found == "18 texts give the stated tokens and outputs"


def test_a_readers_set_has_no_prompts(tmp_path: Path) -> None:
    (tmp_path / USAGE).write_text(json.dumps({"prompts": PROMPTS, "default_prompt_name": "query"}))
    assert len(cases_behind(kept_prompts(tmp_path))) == COUNTS["query"][0]
    (tmp_path / "reading.json").write_text("{}")
    assert kept_prompts(tmp_path) == Prompts({})


def test_prompts_of_many_names_are_bounded() -> None:
    many = {f"task {number:03}": f"do {number} : " for number in range(200)}
    found = cases_behind(Prompts({"query": "q : ", "passage": "p : ", **many}))
    assert [case.prompt_name for case in found[18::4]][:2] == ["query", "passage"]
    assert [case.prompt_name for case in found[26:]] == [f"task {number:03}" for number in range(16)]
    assert cases_behind(Prompts({"a\x1b\n" * 20: "b"}))[18].name == "a sentence, prompt " + repr("a\x1b\n" * 20)[:40]


@pytest.mark.parametrize("default", COUNTS)
def test_verify_and_the_runner_hold_them(default: str | None, plain: Path, tmp_path: Path) -> None:
    made = with_prompts(plain, tmp_path / "made", PROMPTS, default)
    *_, last = inspect(made)
    count, behind = COUNTS[default]
    found = f"{count} texts, {behind} of them behind a prompt, give the stated tokens and outputs"
    assert last == Finding("conformance", found)
    done = subprocess.run([sys.executable, made / "conformance/run.py"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "conforms\n", "")
    assert of_cases(made, made).count == count


class Forgetful:
    """A runtime's tokenizer that leaves the prompt of queries out."""

    def __init__(self, path: Path) -> None:
        self._own = Tokenizer.from_file(str(path))
        self.no_padding, self.enable_truncation = self._own.no_padding, self._own.enable_truncation

    def encode(self, text: str) -> Any:
        return self._own.encode(text.removeprefix(PROMPTS["query"]))


def test_a_runtime_that_puts_no_prompt_is_told(folder: Path) -> None:
    whole = json.loads((folder / CASES).read_text())
    session = onnxruntime.InferenceSession(folder / GRAPH, providers=["CPUExecutionProvider"])
    found = list(failures(whole, Forgetful(folder / "tokenizer.json"), session))
    assert found == [f"{text}, prompt 'query': token ids differ" for text in BEHIND]


FIRST = len(TEXTS)  # the number of the first case behind a prompt of its own
HOLES: list[tuple[Callable[[list[dict[str, Any]]], Any], str]] = [
    (
        lambda found: found.pop(FIRST),
        "the 27 hard texts of every set and of its model's prompts: \"a sentence, prompt 'query'\" is missing",
    ),
    (lambda found: found.append(found[FIRST]), "and of its model's prompts: others are among them"),
    (lambda found: found[FIRST].update(prompt="elsewhere "), "a sentence, prompt 'query': not the model's prompt"),
    (lambda found: found[FIRST].update(prompt_name="other"), "a sentence, prompt 'query': not the model's prompt"),
    (lambda found: found[FIRST].pop("prompt"), "a sentence, prompt 'query': not the model's prompt"),
    (lambda found: found[FIRST].update(prompt=3), "not the cases of an artifact: TypeError"),
    (lambda found: found[0].update(prompt="new "), "a sentence: not the model's prompt"),
    (
        lambda found: found[FIRST].update({key: found[0][key] for key in ("ids", "inputs", "outputs")}),
        "does not conform on this machine: a sentence, prompt 'query': token ids differ",
    ),
    (
        lambda found: found[FIRST].update({key: found[0][key] for key in ("inputs", "outputs")}),
        "a sentence, prompt 'query': input_ids: not the tokens of its text",
    ),
]


@pytest.mark.parametrize(("edit", "line"), HOLES)
def test_a_set_holds_the_models_prompts(edit: Callable[[list[dict[str, Any]]], Any], line: str, folder: Path) -> None:
    change(folder, edit)
    with pytest.raises(ArtifactError) as caught:
        list(inspect(folder))
    assert line in str(caught.value)


def test_other_prompts_than_the_models_are_refused(folder: Path) -> None:
    edit_json(folder / USAGE, prompts=PROMPTS | {"document": "there : "})
    reseal(folder)
    with pytest.raises(ArtifactError, match="a sentence, prompt 'document': not the model's prompt$"):
        list(inspect(folder))


@pytest.mark.parametrize("default", [None, "query"])
def test_a_set_of_an_earlier_release_passes_and_says_what_it_leaves_out(
    default: str | None, plain: Path, tmp_path: Path
) -> None:
    earlier = with_prompts(plain, tmp_path / "earlier", {})
    edit_json(earlier / USAGE, prompts=PROMPTS, default_prompt_name=default)
    reseal(earlier)
    *_, conformance, last = inspect(earlier)
    assert conformance == Finding("conformance", "18 texts give the stated tokens and outputs")
    assert (last.check, last.checked) == ("prompts", False)
    assert last.found == (
        "conformance/cases.json has no text behind the model's prompts (3), as of earlier releases: what they make was "
        "compared with nothing"
    )


def test_prompts_that_pooling_leaves_out_are_refused(folder: Path, plain: Path, tmp_path: Path) -> None:
    edit_json(folder / "1_Pooling/config.json", include_prompt=False)
    reseal(folder)
    line = f"{folder}: prompt 'document': its pooling leaves prompts out, which a graph cannot"
    for use in (lambda: list(inspect(folder)), lambda: list(cases(folder))):
        with pytest.raises(ArtifactError) as caught:
            use()
        assert str(caught.value) == line
    empty = with_prompts(plain, tmp_path / "empty", {"query": "", "other": ""})
    edit_json(empty / "1_Pooling/config.json", include_prompt=False)
    reseal(empty)
    *_, last = inspect(empty)
    assert last.found == "18 texts give the stated tokens and outputs"
