"""Python libraries load the folder as it is and give our vectors."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from consumers.conftest import Hold
from consumers.snippets import run_python, snippet
from consumers.texts import TEXTS

pytestmark = pytest.mark.consumers

Python = Callable[[str], Path]


def test_sentence_transformers(folder: Path, python: Python, hold: Hold) -> None:
    hold(run_python(python("sentence-transformers"), snippet("sentence-transformers"), folder, TEXTS))


def test_optimum(folder: Path, python: Python, hold: Hold) -> None:
    hold(run_python(python("sentence-transformers"), snippet("Optimum"), folder, TEXTS))


def test_optimum_feature_extraction(folder: Path, python: Python, hold: Hold) -> None:
    """What it gives, pooled by the folder's own modules, is our vector."""
    code = """
from optimum.onnxruntime import ORTModelForFeatureExtraction
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer

texts = ["A sentence.", "Another one."]
tokenizer = AutoTokenizer.from_pretrained(".")
model = ORTModelForFeatureExtraction.from_pretrained(".", file_name="model.onnx", subfolder="onnx")
modules = list(SentenceTransformer(".", backend="onnx"))[1:]


def embed(text):
    inputs = tokenizer(text, truncation=True, return_tensors="pt")
    features = {"token_embeddings": model(**inputs).last_hidden_state, "attention_mask": inputs["attention_mask"]}
    for module in modules:
        features = module(features)
    return features["sentence_embedding"][0].detach()


vectors = [embed(text) for text in texts]
"""
    hold(run_python(python("sentence-transformers"), code, folder, TEXTS))


def test_fastembed(folder: Path, python: Python, hold: Hold) -> None:
    hold(run_python(python("fastembed"), snippet("fastembed"), folder, TEXTS))


def test_fastembed_pools(pooling: Path, python: Python, hold: Hold) -> None:
    """By its own mean of last_hidden_state, which the artifact itself leaves to a Dense."""
    code = snippet("fastembed").replace('    output_name="sentence_embedding",\n', "")
    code = code.replace("PoolingType.DISABLED", "PoolingType.MEAN").replace("normalization=False", "normalization=True")
    assert "sentence_embedding" not in code
    hold(run_python(python("fastembed"), code, pooling, TEXTS))


def test_optimum_pools(pooling: Path, python: Python, hold: Hold) -> None:
    """As a service does that takes last_hidden_state and the mask, and knows of no modules."""
    code = """
import torch
from optimum.onnxruntime import ORTModelForFeatureExtraction
from transformers import AutoTokenizer

texts = ["A sentence.", "Another one."]
tokenizer = AutoTokenizer.from_pretrained(".")
model = ORTModelForFeatureExtraction.from_pretrained(".", file_name="model.onnx", subfolder="onnx")


def embed(text):
    inputs = tokenizer(text, truncation=True, return_tensors="pt")
    states, mask = model(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1))[0].detach()


vectors = [embed(text) for text in texts]
"""
    hold(run_python(python("sentence-transformers"), code, pooling, TEXTS))


def test_conformance_runner(folder: Path, cases: Path) -> None:
    done = subprocess.run([sys.executable, cases.with_name("run.py")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "conforms\n"), done.stderr


def test_onnxruntime(folder: Path, hold: Hold) -> None:
    hold(run_python(Path(sys.executable), snippet("ONNX Runtime in Python"), folder, TEXTS))


def test_ort_format(folder: Path, hold: Hold) -> None:
    convert = [sys.executable, "-m", "onnxruntime.tools.convert_onnx_models_to_ort", "onnx", "--output_dir", "../ort"]
    subprocess.run(convert, cwd=folder, check=True, capture_output=True)
    assert (folder.parent / "ort" / "model.ort").is_file()
    hold(run_python(Path(sys.executable), snippet("ORT format"), folder, TEXTS))


def test_langchain(folder: Path, python: Python, hold: Hold) -> None:
    hold(run_python(python("sentence-transformers"), snippet("LangChain"), folder, TEXTS))


def test_chroma(folder: Path, python: Python, hold: Hold) -> None:
    hold(run_python(python("sentence-transformers"), snippet("Chroma"), folder, TEXTS))


def test_mlflow(folder: Path, python: Python, hold: Hold) -> None:
    hold(run_python(python("mlflow"), snippet("MLflow"), folder, TEXTS))
