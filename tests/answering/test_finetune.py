"""An encoder learns to answer from labels, and what is saved answers as what was trained."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import random_transformer
from questions import questions, write_squad
from transformers import AutoModelForQuestionAnswering, AutoTokenizer
from typer.testing import CliRunner

from compressor.answering.questions.spans import measure
from compressor.answering.questions.squad import Questions
from compressor.answering.readers.attention import keep_attention
from compressor.answering.readers.model import TorchReader, check_reader, open_reader
from compressor.answering.readers.reader import Reader, Reading, read_reading
from compressor.answering.training.finetune import Finetune
from compressor.artifact.folder import Artifact, Draft
from compressor.cli.app import app
from compressor.core.errors import ModelError, TextError

TRAIN, TEST = questions(400), questions(80, seed=1)
FIELDS: dict[str, Any] = {"max_length": 48, "stride": 8, "max_question": 12, "precision": "fp32", "batch_size": 16}
READING = Reading(max_length=48, stride=8, max_question=12)


def tuned(encoder: Path, home: Path, asked: Questions = TRAIN, **fields: Any) -> Draft:
    (home / "reader").mkdir(parents=True)
    draft = Draft(home / "reader")
    settings = FIELDS | {"learning_rate": (3e-3,), "epochs": (10.0,)} | fields
    Finetune(**settings).run(encoder, asked, home / "checkpoints", draft)
    return draft


@pytest.fixture(scope="module")
def reader(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tuned(tiny, tmp_path_factory.mktemp("tuned")).folder


def f1(folder: Path, asked: Questions = TEST, threshold: float | None = None) -> float:
    made = TorchReader.load(folder, READING).read(asked)
    return measure(asked, made, asked.version, threshold)["f1"]


def test_it_learns_to_answer_questions_that_it_has_not_seen(reader: Path, tiny: Path, tmp_path: Path) -> None:
    assert f1(reader) > 85
    assert f1(tuned(tiny, tmp_path, epochs=(0.01,)).folder) < 50


def test_the_folder_is_transformers_own(reader: Path) -> None:
    assert {path.name for path in reader.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert check_reader(reader)["architectures"] == ["BertForQuestionAnswering"]
    model = AutoModelForQuestionAnswering.from_pretrained(reader).eval()
    tokenizer = AutoTokenizer.from_pretrained(reader)
    ours = TorchReader.load(reader, READING)
    windows = ours.cutter.cut(TEST[:3])
    starts, ends = ours.logits(windows)
    for window, start, end in zip(windows, starts, ends, strict=True):
        one = TEST[window.question]
        made = model(**tokenizer(one.text, one.context, return_tensors="pt"))
        np.testing.assert_allclose(start, made.start_logits[0].detach().numpy(), atol=1e-5)
        np.testing.assert_allclose(end, made.end_logits[0].detach().numpy(), atol=1e-5)


def test_a_reader_answers_lists_of_texts(reader: Path) -> None:
    ours: Any = TorchReader.load(reader, READING)
    assert isinstance(ours, Reader)
    one = TEST[0]
    (made,) = ours.answer([one.text], [one.context])
    assert made == ours.read([one])[0]
    assert one.context[made.spans[0].start : made.spans[0].end] == made.spans[0].text
    assert ours.answer([], []) == []
    for wrong in (([one.text], []), (one.text, one.context)):
        with pytest.raises(
            TextError, match=r"^questions( and contexts)?: (give two lists of texts|one text was given where a list)"
        ):
            ours.answer(*wrong)


def test_answers_do_not_depend_on_the_batch(reader: Path) -> None:
    ours = TorchReader.load(reader, READING)
    alone, together = ours.read(TEST[:20], batch_size=1), ours.read(TEST[:20], batch_size=20)
    for one, other in zip(alone, together, strict=True):
        assert one.spans[0].text == other.spans[0].text
        assert one.spans[0].score == pytest.approx(other.spans[0].score, abs=1e-4)


def test_the_best_of_several_settings_is_trained_on_all(tiny: Path, tmp_path: Path) -> None:
    made = tuned(tiny, tmp_path, learning_rate=(1e-6, 3e-3), epochs=(0.5, 2.0), heldout=0.2)
    tries = made.figures["tries"]
    assert [(one["learning_rate"], one["epochs"]) for one in tries] == [(1e-6, 0.5), (1e-6, 2), (3e-3, 0.5), (3e-3, 2)]
    best = max(tries, key=lambda one: one["f1"])
    assert (made.figures["learning_rate"], made.figures["epochs"]) == (best["learning_rate"], best["epochs"])
    assert best["learning_rate"] == 3e-3
    assert made.figures["windows"] == 400
    assert not list((tmp_path / "checkpoints").glob("*/checkpoint-*"))


def test_a_stopped_search_goes_on(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[float] = []
    train, rates = Finetune._trained, (1e-6, 3e-3, 2e-3)

    def stopped(self: Any, encoder: Any, asked: Any, rate: float, *rest: Any) -> Any:
        if len(trained) == 2:
            trained.clear()
            raise KeyboardInterrupt
        trained.append(rate)
        return train(self, encoder, asked, rate, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Finetune, "_trained", stopped)
        with pytest.raises(KeyboardInterrupt):
            tuned(tiny, tmp_path, learning_rate=rates, epochs=(1.0,), heldout=0.2)
        (tmp_path / "reader").rmdir()
        made = tuned(tiny, tmp_path, learning_rate=rates, epochs=(1.0,), heldout=0.2)
    assert trained == [2e-3, made.figures["learning_rate"]]
    assert [one["learning_rate"] for one in made.figures["tries"]] == list(rates)


def test_silence_is_learnt_where_there_is_no_answer(tiny: Path, tmp_path: Path) -> None:
    made = tuned(tiny, tmp_path, questions(400, unanswerable=True))
    asked = questions(80, seed=1, unanswerable=True)
    assert f1(made.folder, asked, threshold=0.0) > f1(made.folder, asked) + 15


def test_readers_of_questions_without_an_answer_know_when_to_be_silent(tiny: Path, tmp_path: Path) -> None:
    asked, test = questions(400, unanswerable=True), questions(80, seed=1, unanswerable=True)
    made = tuned(tiny, tmp_path, asked, learning_rate=(1e-6, 3e-3), epochs=(5.0,))
    own = TorchReader.load(made.folder)
    chosen = own.reading.no_answer_threshold
    assert chosen is not None
    assert made.figures["no_answer_threshold"] == chosen
    kept, tune = asked.split(0.1, 0, "threshold")
    assert made.figures["windows"] == len(kept)
    assert made.figures["chosen_on"]["total"] == len(tune)
    assert all({"HasAns_f1", "NoAns_f1"} <= one.keys() for one in made.figures["tries"])
    found = measure(test, own.read(test), "2.0")
    assert found["NoAns_f1"] > 20
    assert found["f1"] > f1(made.folder, test) + 5


def test_a_threshold_that_is_stated_is_not_chosen(tiny: Path, tmp_path: Path) -> None:
    made = tuned(tiny, tmp_path, questions(40, unanswerable=True), epochs=(0.1,), no_answer_threshold=1.5)
    assert read_reading(made.folder).no_answer_threshold == 1.5
    assert made.figures["windows"] == 40


def test_the_weights_are_averaged_over_the_last_steps(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compressor.answering.training import train as training

    seen, step = [], training.loop.Progress.on_step_end

    def watched(self: Any, args: Any, state: Any, control: Any, model: Any = None, **rest: Any) -> None:
        seen.append({name: weight.detach().clone() for name, weight in model.named_parameters()})
        step(self, args, state, control, **rest)

    monkeypatch.setattr(training.loop.Progress, "on_step_end", watched)
    made = tuned(tiny, tmp_path, epochs=(1.0,), average=0.2)
    assert len(seen) == 25
    found = dict(open_reader(made.folder).named_parameters())
    for name, weight in found.items():
        mean = sum(weights[name].double() for weights in seen[-5:]) / 5
        assert np.allclose(weight.detach(), mean, atol=1e-6), name
    moved = max(float((weight.detach() - seen[-1][name]).abs().max()) for name, weight in found.items())
    assert moved > 1e-5


@pytest.mark.parametrize("average", [0.0, 0.8])
def test_a_stopped_training_goes_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, average: float
) -> None:
    from compressor.answering.training import train as training

    whole = tuned(tiny, tmp_path / "whole", epochs=(1.0,), checkpoint_steps=5, average=average)
    with monkeypatch.context() as patch:

        def stopped(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 12:
                raise KeyboardInterrupt

        patch.setattr(training.loop.Progress, "on_step_end", stopped)
        with pytest.raises(KeyboardInterrupt):
            tuned(tiny, tmp_path / "again", epochs=(1.0,), checkpoint_steps=5, average=average)
    (tmp_path / "again" / "reader").rmdir()
    again = tuned(tiny, tmp_path / "again", epochs=(1.0,), checkpoint_steps=5, average=average)
    assert again.figures["resumed_at_step"] == 10
    one, other = (open_reader(made.folder).state_dict() for made in (whole, again))
    assert all(np.allclose(one[name], other[name], atol=1e-5) for name in one)


def test_the_commands(tiny: Path, tmp_path: Path) -> None:
    train, test = write_squad(tmp_path / "train.json", TRAIN), write_squad(tmp_path / "test.json", TEST)
    options = ["--max-length", "48", "--stride", "8", "--max-question", "12"]
    words = ["finetune", str(tiny), str(train), "--out", str(tmp_path / "reader"), *options, "--epochs", "4"]
    made = CliRunner().invoke(app, [*words, "--learning-rate", "3e-3", "--precision", "fp32"])
    assert made.exit_code == 0, made.output
    assert Artifact.open(tmp_path / "reader").manifest["figures"]["epochs"] == 4
    assert not list(tmp_path.glob(".*checkpoints*"))
    shown = CliRunner().invoke(app, ["evaluate", str(tmp_path / "reader"), str(test), "--json", *options])
    assert json.loads(shown.stdout)["f1"] == pytest.approx(f1(tmp_path / "reader"))
    plain = CliRunner().invoke(app, ["evaluate", str(tmp_path / "reader"), str(test), *options])
    assert "total: 80" in plain.output


def test_what_is_no_reader_is_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no weights of a question-answering head; compressor finetune makes one$"):
        TorchReader.load(tiny)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match=r"model\.safetensors: no such file, and no .*; weights must be safetensors$"):
        TorchReader.load(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"weights are pickled \(pytorch_model\.bin\); only safetensors is read, "):
        TorchReader.load(tmp_path)


@pytest.mark.parametrize(
    ("family", "place"),
    [
        ("Bert", ".self."),
        ("Roberta", ".self."),
        ("Electra", ".self."),
        ("DistilBert", "attention.dropout"),
        ("MPNet", ".attn."),
    ],
)
def test_attention_is_not_dropped_and_states_are(family: str, place: str) -> None:
    model = random_transformer(family, attn_implementation="eager")
    keep_attention(model)
    kept = {name: m.p for name, m in model.named_modules() if isinstance(m, torch.nn.Dropout)}
    inner = {name: p for name, p in kept.items() if place in name}
    assert inner
    assert set(inner.values()) == {0.0}
    assert {p for name, p in kept.items() if name not in inner} == {0.1}
    ids = torch.randint(1, 50, (2, 9))
    model.train()
    seen = model(input_ids=ids, output_attentions=True).attentions
    assert all(torch.allclose(one.sum(-1), torch.ones(()), atol=1e-5) for one in seen)


def test_too_few_contexts_to_choose_by(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"^heldout = 0\.1: 1 context is too few to hold some out for the settings$"):
        tuned(tiny, tmp_path, TRAIN[:1], epochs=(1.0, 2.0))
