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


def test_onnxruntime(folder: Path, hold: Hold) -> None:
    hold(run_python(Path(sys.executable), snippet("ONNX Runtime in Python"), folder, TEXTS))


def test_ort_format(folder: Path, hold: Hold) -> None:
    convert = [sys.executable, "-m", "onnxruntime.tools.convert_onnx_models_to_ort", "onnx"]
    subprocess.run(convert, cwd=folder, check=True, capture_output=True)
    assert (folder / "onnx/model.ort").is_file()
    hold(run_python(Path(sys.executable), snippet("ORT format"), folder, TEXTS))


def test_langchain(folder: Path, python: Python, hold: Hold) -> None:
    hold(run_python(python("sentence-transformers"), snippet("LangChain"), folder, TEXTS))


def test_chroma(folder: Path, python: Python, hold: Hold) -> None:
    hold(run_python(python("sentence-transformers"), snippet("Chroma"), folder, TEXTS))


def test_mlflow(folder: Path, python: Python, hold: Hold) -> None:
    hold(run_python(python("mlflow"), snippet("MLflow"), folder, TEXTS))
