"""JavaScript runtimes load the folder as it is and give our vectors."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from packed import edit_json

from compressor.artifact.layout import CASES
from consumers.conftest import Hold
from consumers.snippets import run_node, snippet
from consumers.texts import TEXTS
from exporters.verify.conformance import write_conformance

pytestmark = pytest.mark.consumers


def test_onnxruntime_node(folder: Path, node: Path, hold: Hold) -> None:
    hold(run_node(node, snippet("onnxruntime-node"), folder, TEXTS))


def test_onnxruntime_web(folder: Path, node: Path, hold: Hold) -> None:
    hold(run_node(node, snippet("onnxruntime-web"), folder, TEXTS), same_kernels=False)


def test_transformers_js(folder: Path, node: Path, hold: Hold) -> None:
    hold(run_node(node, snippet("transformers.js"), folder, TEXTS))


def test_transformers_js_pools(pooling: Path, node: Path, hold: Hold) -> None:
    """Its feature-extraction pipeline pools last_hidden_state by itself; it cuts long texts without their end."""
    code = """
import { basename, dirname } from "node:path";
import { env, pipeline } from "@huggingface/transformers";

const texts = ["A sentence.", "Another one."];
env.allowRemoteModels = false;
env.localModelPath = dirname(process.cwd());
const extract = await pipeline("feature-extraction", basename(process.cwd()), { dtype: "fp32" });
const vectors = [];
for (const text of texts) vectors.push((await extract(text, { pooling: "mean", normalize: true })).data);
"""
    hold(run_node(node, code, pooling, TEXTS), those=slice(len(TEXTS) - 1))


def conformance(folder: Path, node: Path) -> tuple[int, str, str]:
    """Run an artifact's own runner on it; return its status, output and errors."""
    program = node / f"run-{os.getpid()}.mjs"  # packages are found from where a program lies
    shutil.copy(folder / "conformance" / "run.mjs", program)
    try:
        done = subprocess.run(["node", program, folder], capture_output=True, text=True, check=False)
    finally:
        program.unlink()
    return done.returncode, done.stdout, done.stderr


def test_conformance_runner(folder: Path, cases: Path, node: Path) -> None:
    status, out, err = conformance(folder, node)
    assert (status, out) == (0, "conforms\n"), err


def test_conformance_runner_puts_prompts(folder: Path, node: Path, tmp_path: Path) -> None:
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("conformance"))
    prompts = {"query": "query: ", "document": "passage: ", "other": 'Of "cats", '}
    edit_json(copy / "config_sentence_transformers.json", prompts=prompts, default_prompt_name="other")
    write_conformance(copy, "fp32" if folder.name == "fp32" else "int8")
    status, out, err = conformance(copy, node)
    assert (status, out) == (0, "conforms\n"), err
    set_of_cases = copy / CASES
    set_of_cases.write_text(
        set_of_cases.read_text("utf-8").replace('"prompt":"query: "', '"prompt":"quest: "'), "utf-8"
    )
    status, out, _ = conformance(copy, node)
    assert status == 1
    assert "a sentence, prompt 'query': token ids differ" in out
    assert "'document'" not in out


def test_transformers_js_q8(folder: Path, node: Path, hold: Hold, tmp_path: Path) -> None:
    """The name that the hub's JavaScript models have for an int8 graph."""
    if folder.name == "fp32":
        pytest.skip("q8 is int8")
    copy = tmp_path / "q8"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("onnx"))
    (copy / "onnx").mkdir()
    shutil.copy(folder / "onnx/model.onnx", copy / "onnx/model_quantized.onnx")
    code = snippet("transformers.js")
    assert '{ dtype: "fp32" }' in code
    hold(run_node(node, code.replace('{ dtype: "fp32" }', '{ dtype: "q8" }'), copy, TEXTS))
