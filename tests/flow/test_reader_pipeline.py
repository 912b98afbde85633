"""A recipe for question answering, from encoder to artifacts, on a model that learns in seconds."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from questions import SHAPE, TRAINED, questions, write_reader_recipe, write_squad
from typer.testing import CliRunner

from benchmarks.quality.story import WORDS
from compressor.answering.questions.sets import QuestionSets
from compressor.answering.questions.spans import measure
from compressor.answering.questions.squad import Question, Questions, read_squad
from compressor.answering.readers.model import TorchReader
from compressor.answering.readers.reader import Reading, read_reading
from compressor.answering.readers.torch_int8 import load
from compressor.answering.training.steps import Step, check_steps
from compressor.artifact.layout import GRAPH
from compressor.artifact.workspace import Model
from compressor.cli.app import app
from compressor.core.config import load as load_recipe
from compressor.core.errors import CompressorError, GateError, RecipeError, TextError
from compressor.flow.ablation.reader import Judged, variants
from compressor.flow.answering import ReaderFlow, ReaderRecipe
from compressor.flow.base import run as walk
from exporters.loading import open_reader_of


def call(*words: str) -> Any:
    return CliRunner().invoke(app, list(words), catch_exceptions=False)


@pytest.fixture(scope="module")
def home(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("reader-run")
    done = call("run", str(write_reader_recipe(home, tiny)), "--runs", str(home / "runs"))
    assert done.exit_code == 0, done.output
    assert "questions/s" in done.output
    return home


@pytest.fixture(scope="module")
def results(home: Path) -> dict[str, Any]:
    return json.loads((home / "runs" / "answers" / "results.json").read_text())  # type: ignore[no-any-return]


def test_every_stage_answers_and_is_told(results: dict[str, Any]) -> None:
    told = {row["stage"]: row for row in results["story"]}
    assert list(told) == ["teacher", "distil-1", "distil-2", "distil-3", "quantize", "fp32", "int8"]
    assert told["teacher"]["answers"]["f1"] > 95
    assert told["distil-3"]["answers"]["f1"] > 90
    assert told["distil-3"]["answers"]["f1"] > told["distil-1"]["answers"]["f1"]
    assert told["distil-1"]["what"] == "hidden; on texts"
    assert told["distil-3"]["what"] == "labels and teacher's logits; on questions"
    assert told["fp32"]["answers"] == told["distil-3"]["answers"]
    assert told["int8"]["answers"]["f1"] > told["fp32"]["answers"]["f1"] - 5
    assert told["int8"]["size_bytes"] < told["fp32"]["size_bytes"] < told["teacher"]["size_bytes"]
    assert told["fp32"]["parameters"] == pytest.approx(told["distil-3"]["parameters"], rel=0.02)


def test_systems_are_measured_beside_the_teacher(results: dict[str, Any]) -> None:
    systems = results["bench"]["systems"]
    assert [s["name"] for s in systems] == ["teacher", "student", "torch-int8", "onnx-fp32", "onnx-int8"]
    for system in systems:
        assert system["offline"]["questions_per_second"] > 0
        assert len(system["offline"]["rounds"]) == 2
        assert system["single_stream"]["latency_ms_p50"] > 0
        assert system["peak_memory_bytes"] > 1e7
    assert systems[0]["offline"]["ratio"] == 1
    assert systems[-1]["answers"] == results["story"][-1]["answers"]
    assert results["bench"]["a_a"]["system"] == "onnx-int8"
    assert [row["tokens"] for row in systems[0]["by_length"]] == [32]
    assert results["bench"]["limit"]["by_length"][0]["questions_per_second"] > 0


def test_the_artifact_answers_with_plain_onnxruntime(home: Path) -> None:
    """By the model card's own snippet."""
    folder = home / "runs" / "answers" / "artifacts" / "fp32"
    card = (folder / "README.md").read_text()
    test = read_squad(home / "test.json")
    code = card.split("```python\n")[1].split("```")[0]
    made = []
    for one in test[:20]:
        lines = [line for line in code.splitlines() if not line.startswith("question, context")]
        names: dict[str, Any] = {"question": one.text, "context": one.context}
        text = "\n".join(lines).replace('"tokenizer.json"', repr(str(folder / "tokenizer.json")))
        exec(text.replace('"onnx/model.onnx"', repr(str(folder / GRAPH))), names)  # noqa: S102
        made.append(names["answer"])
    assert made == [one.text() for one in open_reader_of(folder).read(test[:20])]
    assert "base_model:" in card
    assert {value.name for value in onnxruntime.InferenceSession(str(folder / GRAPH)).get_outputs()} == {
        "start_logits",
        "end_logits",
    }


