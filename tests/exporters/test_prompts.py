"""A teacher's prompts stay with every student, and its default one is before the texts that the student learns from."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import build, sentences
from graphs import draft
from sentence_transformers import SentenceTransformer
from trained import TEXTS, Trained

from compressor.artifact.folder import Draft
from compressor.core.errors import TextError
from compressor.distil.student.light import shrink, with_projection
from compressor.distil.student.static import static_student
from compressor.distil.student.vocabulary import trim_vocabulary
from compressor.distil.training.lessons import Collate, Lessons, Part
from compressor.models.agreement import Heldout, cosines
from compressor.models.sentence_model import TorchEncoder, open_model
from compressor.models.torch_int8 import TorchInt8, TorchInt8Encoder
from compressor.vectors.pca import Pca
from exporters.graph.export import Export
from exporters.serving import Batcher
from exporters.session import OnnxEncoder

PROMPTS = {"query": "two red houses : ", "plain": ""}


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny teacher with a default prompt and a similarity function of its own."""
    folder = tmp_path_factory.mktemp("asking")
    model = open_model(build(folder / "plain"))
    model.prompts, model.default_prompt_name, model.similarity_fn_name = dict(PROMPTS), "query", "dot"
    model.save_pretrained(str(folder / "model"), create_model_card=False)
    return folder / "model"


def kept_by(model: SentenceTransformer) -> bool:
    named = {name: prompt for name, prompt in model.prompts.items() if name in PROMPTS}
    return named == PROMPTS and model.default_prompt_name == "query" and model.similarity_fn_name == "dot"


@pytest.mark.parametrize(
    "made_of",
    [
        lambda teacher: shrink(teacher, TEXTS, layers=(0, 2), width=16),
        lambda teacher: shrink(teacher, TEXTS, layers=(0, 2), vocabulary=90),
        lambda teacher: with_projection(teacher, TEXTS[:40], np.eye(40, 8, dtype=np.float32)),
        lambda teacher: static_student(teacher, TEXTS),
        lambda teacher: trim_vocabulary(teacher, TEXTS, 90),
    ],
    ids=["narrow", "trimmed and fitted", "projected", "static", "trimmed"],
)
def test_students_keep_them(asking: Path, made_of: Callable[[SentenceTransformer], SentenceTransformer]) -> None:
    assert kept_by(made_of(open_model(asking)))


@pytest.mark.parametrize("dim", [8, 32])
def test_reduced_models_keep_them(asking: Path, tmp_path: Path, dim: int) -> None:
    heldout = sentences(60, seed=3)
    teacher = Heldout(heldout, TorchEncoder.load(asking).encode(heldout))
    Pca(dim=dim).run(asking, TEXTS, teacher, Draft(tmp_path))
    assert kept_by(open_model(tmp_path))


@pytest.mark.parametrize("fields", [{"start": "auto"}, {"start": "copied"}, {"matryoshka": (8,)}, {"width": 16}])
def test_a_whole_training_keeps_them(asking: Path, tmp_path: Path, fields: dict[str, Any]) -> None:
    made = Trained(tmp_path).run(asking, epochs=0.2, **fields)
    assert kept_by(open_model(made.draft.folder))


def test_batches_begin_with_the_default_prompt(asking: Path) -> None:
    model = open_model(asking)
    batch = Collate(model, Lessons([Part(TEXTS, np.zeros((len(TEXTS), 32)))]), 64)([3, 5])
    wanted = model.tokenizer([PROMPTS["query"] + TEXTS[i] for i in (3, 5)], padding=True, return_tensors="pt")
    assert torch.equal(batch["sentence_input_ids"], wanted["input_ids"])


def test_a_prompt_that_pooling_leaves_out_is_left_out_in_training(asking: Path) -> None:
    model = open_model(asking)
    model.set_pooling_include_prompt(False)
    batch = Collate(model, Lessons([Part(TEXTS, np.zeros((len(TEXTS), 32)))]), 64)([3, 5])
    features = {name.removeprefix("sentence_"): value for name, value in batch.items() if name != "label"}
    with torch.no_grad():
        vectors = model(features)["sentence_embedding"].numpy()
    np.testing.assert_allclose(vectors, TorchEncoder(model).encode([TEXTS[3], TEXTS[5]]), atol=1e-6)


