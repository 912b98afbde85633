"""A smaller reader learns its teacher's answers, logits and states, each where it is asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from questions import SHAPE, questions, write_squad
from typer.testing import CliRunner

from compressor.answering.questions.spans import measure
from compressor.answering.questions.windows import padded
from compressor.answering.readers.model import TorchReader, check_reader, open_reader
from compressor.answering.readers.reader import Reading
from compressor.answering.training import distil
from compressor.answering.training import train as training
from compressor.answering.training.distil import ReaderDistil, teacher_logits
from compressor.answering.training.finetune import Finetune
from compressor.answering.training.start import make_student
from compressor.answering.training.train import ReaderLoss
from compressor.artifact.folder import Draft
from compressor.cli.app import app
from compressor.core.errors import ModelError, RecipeError
from compressor.distil.student.layers import find_layers
from compressor.distil.training.states import Matching

TRAIN, TEST = questions(400), questions(80, seed=1)
FIELDS = SHAPE | {"precision": "fp32", "batch_size": 16, "layers": 2, "learning_rate": 2e-3, "epochs": 4.0,
          "start": "copied"}  # fmt: skip
READING = Reading(**SHAPE)


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPRESSOR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def teacher(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("teacher")
    (home / "reader").mkdir()
    settings = SHAPE | {"precision": "fp32", "learning_rate": (3e-3,), "epochs": (10.0,)}
    Finetune(**settings).run(tiny, TRAIN, home / "checkpoints", Draft(home / "reader"))
    return home / "reader"


def made(teacher: Path, home: Path, student: Path | None = None, **fields: Any) -> Draft:
    (home / "student").mkdir(parents=True, exist_ok=True)
    draft = Draft(home / "student")
    ReaderDistil(**FIELDS | fields).run(teacher, TRAIN, home / "checkpoints", draft, student)
    return draft


def test_a_student_chooses_its_own_threshold(teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "student").mkdir()
    draft, asked = Draft(tmp_path / "student"), questions(100, unanswerable=True)
    ReaderDistil(**FIELDS | {"epochs": 0.2}).run(teacher, asked, tmp_path / "checkpoints", draft)
    kept, tune = asked.split(0.1, 0, "threshold")
    assert draft.figures["windows"] == len(kept)
    assert draft.figures["chosen_on"]["total"] == len(tune)
    assert TorchReader.load(draft.folder).reading.no_answer_threshold == draft.figures["no_answer_threshold"]


def f1(folder: Path) -> float:
    return measure(TEST, TorchReader.load(folder, READING).read(TEST), "1.1")["f1"]


def distance(folder: Path, teacher: Path) -> float:
    """Return the mean squared distance of logits to the teacher's, each less its mean."""
    readers = [TorchReader.load(one, READING) for one in (folder, teacher)]
    windows = readers[0].cutter.cut(TEST)
    pairs = [[row[w.tokens] for row, w in zip(r.logits(windows)[0], windows, strict=True)] for r in readers]
    return float(np.mean([((a - a.mean() - b + b.mean()) ** 2).mean() for a, b in zip(*pairs, strict=True)]))