def test_pytorch_int8_answers_nearly_as_its_student(home: Path) -> None:
    run, test = home / "runs" / "answers", read_squad(home / "test.json")
    int8, student = load(run / "quantize"), TorchReader.load(run / "distil-3", Reading(**SHAPE))
    windows = student.cutter.cut(test)
    for own, its in zip(int8.logits(windows), student.logits(windows), strict=True):
        flat = [np.concatenate(side) for side in (own, its)]
        assert 0.99 < np.corrcoef(*flat)[0, 1] < 1 - 1e-9
    assert int8.reading == student.reading
    names = {type(m).__module__ for n, m in int8.model.named_modules() if "query" in n}
    assert all("quantized" in name for name in names)
    assert int8.model.qa_outputs.weight.equal(student.model.qa_outputs.weight)


@pytest.mark.slow
def test_a_second_run_does_nothing_again_and_a_changed_step_what_follows(home: Path, tiny: Path) -> None:
    runs = home / "runs"
    manifest = {p.parent.name: p.stat().st_mtime_ns for p in (runs / "answers").glob("*/manifest.json")}
    assert call("run", str(home / "answers.toml"), "--runs", str(runs)).exit_code == 0
    again = {p.parent.name: p.stat().st_mtime_ns for p in (runs / "answers").glob("*/manifest.json")}
    assert again == manifest
    flow = load_recipe(home / "answers.toml", ReaderRecipe)
    steps = (*flow.distil[:2], flow.distil[2].model_copy(update={"epochs": 5.0}))
    walk(ReaderFlow.of(flow.model_copy(update={"distil": steps}), home, runs), "")
    third = {p.parent.name: p.stat().st_mtime_ns for p in (runs / "answers").glob("*/manifest.json")}
    kept = {name for name in third if third[name] == manifest.get(name)}
    assert {"teacher", "augment", "distil-1", "distil-2"} <= kept
    assert not {"distil-3", "export", "int8", "verify", "story", "bench"} & kept


def test_the_page_says_what_was_measured(home: Path, results: dict[str, Any]) -> None:
    page = (home / "runs" / "answers" / "report.html").read_text()
    artifact = results["bench"]["systems"][-1]
    for text in (f"{artifact['answers']['f1']:.2f}", "Distil-2", "Questions/s", "<svg", "[[distil]]", "F1"):
        assert text in page
    assert page.count("<script") == 0
    (home / "runs" / "answers" / "report.html").unlink()
    assert call("report", str(home / "runs" / "answers")).exit_code == 0
    assert "Questions/s" in (home / "runs" / "answers" / "report.html").read_text()


def test_a_reader_is_evaluated_as_it_was_made_to_read(home: Path) -> None:
    test = read_squad(home / "test.json")
    for name in ("teacher", "quantize", "artifacts/int8"):
        folder = home / "runs" / "answers" / name
        assert read_reading(folder).max_length == 48
        done = call("evaluate", str(folder), str(home / "test.json"), "--json")
        wanted = measure(test, open_reader_of(folder).read(test), "1.1")
        assert json.loads(done.stdout) == pytest.approx(wanted)


def test_an_artifact_below_its_bar_is_not_handed_out(home: Path, tmp_path: Path) -> None:
    flow = load_recipe(home / "answers.toml", ReaderRecipe)
    bars = flow.verify.model_copy(update={"teacher_f1": 1.0, "f1_drop": 0.0})
    values = flow.model_copy(update={"name": "barred", "verify": bars, "distil": flow.distil[:1]})
    with pytest.raises(GateError, match=r"^verify (fp32|int8): answers: f1\w* = .*, must be"):
        walk(ReaderFlow.of(values, home, tmp_path), "")
    assert not (tmp_path / "barred" / "artifacts").exists()


@pytest.mark.slow
def test_questions_without_an_answer_get_a_threshold_of_each_readers_own(tiny: Path, tmp_path: Path) -> None:
    single = [TRAINED | {"layers": 3, "epochs": 6.0}]
    path = write_reader_recipe(
        tmp_path, tiny, "2.0", distil=single, verify={"f1_drop": 20.0, "exact_drop": 20.0, "teacher_f1": 0.5}
    )
    assert call("run", str(path), "--runs", str(tmp_path / "runs")).exit_code == 0
    run = tmp_path / "runs" / "answers"
    results = json.loads((run / "results.json").read_text())
    threshold = read_reading(run / "artifacts" / "int8").no_answer_threshold
    assert threshold is not None
    kept = {
        name: json.loads((run / "thresholds" / name / "threshold.json").read_text())["no_answer_threshold"]
        for name in ("distil", "teacher")
    }
    assert threshold == kept["distil"] != kept["teacher"]
    teacher = results["story"][0]["answers"]
    assert teacher["NoAns_f1"] > 50
    test = read_squad(tmp_path / "test.json")
    always = measure(test, TorchReader.load(run / "teacher", Reading(**SHAPE)).read(test), "2.0", None)
    assert teacher["f1"] > always["f1"] + 5
    assert results["questions"]["tune"]["questions"] > 0
    assert "No answer is given" in (run / "artifacts" / "int8" / "README.md").read_text()


