"""Commands on ONNX graphs that others exported: measured beside the teacher, checked, described, quantized."""

import json
import shutil
from pathlib import Path

import pytest
from builders import sentences
from commands import Command, refusal
from onnxruntime.quantization import QuantType, quantize_dynamic
from others import export_as_others

QUICK = ["--rounds", "1", "--queries", "20", "--batch-sizes", "8", "--lengths", "8", "--json"]
INT8 = "onnx/model_quantized.onnx"


@pytest.fixture(scope="module")
def others(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tiny teacher as others hand it out: its graph in fp32 and int8. Never write into it."""
    folder = export_as_others(tiny, tmp_path_factory.mktemp("hub") / "others")
    quantize_dynamic(str(folder / "onnx/model.onnx"), str(folder / INT8), weight_type=QuantType.QInt8)
    return folder


def figures(printed: str) -> dict[str, dict[str, object]]:
    return {f"{one['check']}: {one['figure']}": one for one in json.loads(printed) if "figure" in one}


def test_bench_beside_the_teacher(command: Command, tiny: Path, others: Path, texts: Path) -> None:
    status, out, err = command("bench", others, others / INT8, "--teacher", tiny, "--texts", texts, *QUICK)
    assert status == 0, err
    teacher, fp32, int8 = json.loads(out)["bench"]["systems"]
    assert [row["name"] for row in (fp32, int8)] == ["hub0/others", "others/onnx/model_quantized.onnx"]
    assert fp32["provider"] == "CPUExecutionProvider"
    size = (others / "onnx/model.onnx").stat().st_size
    assert size < fp32["size_bytes"] < size + 200_000
    assert int8["size_bytes"] < fp32["size_bytes"]
    assert all(row["offline"]["texts_per_second"] > 0 for row in (teacher, fp32, int8))


def test_verify_without_a_teacher_checks_the_graph(command: Command, others: Path) -> None:
    status, out, err = command("verify", others / INT8)
    assert status == 0, err
    lines = [line.split() for line in out.strip().splitlines()]
    assert [line[:2] for line in lines] == [
        ["note", "files:"],
        ["pass", "settings:"],
        ["pass", "graph:"],
        ["pass", "vectors:"],
        ["note", "conformance:"],
        ["note", "other"],
    ]
    assert "int8" in out
    assert "onnx/model.onnx: not looked at" in out
    assert "--texts, --limit, --retrieval: options of --teacher" in refusal(command("verify", others, "--limit", 9))


def test_verify_against_the_teacher(command: Command, tiny: Path, others: Path, texts: Path) -> None:
    given = ["--teacher", tiny, "--texts", texts, "--json"]
    status, out, err = command("verify", others, *given)
    assert status == 0, err
    found = figures(out)
    assert found["parity with PyTorch: max_difference"]["value"] < 1e-5  # type: ignore[operator]
    assert found["agreement with the teacher: cosine_mean"]["value"] > 0.99999  # type: ignore[operator]
    assert found["fusions as run: attention"]["bar"] is None
    loose = ["--int8-cosine-mean", "0.9", "--padding-cosine-min", "0.8", "--batch-cosine-min", "0.8"]
    status, out, err = command("verify", others / INT8, *given, *loose)
    assert status == 0, err
    found = figures(out)
    assert found["operators as run: integer_products"]["bar"] is None
    assert 0.8 < found["batch invariance: cosine_min"]["value"] < 1 - 1e-7  # type: ignore[operator]
    assert "batch invariance: cosine_min" in refusal(
        command("verify", others / INT8, *given[:-1], *loose[:-2], "--batch-cosine-min", "1")
    )


def test_inspect_says_what_it_is(command: Command, others: Path) -> None:
    status, out, err = command("inspect", others / INT8, "--json")
    assert status == 0, err
    said = json.loads(out)
    assert (said["kind"], said["family"], said["layers"]) == ("ONNX graph that others exported", "bert", 4)
    assert said["ranges"].startswith("each batch's own")
    status, out, err = command("inspect", others)
    assert status == 0, err
    assert "mean, Normalize (1_Pooling/config.json)" in out


def test_quantize_gives_a_whole_artifact(
    command: Command, tiny: Path, others: Path, texts: Path, tmp_path: Path
) -> None:
    to = tmp_path / "int8"
    status, out, err = command("quantize", others, "--out", to, "--texts", texts)
    assert status == 0, err
    assert "cosine to fp32: mean 0.99" in out
    status, out, err = command("verify", to, "--student", tiny, "--teacher", tiny, "--texts", texts)
    assert status == 0, err
    assert "texts give the stated tokens and outputs" in out
    assert "integer_products = 16 (>= 16)" in out
    line = refusal(command("quantize", others / INT8, "--out", tmp_path / "no", "--texts", texts))
    assert line.endswith(f"{INT8}: int8 already; int8 and fp16 are made from the fp32 graph")
    assert not (tmp_path / "no").exists()


def test_optimise_and_fp16_take_it(command: Command, others: Path, tmp_path: Path) -> None:
    texts = tmp_path / "many.txt"
    texts.write_text("\n".join(sentences(400)))
    status, _, err = command("optimise", others, "--out", tmp_path / "best", "--texts", texts, "--json")
    assert status == 0, err
    assert command("verify", tmp_path / "best")[0] == 0
    assert command("fp16", others / "onnx/model.onnx", "--out", tmp_path / "fp16")[0] == 0
    assert command("verify", tmp_path / "fp16")[0] == 0


def test_pooling_is_given_where_the_folder_states_none(
    command: Command, tiny: Path, others: Path, texts: Path, tmp_path: Path
) -> None:
    bare = Path(shutil.copytree(others, tmp_path / "bare"))
    (bare / "modules.json").unlink()
    shutil.rmtree(bare / "1_Pooling")
    status, out, err = command("verify", bare, "--teacher", tiny, "--texts", texts, "--json")
    assert status == 0 or "parity" in err  # the teacher's vectors have length 1, those of mean alone have not
    stated = next(one for one in json.loads(out) if one["check"] == "vectors")
    assert stated == {"check": "vectors", "passed": None, "found": "mean (stated nowhere)"}
    status, out, _ = command("inspect", bare, "--pooling", "cls", "--json")
    assert json.loads(out)["vectors"] == "cls (--pooling)"
    assert "1_Pooling/config.json of" in refusal(command("inspect", others, "--pooling", "cls"))
    for words in (("inspect", tiny), ("bench", tiny, "--teacher", tiny), ("quantize", tiny, "--out", tmp_path / "no")):
        line = refusal(command(*words, "--pooling", "cls"))
        assert line.startswith("error: --pooling cls: an option of ")
