"""The student on queries and its teacher on documents, as sentence-transformers itself opens and runs them."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import sentences
from damage import reseal
from graphs import draft
from huggingface_hub import ModelCard
from packed import contents, edit_json, view
from sentence_transformers import SentenceTransformer

from compressor.artifact.folder import Artifact, key_of, writing
from compressor.artifact.workspace import Model
from compressor.core.errors import ArtifactError, CompressorError, DependencyError, ModelError
from compressor.models.agreement import Heldout, normalized
from compressor.models.projection import Projection
from compressor.models.sentence_model import TorchEncoder, open_model
from compressor.models.source import find
from compressor.untrusted.inspection import inspect
from compressor.vectors.codes import Ranges
from compressor.vectors.pca import Pca
from exporters.graph.export import Export
from exporters.pack import routes
from exporters.publish.card import Publish
from exporters.session import OnnxEncoder

TEXTS = [*sentences(20, seed=5), "", "the", "tree " * 100, "unheard of 👍 你好"]
PROMPTS = {"query": "two red houses : ", "document": "a cat : "}
ROUTER, MODULES = "router_config.json", "modules.json"


def hand_out(student: Path, home: Path, teacher: Path, **fields: Any) -> Path:
    """Publish the fp32 artifact of a student as a run does, in ``home``, and return its folder."""
    Export().run(student, draft(home / "plain"))
    Ranges.fit(OnnxEncoder(home / "plain").encode(sentences(100))).save(draft(home / "ranges").folder)
    made_of = {"teacher": str(teacher), "teacher_sha256": find(str(teacher)).weights_sha256, **fields}
    stage = Publish(recipe={"name": "tiny"}, precision="fp32", **made_of)
    ranges = Model(home / "ranges", "r", {"precisions": {}})
    to = home / "artifacts" / "fp32"
    with writing(to, "artifacts/fp32", key_of(home.name), stage.model_dump(mode="json")) as made:
        stage.run(Model(home / "plain", "k", {"operators": {}}), ranges, [], made, Projection.load(student))
    return to


def reduced(teacher: Path, to: Path, **fields: Any) -> Path:
    texts = sentences(60, seed=3)
    heldout = Heldout(texts, TorchEncoder.load(teacher).encode(texts))
    Pca(**({"dim": 8} | fields)).run(teacher, sentences(200), heldout, draft(to))
    return to


@pytest.fixture(scope="module")
def asking(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a teacher that puts a prompt before queries and another before documents."""
    model = open_model(tiny)
    model.prompts, model.similarity_fn_name = dict(PROMPTS), "dot"
    model.save_pretrained(str(folder := tmp_path_factory.mktemp("asking") / "model"), create_model_card=False)
    return folder