def test_what_is_made_of_the_student_reads_as_it_does(tmp_path: Path) -> None:
    steps = [{"on": "texts", "prediction": 0.0, "hidden": 1.0}, {}]
    values = {"name": "r", "task": "question-answering", "questions": {"train": "x"}, "distil": steps}
    flow = ReaderFlow.of(ReaderRecipe.read(values), tmp_path, tmp_path)
    names = ("teacher", "distil-1", "distil-2", "quantize", "fp32", "int8")
    models = {name: Model(tmp_path / name, name) for name in names}
    flow.__dict__.update(teacher=models["teacher"], sets=SimpleNamespace(tune="some"))
    flow.readings.update({name: Reading(no_answer_threshold=float(i)) for i, name in enumerate(names[:3])})
    stages = flow.story_stages(models)
    assert [stage.model.key for stage in stages.values()] == list(names)
    assert [stage.reading.no_answer_threshold for stage in stages.values()] == [0, 1, 2, 2, 2, 2]
    assert [stage.what for stage in stages.values()] == [
        "sentence-transformers/all-MiniLM-L6-v2, as it is",
        "hidden; on texts",
        "labels and teacher's logits; on questions",
        *(WORDS[name] for name in names[3:]),
    ]


def _refused(values: Sequence[dict[str, Any]]) -> str:
    with pytest.raises(RecipeError) as error:
        check_steps([Step(**step) for step in values], 6)
    return str(error.value)


def test_steps_must_fit_each_other() -> None:
    check_steps([Step(layers=3), Step(prediction=0.0, hidden=1.0)], 6)
    assert _refused([{}, {"layers": 2}]) == "distil.1.layers: the first step alone makes the student; leave it out"
    assert _refused([{}, {"prediction": 0.0}]) == (
        "distil.1.prediction = 0 with no other loss: give at least one of them weight"
    )
    assert _refused([{"on": "texts"}]) == "distil.0.prediction = 1: plain texts have no answers; must be 0"
    assert _refused([{"layers": 7}]) == "distil.layers = 7: must be at most 6, the teacher's"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('task = "answers"', "task = 'answers': must be sentence-embedding or question-answering"),
        ('task = "question-answering"', "questions: missing"),
        (
            'task = "question-answering"\n[questions]\ntrain = "none.json"',
            "none.json: no such file",
        ),
        (
            'task = "question-answering"\n[questions]\ntrain = "x.json"\n[[distil]]\nlayer = 3',
            "distil.0.layer: unknown key; did you mean layers?",
        ),
    ],
)
def test_a_faulty_recipe_is_one_line(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "faulty.toml").write_text(line, "utf-8")
    with pytest.raises(CompressorError) as error:
        call("run", str(tmp_path / "faulty.toml"), "--runs", str(tmp_path / "runs"))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_judged_by_is_not_learnt(tmp_path: Path) -> None:
    asked = questions(30)
    write_squad(tmp_path / "train.json", asked)
    write_squad(tmp_path / "test.json", Questions(asked[20:], "1.1"))
    sets = QuestionSets(train="train.json", test="test.json").load(tmp_path)
    assert (len(sets.train), len(sets.test)) == (20, 10)
    assert not {one.context for one in sets.train} & {one.context for one in sets.test}
    with pytest.raises(TextError, match=r"nothing is left to learn$"):
        QuestionSets(train="test.json", test="train.json").load(tmp_path)
    marked = [replace(one, context=f"{one.context}!") for one in asked[20:]]
    write_squad(tmp_path / "marked.json", Questions(marked, "1.1"))
    assert len(QuestionSets(train="train.json", test="marked.json").load(tmp_path).train) == 20
    parted = QuestionSets(train="train.json", heldout=0.3).load(tmp_path)
    assert len(parted.train) + len(parted.test) == 30
    assert not set(parted.train.contexts) & set(parted.test.contexts)


def test_questions_without_an_answer_need_no_test_file(tmp_path: Path) -> None:
    write_squad(tmp_path / "train.json", questions(200, unanswerable=True))
    sets = QuestionSets(train="train.json").load(tmp_path)
    assert sets.tune is not None
    assert sets.tune.silent
    assert sets.test.silent
    assert len(sets.train) + len(sets.test) + len(sets.tune) == 200
    parts = [set(part.contexts) for part in (sets.train, sets.test, sets.tune)]
    assert len(set.union(*parts)) == sum(map(len, parts))


