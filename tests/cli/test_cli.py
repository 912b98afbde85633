"""The commands as a person types them: bad input is one clear line and exit status 1, and nothing half-written."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import Command, refusal
from typer.testing import CliRunner

from compressor.cli.app import app, guarded


def recipe(tmp_path: Path, teacher: Path, extra: str = "") -> Path:
    path = tmp_path / "r.toml"
    path.write_text(f'[teacher]\nmodel = "{teacher}"\n[texts]\nsource = "texts.txt"\nheldout = 20\n{extra}')
    return path


def test_unknown_recipe_key(command: Command, tmp_path: Path, tiny: Path) -> None:
    path = recipe(tmp_path, tiny, "[distil]\nlayer = [0]\n")
    line = refusal(command("run", path, "--runs", tmp_path / "runs"))
    assert line == f"error: {path}: distil.layer: unknown key; did you mean layers?"
    assert not (tmp_path / "runs").exists()


def test_missing_recipe(command: Command) -> None:
    assert refusal(command("run", "nowhere.toml")) == "error: nowhere.toml: no such recipe"


def test_missing_text_file(command: Command, tmp_path: Path, tiny: Path) -> None:
    line = refusal(command("distil", "--teacher", tiny, "--out", tmp_path / "s", "--texts", tmp_path / "no.txt"))
    assert "no.txt" in line
    assert not (tmp_path / "s").exists()


def test_a_column_that_is_not_there(command: Command, tmp_path: Path, tiny: Path) -> None:
    (plain := tmp_path / "t.txt").write_text("a text\n")
    (table := tmp_path / "t.csv").write_text("name,text\n" + "a,b\n" * 3)
    given = ("distil", "--teacher", tiny, "--out", tmp_path / "s")
    line = refusal(command(*given, "--texts", plain, "--column", "a"))
    assert line == f"error: {plain}: column = a: only tables and data sets have columns"
    line = refusal(command(*given, "--texts", table, "--column", "a"))
    assert line == f"error: {table}: column = a: no such text column; there are: name, text"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty, holds no text"),
        (b"Only one sentence.\n", "at least 200 are needed"),
        (b"good\n" + b"\xff\xfe bad\n" * 3, "line 2"),
    ],
    ids=["empty", "one sentence", "not UTF-8"],
)
def test_bad_texts(command: Command, tmp_path: Path, tiny: Path, content: bytes, words: str) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(content)
    line = refusal(command("distil", "--teacher", tiny, "--out", tmp_path / "s", "--texts", path))
    assert str(path) in line
    assert words in line
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ("0,9", "distil.layers = [0, 9]: layer 9 is not in 0..3"),
        ("1,1", "distil.layers = [1, 1]: a layer is repeated"),
        ("5", "distil.layers = 5: must be 0 to 4, the teacher's layers"),
        ("x", 'options: layers = "x": input should be a valid integer or a valid array'),
        ("0,x", 'options: layers.1 = "x": input should be a valid integer'),
    ],
)
def test_bad_layers(command: Command, tmp_path: Path, tiny: Path, texts: Path, layers: str, words: str) -> None:
    line = refusal(command("distil", "--teacher", tiny, "--out", tmp_path / "s", "--texts", texts, "--layers", layers))
    assert line == f"error: {words}"
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(("layers", "kept"), [("2", [0, 3]), ("0,3", [0, 3]), ("0", [])])
def test_layers_are_a_count_or_a_list(
    command: Command, tmp_path: Path, tiny: Path, texts: Path, layers: str, kept: list[int]
) -> None:
    small = ["--epochs", "0.5", "--batch-size", "32", "--precision", "fp32", "--layers", layers]
    assert command("distil", "--teacher", tiny, "--out", tmp_path / "s", "--texts", texts, *small)[0] == 0
    assert json.loads((tmp_path / "s" / "manifest.json").read_text())["figures"]["layers"] == kept


def test_help_names_what_an_option_takes() -> None:
    done = CliRunner().invoke(app, ["distil", "--help"], env={"COLUMNS": "300", "TERM": "dumb", "NO_COLOR": "1"})
    assert done.exit_code == 0
    for option, taken in {
        "layers": "NUMBER|A,B,…",
        "choice": "uniform|first|last|searched",
        "mse": "NUMBER|A,B,…",
        "matryoshka": "A,B,…",
        "time-budget": "TEXT",
    }.items():
        (line,) = [line for line in done.output.splitlines() if f"--{option} " in line]
        assert taken in line.split()


def test_dim_larger_than_the_students(command: Command, tmp_path: Path, tiny: Path, texts: Path) -> None:
    line = refusal(command("pca", tiny, "--teacher", tiny, "--out", tmp_path / "s", "--texts", texts, "--dim", "64"))
    assert line == "error: pca.dim = 64: must be at most 32, the length of the student's vectors"


def test_option_of_the_wrong_type_names_field_and_value(command: Command, tmp_path: Path, tiny: Path) -> None:
    line = refusal(command("pca", tiny, "--out", tmp_path / "s", "--dim", "wide"))
    assert line == 'error: options: dim = "wide": input should be a valid integer'


def test_folder_that_is_no_model(command: Command, tmp_path: Path) -> None:
    line = refusal(command("export", tmp_path, "--out", tmp_path / "s"))
    assert line == f"error: {tmp_path}: no modules.json; not a sentence-transformers model"


def test_decoder_only_model(command: Command, tmp_path: Path, tiny: Path) -> None:
    import shutil

    folder = tmp_path / "decoder"
    shutil.copytree(tiny, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    line = refusal(command("export", folder, "--out", tmp_path / "s"))
    assert line == (
        f"error: {folder}: gpt2 is decoder-only, and pooled by mean: its tokens read those before them alone; must be "
        "lasttoken or weightedmean, or use_bidirectional_attention"
    )


def test_truncated_safetensors(command: Command, tmp_path: Path, tiny: Path) -> None:
    import shutil

    folder = tmp_path / "cut"
    shutil.copytree(tiny, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    line = refusal(command("export", folder, "--out", tmp_path / "s"))
    assert f"{weights}: truncated: " in line
    assert not (tmp_path / "s").exists()


def test_output_folder_that_holds_something_else(command: Command, tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    line = refusal(command("export", tiny, "--out", tmp_path / "mine"))
    assert line == f"error: {tmp_path / 'mine'}: holds something else; give an empty or a new folder"
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"


def test_no_space_left(command: Command, tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("exporters.graph.consumers._write", full)
    line = refusal(command("export", tiny, "--out", tmp_path / "s"))
    assert "no space left on the device" in line
    assert not list(tmp_path.rglob("*.onnx"))


def test_a_provider_that_is_not_there(command: Command, tiny: Path, texts: Path) -> None:
    line = refusal(command("bench", tiny, "--teacher", tiny, "--texts", texts, "--providers", "CUDAExecutionProvider"))
    assert "CUDAExecutionProvider: not in this ONNX Runtime" in line
    assert "pip install onnxruntime-gpu" in line


def test_usage_is_status_2() -> None:
    done = CliRunner().invoke(app, ["distil"])
    assert done.exit_code == 2


def test_ctrl_c_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert guarded(interrupted) == 130
    assert capsys.readouterr().err == "stopped; the same command goes on from the last finished step\n"


def test_each_stage_is_a_command(command: Command, tmp_path: Path, tiny: Path, texts: Path) -> None:
    """distil, pca, quantize, export, verify, bench, inspect: one after another on a tiny model."""
    common = ["--teacher", tiny]
    given = [*common, "--texts", texts]
    small = ["--layers", "0,3", "--epochs", "1", "--batch-size", "32", "--precision", "fp32"]
    assert command("distil", "--out", tmp_path / "student", *given, *small)[0] == 0
    assert command("pca", tmp_path / "student", "--out", tmp_path / "pca", *given, "--dim", "16")[0] == 0
    assert command("quantize", tmp_path / "pca", "--out", tmp_path / "torch8", "--texts", texts)[0] == 0
    assert command("export", tmp_path / "pca", "--out", tmp_path / "fp32")[0] == 0
    assert command("quantize", tmp_path / "fp32", "--out", tmp_path / "int8", "--texts", texts)[0] == 0

    bars = ["--teacher-cosine-mean", "0", "--teacher-cosine-p1=-1", "--teacher-cosine-min=-1"]
    bars += ["--neighbours-at-10", "0"]
    loose = [*bars, "--int8-cosine-mean", "0.9", "--padding-cosine-min", "0.8", "--batch-cosine-min", "0.8"]
    status, out, err = command("verify", tmp_path / "int8", "--student", tmp_path / "pca", *given, *loose)
    assert (status, err.count("error")) == (0, 0)
    assert "integer_products = 8 (>= 8)" in out
    strict = command("verify", tmp_path / "fp32", "--student", tmp_path / "pca", *given, "--teacher-cosine-mean", "1")
    assert "cosine_mean = " in refusal(strict)
    assert "must be >= 1" in refusal(strict)

    quick = ["--rounds", "1", "--queries", "20", "--batch-sizes", "8", "--lengths", "8", "--json"]
    status, out, _ = command("bench", tmp_path / "int8", *common, "--texts", texts, *quick)
    assert status == 0
    assert [row["name"] for row in json.loads(out)["bench"]["systems"]][0] == "teacher"

    assert command("fp16", tmp_path / "fp32", "--out", tmp_path / "fp16")[0] == 0
    assert command("verify", tmp_path / "fp16")[0] == 0
    assert "int8 already; fp16 is made from the fp32 graph" in refusal(
        command("fp16", tmp_path / "int8", "--out", tmp_path / "no")
    )
    assert not (tmp_path / "no").exists()

    status, out, _ = command("inspect", tmp_path / "int8", "--json")
    found = json.loads(out)
    assert (found["layers"], found["kind"]) == (2, "ONNX artifact")
    assert found["outputs"]["sentence_embedding"] == "float [batch_size, 16]"
    assert found["operators"]["QAttention"] == 2


def test_inspect_finds_a_changed_byte(command: Command, tmp_path: Path, tiny: Path) -> None:
    assert command("export", tiny, "--out", tmp_path / "fp32")[0] == 0
    graph = tmp_path / "fp32" / "onnx" / "model.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    assert "sha256 differs from manifest.json" in refusal(command("inspect", tmp_path / "fp32"))


def test_report_without_results(command: Command, tmp_path: Path) -> None:
    assert "results.json: not readable as results" in refusal(command("report", tmp_path))


def test_the_installed_command_prints_its_version() -> None:
    program = Path(sys.executable).with_name("compressor")
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == "compressor 0.1.0\n"


@pytest.mark.parametrize(
    ("name", "kind", "outputs"),
    [
        ("torch", "question-answering model", None),
        ("fp32", "ONNX artifact", {"start_logits", "end_logits"}),
        ("int8", "ONNX artifact", {"start_logits", "end_logits"}),
    ],
)
def test_inspect_shows_what_is_in_a_reader(
    command: Command, reader: Path, name: str, kind: str, outputs: set[str] | None
) -> None:
    status, out, _ = command("inspect", reader / name, "--json")
    found = json.loads(out)
    assert (status, found["task"], found["kind"], found["layers"]) == (0, "question-answering", kind, 4)
    assert set(found.get("outputs", {})) == (outputs or set())
    assert found["parameters"] > 20_000
    assert command("inspect", reader / name)[0] == 0