@pytest.fixture(scope="module")
def short(asking: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run's folder: a student that is the teacher reduced to 8 dimensions, and its artifact."""
    home = tmp_path_factory.mktemp("short") / "run"
    hand_out(reduced(asking, home / "pca", center=True), home, asking, teacher_license="mit")
    return home


@pytest.fixture(scope="module")
def packed(short: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return view(short / "artifacts" / "fp32", tmp_path_factory.mktemp("router") / "view", "router")


def test_queries_are_the_students_and_documents_the_teachers(packed: Path, short: Path, asking: Path) -> None:
    model = SentenceTransformer(str(packed), device="cpu")
    student, teacher = TorchEncoder.load(short / "pca"), TorchEncoder.load(asking)
    projection = Projection.load(short / "pca")
    assert projection is not None
    queries, documents = model.encode_query(TEXTS), model.encode_document(TEXTS)
    assert queries.shape == documents.shape == (len(TEXTS), 8)
    np.testing.assert_allclose(queries, student.encode_query(TEXTS), atol=1e-5)
    np.testing.assert_allclose(documents, normalized(projection.apply(teacher.encode_document(TEXTS))), atol=1e-5)
    # This student is its teacher: behind the same prompt, the routes are one.
    np.testing.assert_allclose(documents, student.encode_document(TEXTS), atol=1e-5)
    assert np.abs(queries - documents).max() > 1e-2
    np.testing.assert_allclose(model.encode(TEXTS), teacher_alone(projection, teacher), atol=1e-5)


def teacher_alone(projection: Projection, teacher: TorchEncoder) -> Any:
    return normalized(projection.apply(teacher.encode(TEXTS)))


def test_vectors_of_the_teachers_length_need_no_projection(
    make_model: Callable[..., Path], tiny: Path, tmp_path: Path
) -> None:
    student = make_model(layers=2, seed=1)  # of the same length, and of no other likeness
    artifact = hand_out(student, tmp_path / "run", tiny)
    made = view(artifact, tmp_path / "view", "router", student=str(student), teacher=str(tiny))
    model = SentenceTransformer(str(made), device="cpu")
    np.testing.assert_allclose(model.encode_query(TEXTS), TorchEncoder.load(student).encode(TEXTS), atol=1e-5)
    np.testing.assert_allclose(model.encode_document(TEXTS), TorchEncoder.load(tiny).encode(TEXTS), atol=1e-5)
    assert [len(route) for route in model[0].sub_modules.values()] == [3, 3]


def test_the_folder_is_plain(packed: Path, short: Path, asking: Path) -> None:
    files = contents(packed)
    weights = sorted(name for name in files if name.endswith(".safetensors"))
    assert weights == [
        "document_0_Transformer/model.safetensors",
        "document_3_Dense/model.safetensors",
        "query_0_Transformer/model.safetensors",
        "query_3_Dense/model.safetensors",
    ]
    stated = json.loads(files[ROUTER])
    assert stated["structure"]["query"] == [
        "query_0_Transformer", "query_1_Pooling", "query_2_Normalize", "query_3_Dense", "query_4_Normalize",
    ]  # fmt: skip
    assert set(stated["types"].values()) == {
        f"sentence_transformers.models.{name}" for name in ("Transformer", "Pooling", "Normalize", "Dense")
    }
    usage = json.loads(files["config_sentence_transformers.json"])
    assert (usage["prompts"], usage["default_prompt_name"], usage["similarity_fn_name"]) == (PROMPTS, None, "dot")
    figures = Artifact.open(packed).figures
    assert figures["teacher"] == {"name": str(asking), "sha256": find(str(asking)).weights_sha256}
    assert figures["needs"] == {"sentence_transformers": ">=5.7"}
    assert all(value <= routes.DIFFERENCE_MAX for value in figures["largest_difference"].values())
    assert figures["largest_difference"].keys() == {"query", "document"}
    card = ModelCard.load(packed / "README.md")
    assert card.data.to_dict().items() >= {"license": "mit", "base_model": str(asking)}.items()
    assert "with its vectors in the student's space. Vectors of length 8." in card.text


def test_packing_twice_gives_the_same_files(packed: Path, short: Path, tmp_path: Path) -> None:
    again = view(short / "artifacts" / "fp32", tmp_path / "again", "router")
    assert contents(again) == contents(packed)


def test_the_view_passes(packed: Path) -> None:
    found = {one.check: one for one in inspect(packed)}
    assert list(found) == ["files", "settings", "tokenizers", "graph"]
    assert found["settings"].found.endswith(" read; no code, no pickles")
    assert found["tokenizers"].found == "2 opened"
    assert found["graph"].as_dict()["passed"] is None


def stated(folder: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((folder / ROUTER).read_text())
    return made


def with_type(folder: Path, kind: str) -> None:
    types = stated(folder)["types"] | {"query_1_Pooling": kind}
    edit_json(folder / ROUTER, types=types)


def with_module(folder: Path, kind: str) -> None:
    with_type(folder, "sentence_transformers.models.Pooling")
    edit_json(folder / ROUTER, types=stated(folder)["types"] | {"more": kind})


def evil(folder: Path) -> None:
    (folder / "query_1_Pooling" / "evil.py").write_text("x = 1\n")


@pytest.mark.parametrize(
    ("breaking", "line"),
    [
        (evil, r"evil\.py: no file of a view of router; it may be code"),
        (lambda f: (f / "pytorch_model.bin").write_bytes(b"x"), r"pytorch_model\.bin: no file of a view of router"),
        (lambda f: with_type(f, "evil.Evil"), r"module 'evil\.Evil' is none that is read .*; code is never run"),
        (lambda f: with_type(f, "sentence_transformers.models.Router"), "is none that is read"),
        (lambda f: with_type(f, "sentence_transformers.models.Transformer"), "at place 1: .* is first, and once"),
        (lambda f: with_type(f, "sentence_transformers.models.Dense"), "must be query_1_Dense"),
        (lambda f: with_module(f, "evil.Evil"), "types: must be of the modules of its routes, and of no others"),
        (lambda f: edit_json(f / ROUTER, more=1), "must state types, structure and parameters, and nothing else"),
        (lambda f: edit_json(f / ROUTER, structure={"query": []}), "must have the routes query and document"),
        (lambda f: edit_json(f / ROUTER, types=[]), "not readable as the modules of a Router"),
        (lambda f: edit_json(f / ROUTER, parameters={"default_route": "query"}), "documents by default"),
        (lambda f: (f / ROUTER).write_text("[]"), "must state types, structure and parameters"),
        (lambda f: (f / ROUTER).unlink(), r"router_config\.json: cannot be read"),
        (lambda f: (f / MODULES).write_text("[]"), r"modules\.json: must name one Router, and nothing else"),
        (
            lambda f: edit_json(f / "query_0_Transformer" / "config.json", auto_map={"AutoModel": "evil.Evil"}),
            "auto_map: names code of its own",
        ),
        (
            lambda f: (f / "document_0_Transformer" / "tokenizer.json").write_text("{}"),
            r"document_0_Transformer/tokenizer\.json: ",
        ),
        (
            lambda f: (f / "query_3_Dense" / "model.safetensors").write_bytes(b"x" * 100),
            r"query_3_Dense/model\.safetensors: ",
        ),
    ],
)
def test_a_view_that_was_made_on_purpose_is_refused(
    breaking: Callable[[Path], Any], line: str, packed: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(packed, tmp_path / "view"))
    breaking(folder)
    reseal(folder)
    with pytest.raises(CompressorError, match=line) as caught:
        list(inspect(folder))
    assert "\n" not in str(caught.value)


def refusal(artifact: Path, to: Path, **options: Any) -> str:
    with pytest.raises((ArtifactError, ModelError)) as caught:
        view(artifact, to, "router", **options)
    assert not to.exists()
    return str(caught.value)


def test_what_does_not_belong_together_is_refused(
    short: Path, asking: Path, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    artifact, to, other = short / "artifacts" / "fp32", tmp_path / "view", make_model(seed=3)
    assert refusal(artifact, to, student=str(other)) == (
        f"{other}: vectors of length 32, those of {artifact} have 8; not its student"
    )
    alike = reduced(other, tmp_path / "other", center=True)
    said = refusal(artifact, to, student=str(alike))
    assert said.startswith(f"{alike}: vectors of cosine ")
    assert said.endswith(f" with those of {artifact}; not its student")
    said = refusal(artifact, to, teacher=str(other))
    assert said.startswith(f"{other}: weights have sha256 ")
    moved = Path(shutil.copytree(artifact, tmp_path / "elsewhere" / "a" / "fp32"))
    assert refusal(moved, to) == f"{moved}: no student in {tmp_path}/elsewhere; name its PyTorch model by --student"


def test_without_a_projection_a_shorter_students_index_cannot_be_moved(
    short: Path, asking: Path, tmp_path: Path
) -> None:
    home = tmp_path / "run"
    bare = Path(shutil.copytree(short / "pca", home / "pca"))
    (bare / "projection.safetensors").unlink()
    artifact = hand_out(bare, home, asking)
    assert refusal(artifact, tmp_path / "view") == (
        f"{bare}: vectors of length 8, those of {asking} have 32; no projection.safetensors"
    )


def test_an_artifact_that_names_no_teacher_asks_for_one(short: Path, asking: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(short / "artifacts" / "fp32", tmp_path / "made"))
    reseal(folder, config={"dim": 8})
    student = str(short / "pca")
    assert refusal(folder, tmp_path / "view", student=student) == f"{folder}: names no teacher; name it by --teacher"
    made = view(folder, tmp_path / "view", "router", student=student, teacher=str(asking))
    assert Artifact.open(made).figures["teacher"]["name"] == str(asking)


def test_a_reader_is_refused(reader: Path, tmp_path: Path) -> None:
    said = refusal(reader / "fp32", tmp_path / "view")
    assert said.endswith("made for question-answering; router takes artifacts for sentence-embedding")


def test_a_model_that_loads_as_another_is_not_written(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "DIFFERENCE_MAX", -1.0)
    said = refusal(short / "artifacts" / "fp32", tmp_path / "view")
    assert said.startswith("router: query differs from its model by ")


def test_without_sentence_transformers_it_is_named(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)  # what Python makes of a package that is not there
    with pytest.raises(
        DependencyError, match=r"^sentence-transformers: not installed; pip install 'compressor\[train\]'"
    ):
        view(short / "artifacts" / "fp32", tmp_path / "view", "router")