def test_a_student_is_fitted_with_the_prompt(asking: Path) -> None:
    teacher = open_model(asking)
    student = shrink(teacher, TEXTS, layers=(0, 1, 2, 3))
    near = cosines(TorchEncoder(teacher).encode(TEXTS[:50]), TorchEncoder(student).encode(TEXTS[:50]))
    assert near.min() > 0.9999


@pytest.mark.parametrize(
    ("prompts", "default"),
    [
        ({"query": "two red houses : ", "document": "a cat "}, None),
        ({"query": "two red houses : ", "passage": "a cat "}, "passage"),
        ({"corpus": "a cat "}, "corpus"),
        ({}, None),
    ],
)
def test_artifacts_put_them_as_sentence_transformers_does(
    prompts: dict[str, str], default: str | None, artifacts: Callable[..., Path], tiny: Path, tmp_path: Path
) -> None:
    model = open_model(tiny)
    model.prompts.update(prompts)
    model.default_prompt_name = default
    folder = Path(shutil.copytree(artifacts() / "fp32", tmp_path / "artifact"))
    (folder / "manifest.json").unlink(missing_ok=True)
    usage = {"prompts": prompts, "default_prompt_name": default}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(usage))
    encoder, texts = OnnxEncoder(folder, threads=1), ["the cat sleeps", "a big dog ."]

    def same(got: Any, wanted: Any) -> None:
        np.testing.assert_allclose(got, wanted, atol=1e-5)

    same(encoder.encode(texts), model.encode(texts))
    same(encoder.encode_query(texts), model.encode_query(texts))
    same(encoder.encode_document(texts), model.encode_document(texts))
    same(encoder.encode_query(texts, prompt="old "), model.encode_query(texts, prompt="old "))
    same(encoder.encode(texts, prompt=""), model.encode(texts, prompt=""))
    for name in prompts:
        wanted = model.encode(texts, prompt_name=name)
        same(encoder.encode(texts, prompt_name=name), wanted)
        same(np.concatenate(list(encoder.stream(texts, prompt_name=name))), wanted)
        with Batcher(encoder) as batcher:
            same(batcher.submit(texts[0], prompt_name=name).result(10), wanted[0])
    with pytest.raises(TextError, match=r"^prompt_name = 'nothing': must be 'query' or 'document'"):
        encoder.encode(texts, prompt_name="nothing")
    with pytest.raises(TextError, match="^prompt: int was given where a text belongs$"):
        encoder.encode(texts, prompt=3)  # type: ignore[arg-type]


def test_queries_and_documents_have_the_prompts_that_sentence_transformers_gives_them(tmp_path: Path) -> None:
    model = open_model(build(tmp_path / "plain"))
    model.prompts = {"query": "two red houses : ", "document": "here : ", "other": "new "}
    model.default_prompt_name = "other"
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    folder, texts = tmp_path / "model", sentences(12)
    Export().run(folder, draft(tmp_path / "onnx"))
    TorchInt8().run(folder, draft(tmp_path / "int8"))
    for encoder in (
        TorchEncoder.load(folder),
        OnnxEncoder(tmp_path / "onnx"),
        TorchInt8Encoder.load(tmp_path / "int8"),
    ):
        plain = encoder.encode if not isinstance(encoder, TorchEncoder) else encoder.model.encode
        near = 1e-5 if not isinstance(encoder, TorchInt8Encoder) else 0.02  # int8's ranges are of a batch's own
        for encode, prompt in ((encoder.encode_query, "two red houses : "), (encoder.encode_document, "here : ")):
            # Put before the texts by hand, where the default prompt is taken off again.
            wanted = open_model(folder).encode([prompt + text for text in texts], prompt="")
            if isinstance(encoder, TorchInt8Encoder):
                wanted = TorchInt8Encoder(encoder._tokenizer, encoder._modules, 64, 32).encode(
                    [prompt + t for t in texts]
                )
            assert np.abs(encode(texts) - wanted).max() < near
            assert np.abs(encode(texts) - plain(texts)).max() > 1e-3
            given = encoder.encode(texts, prompt=prompt)
            assert np.abs(given - encode(texts)).max() < near
        named, other = encoder.encode(texts, prompt_name="other"), encoder.encode(texts, prompt="new ")
        for vectors in (named, other):
            assert np.abs(vectors - encoder.encode(texts)).max() < near
        with pytest.raises(TextError, match=r"^prompt_name = 'nothing': must be 'query' or 'document' or 'other'$"):
            encoder.encode(texts, prompt_name="nothing")