def test_a_file_without_a_version_takes_that_of_the_other(tmp_path: Path) -> None:
    write_squad(tmp_path / "train.json", questions(60, unanswerable=True))
    content = questions(20, seed=1).as_squad()
    del content["version"]
    (tmp_path / "test.json").write_text(json.dumps(content), "utf-8")
    sets = QuestionSets(train="train.json", test="test.json").load(tmp_path)
    assert (sets.train.version, sets.test.version) == ("2.0", "2.0")
    write_squad(tmp_path / "test.json", questions(20, seed=1))
    with pytest.raises(TextError, match=r"train\.json is version 2\.0, test\.json 1\.1$"):
        QuestionSets(train="train.json", test="test.json").load(tmp_path)


@pytest.mark.slow
def test_the_ablation_takes_one_ingredient_at_a_time(tiny: Path, tmp_path: Path) -> None:
    small = TRAINED | {"epochs": 0.5}
    states = small | {"prediction": 0.0, "hidden": 1.0, "on": "augmented", "layers": 2}
    path = write_reader_recipe(tmp_path, tiny, distil=[states, small | {"weight": 0.75, "temperature": 2.0}])
    done = call("ablation", str(path), "--runs", str(tmp_path / "runs"))
    assert done.exit_code == 0, done.output
    folder = tmp_path / "runs" / "answers"
    rows = json.loads((folder / "ablation.json").read_text())["rows"]
    found = {(row["group"], row["name"]): (row["f1"], row["exact"]) for row in rows}
    groups = [row["group"] for row in rows]
    assert groups == [""] + ["ingredients"] * 5 + ["temperature"] * 4 + ["weight"] * 4 + ["twice the epochs"] * 3
    assert found["ingredients", "labels alone"] == found["weight", "0"]
    assert found["ingredients", "+ prediction layer"] == found["weight", "0.75"] == found["temperature", "2"]
    made = [json.loads(path.read_text())["config"] for path in (folder / "variants").glob("*/manifest.json")]
    asked = {(one["weight"], one["temperature"]) for one in made if one["prediction"]}
    assert asked == {(0, 2), (0.5, 2), (0.75, 2), (1, 2), (0.75, 1), (0.75, 5), (0.75, 10)}
    assert {(one["weight"], one["temperature"]) for one in made if one["epochs"] == 1} == {(0, 2), (0.75, 2), (0.75, 5)}
    # weights 0, 0.5, 0.75, 1; temperatures 1, 5, 10; a fitted start; states on the questions with a last step; longer
    assert len(made) == 4 + 3 + 1 + 2 + 3
    assert {path.name for path in folder.glob("distil-*")} == {"distil-1", "distil-2"}  # the recipe's own are shared
    assert done.stdout.count("\n| ") == 1 + len(rows) - 1
    assert (folder / "ablation.md").read_text().strip() in done.stdout


def test_committed_variants_are_read_as_they_were_written() -> None:
    path = Path(__file__).parents[2] / "docs" / "figures" / "minilm-qa-ablation.json"
    rows = json.loads(path.read_text("utf-8"))["rows"]
    assert [json.dumps(Judged.read(row).as_dict()) for row in rows] == list(map(json.dumps, rows))
    story = {"stage": "distil", "what": "", "seconds": None, "parameters": 7, "size_bytes": 28}
    made = Judged.of("weight", "0.5", {**story, "answers": {"f1": 50.0, "exact": 25.0}})  # type: ignore[typeddict-item]
    assert made == Judged("weight", "0.5", 50.0, 25.0, {"f1": 50.0, "exact": 25.0}, 7)


def test_an_ablation_needs_answers_at_the_end() -> None:
    with pytest.raises(RecipeError, match=r"^distil\.0\.prediction = 0: the last step must teach answers$"):
        variants([Step(prediction=0.0, hidden=1.0)])


def test_what_would_stop_a_run_is_said_before_any_training(tiny: Path, tmp_path: Path) -> None:
    path, long = write_reader_recipe(tmp_path, tiny), questions(5, seed=7)
    tail = Question("the-long-one", "cat or dog " * 20, long[0].context, ())
    write_squad(tmp_path / "test.json", Questions([*long, replace(tail, answers=long[0].answers)], "1.1"))
    with pytest.raises(TextError, match=r'^question "the-long-one": \d+ tokens; at most 12 are read'):
        call("run", str(path), "--runs", str(tmp_path / "runs"))
    write_squad(tmp_path / "test.json", long)
    (tmp_path / "texts.txt").unlink()
    with pytest.raises(CompressorError, match=r"texts\.txt"):
        call("run", str(path), "--runs", str(tmp_path / "runs"))
    with pytest.raises(RecipeError, match=r"bench\.batch_sizes = \[\]"):
        call("run", str(path), "--set", "bench.batch_sizes=[]", "--runs", str(tmp_path / "runs"))
    assert not list((tmp_path / "runs").glob("*/teacher"))