@pytest.fixture(scope="module")
def plain(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a student of the labels alone."""
    return made(teacher, tmp_path_factory.mktemp("plain"), weight=0.0).folder


@pytest.mark.parametrize("match", ["kl", "mse"])
def test_the_teachers_logits_are_learnt(teacher: Path, plain: Path, tmp_path: Path, match: str) -> None:
    student = made(teacher, tmp_path, weight=1.0, match=match)
    assert check_reader(student.folder)["num_hidden_layers"] == 2
    assert student.figures["layers"] == [0, 3]
    assert distance(student.folder, teacher) < 0.9 * distance(plain, teacher)
    assert f1(student.folder) > 60


def states(folder: Path, teacher: Path) -> dict[str, float]:
    """Return the losses of the states on unseen questions."""
    return _states_of(open_reader(folder), teacher)


def _states_of(own: Any, teacher: Path) -> dict[str, float]:
    wanted = open_reader(teacher)
    matching = Matching(wanted, own, (1, 3), (1, 3), {"hidden", "attention", "embeddings"})
    windows = TorchReader.load(teacher, READING).cutter.cut(TEST)
    features = {name: torch.from_numpy(value) for name, value in padded(windows).items()}
    with torch.no_grad():
        own(**features)
        return {name: value.item() for name, value in matching(features).items()}


@pytest.mark.parametrize("name", ["hidden", "attention", "embeddings"])
def test_states_come_nearer_where_they_are_asked_for(teacher: Path, plain: Path, tmp_path: Path, name: str) -> None:
    student = made(teacher, tmp_path, prediction=0.0, **{name: 1.0})
    assert student.figures["matched"] == [1, 3]
    assert states(student.folder, teacher)[name] < 0.85 * states(plain, teacher)[name]


def test_fitted_layers_start_nearer_to_the_teacher(teacher: Path) -> None:
    model = open_reader(teacher)
    windows = TorchReader.load(teacher, READING).cutter.cut(TRAIN)
    starts = {start: make_student(model, (0, 3), start, windows, 0) for start in ("copied", "fitted", "auto")}
    for start, student in starts.items():
        assert len(find_layers(student)[2]) == student.config.num_hidden_layers == 2, start
    copied, fitted = (_states_of(starts[start], teacher)["hidden"] for start in ("copied", "fitted"))
    assert fitted < 0.8 * copied
    same = zip(starts["auto"].state_dict().values(), starts["fitted"].state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in same)
    layers = find_layers(starts["copied"])[2].state_dict()
    assert torch.equal(layers["1.output.dense.weight"], find_layers(model)[2].state_dict()["3.output.dense.weight"])
    assert torch.equal(starts["fitted"].qa_outputs.weight, model.qa_outputs.weight)
    turned = make_student(model, (3, 0), "auto", windows, 0)  # only what ascends can be fitted
    assert torch.equal(find_layers(turned)[2].state_dict()["0.output.dense.weight"], layers["1.output.dense.weight"])
    with pytest.raises(RecipeError, match=r"^distil\.layers = \[3, 0\]: must ascend for distil\.start = 'fitted'$"):
        make_student(model, (3, 0), "fitted", windows, 0)


def test_a_later_step_goes_on_from_the_student_of_an_earlier(teacher: Path, tmp_path: Path) -> None:
    first = made(teacher, tmp_path / "1", prediction=0.0, hidden=1.0, epochs=1.0)
    second = made(teacher, tmp_path / "2", first.folder, epochs=0.05, learning_rate=1e-6)
    one, other = (open_reader(step.folder).state_dict() for step in (first, second))
    assert all(torch.allclose(one[name], other[name], atol=1e-4) for name in one)
    assert second.figures["layers"] is None


def test_the_teachers_logits_are_computed_once(teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESSOR_CACHE", str(tmp_path))
    reader = TorchReader.load(teacher, READING)
    windows = reader.cutter.cut(TEST[:9])
    first = teacher_logits(reader, teacher, windows)
    monkeypatch.setattr(TorchReader, "run", None)
    again = teacher_logits(reader, teacher, windows)
    for side, same in zip(first, again, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(side, same, strict=True))
        assert [len(row) for row in side] == [len(window.ids) for window in windows]
    assert [path.suffix for path in (tmp_path / "logits").iterdir()] == [".npy"]
    with pytest.raises(TypeError):  # others are not there yet
        teacher_logits(reader, teacher, windows[:5])


def test_a_stopped_training_goes_on_with_its_maps(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The students' widths are those of the teacher here, so a map is put in."""
    between = distil.Matching

    def wide(*given: Any) -> Matching:
        one = between(*given)
        one.embedded = torch.nn.Linear(32, 32, bias=False)
        torch.nn.init.eye_(one.embedded.weight)
        return one

    monkeypatch.setattr(distil, "Matching", wide)
    fields = {"embeddings": 1.0, "hidden": 1.0, "prediction": 0.0, "epochs": 1.0, "checkpoint_steps": 5}
    seen: list[torch.Tensor] = []
    forward = ReaderLoss.forward

    def kept(loss: Any, model: Any, inputs: Any) -> Any:
        seen.append(loss.matching.embedded.weight.detach().clone())
        return forward(loss, model, inputs)

    monkeypatch.setattr(ReaderLoss, "forward", kept)
    whole = made(teacher, tmp_path / "whole", **fields)
    last = seen[-1]
    with monkeypatch.context() as patch:

        def stopped(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 12:
                raise KeyboardInterrupt

        patch.setattr(training.loop.Progress, "on_step_end", stopped)
        with pytest.raises(KeyboardInterrupt):
            made(teacher, tmp_path / "again", **fields)
    again = made(teacher, tmp_path / "again", **fields)
    assert again.figures["resumed_at_step"] == 10
    assert (last - torch.eye(32)).abs().max() > 1e-3
    assert torch.allclose(seen[-1], last, atol=1e-5)
    one, other = (open_reader(student.folder).state_dict() for student in (whole, again))
    assert all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)


@pytest.mark.parametrize(
    ("fields", "count", "matched"),
    [
        ({}, 2, (2, 5)),
        ({}, 4, (1, 2, 3, 5)),  # counts need not divide
        ({"match_layers": "last"}, 2, (4, 5)),
        ({"match_layers": (5, 0)}, 2, (5, 0)),
    ],
)
def test_maps_of_layers(fields: dict[str, Any], count: int, matched: tuple[int, ...]) -> None:
    assert ReaderDistil(**fields).matched(6, count) == matched


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"layers": 7}, "distil.layers = 7: must be at most 6, the teacher's"),
        ({"layers": (0, 6)}, "distil.layers = [0, 6]: layer 6 is not in 0..5"),
        ({"match_layers": (0,), "layers": 2}, "distil.match_layers = [0]: 1 layers for the student's 2; give one each"),
        ({"match_layers": (0, 9), "layers": 2}, "distil.match_layers = [0, 9]: layer 9 is not in 0..5"),
        ({"prediction": 0.0}, "distil.prediction = 0 with no other loss: give at least one of them weight"),
    ],
)
def test_what_cannot_be_taught(fields: dict[str, Any], line: str) -> None:
    with pytest.raises(RecipeError) as caught:
        ReaderDistil(**fields).check(6)
    assert str(caught.value) == line


def test_a_student_of_another_tokenizer_is_refused(teacher: Path, plain: Path, tmp_path: Path) -> None:
    import json
    import shutil

    other = shutil.copytree(plain, tmp_path / "other")
    stated = json.loads((other / "tokenizer.json").read_text("utf-8"))
    vocabulary = stated["model"]["vocab"]
    vocabulary["cats"] = vocabulary.pop("cat")
    (other / "tokenizer.json").write_text(json.dumps(stated), "utf-8")
    with pytest.raises(ModelError, match="its tokenizer is another than the teacher's; windows would not be the same$"):
        made(teacher, tmp_path, other)


def test_the_command(teacher: Path, tmp_path: Path) -> None:
    train = write_squad(tmp_path / "train.json", TRAIN)
    line = f"distil-reader {teacher} {train} --out {tmp_path / 'student'} --layers 1 --epochs 0.2 --precision fp32"
    shown = CliRunner().invoke(app, f"{line} --max-length 48 --stride 8 --max-question 12".split())
    assert shown.exit_code == 0, shown.output
    assert check_reader(tmp_path / "student")["num_hidden_layers"] == 1
    assert not list(tmp_path.glob(".*checkpoints*"))
