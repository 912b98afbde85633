"""Whatever stands in a file that a person gives, it is read, or refused in one line: never a traceback."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from packed import MLMODEL

from benchmarks.quality.sts import Sts
from compressor.answering.questions.squad import read_squad
from compressor.answering.readers.reader import read_reading
from compressor.artifact.folder import Artifact
from compressor.artifact.licence import licence_of
from compressor.artifact.manifest import FORMAT, manifest_text, sealed
from compressor.artifact.prompts import kept_prompts
from compressor.core.config import load
from compressor.core.errors import CompressorError
from compressor.flow.answering import ReaderRecipe
from compressor.flow.embedding import Recipe
from compressor.models.source import check_folder
from compressor.texts.corpus import Texts
from compressor.texts.reading import lines
from compressor.untrusted.settings import check_settings
from exporters.runtime.tokenizer import open_tokenizer

fuzzed = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
DEEP = b"[" * 100_000
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
as_json = JSON.map(lambda value: json.dumps(value).encode())


def read(call: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a reader gives; None where it refuses, as a CompressorError."""
    try:
        return call(*arguments)
    except CompressorError:
        return None


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def spoiled(text: str) -> st.SearchStrategy[bytes]:
    """Return a sound file's bytes with a piece replaced by any bytes."""
    whole = text.encode()
    places = st.tuples(st.integers(0, len(whole)), st.integers(0, 12), st.binary(max_size=12))
    return places.map(lambda one: whole[: one[0]] + one[2] + whole[one[0] + one[1] :])


RECIPE = '[teacher]\nmodel = "m"\n[texts]\nsource = ["a", "b"]\nweights = [1.0, 2.0]\n[distil]\nlayers = [0, 1]\n'


@fuzzed
@given(st.binary(max_size=200) | spoiled(RECIPE))
@example(b"a = " + DEEP)
@example(b"a = " + b"9" * 5000)
@example(b'"\\u001b[31m" = 1')
def test_recipes(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path / "r.toml", content)
    for schema in (Recipe, ReaderRecipe):
        read(load, path, schema)


def _fields(schema: Any) -> list[str]:
    return [name for name in schema.model_fields if name not in ("name", "task", "quantize")]


@fuzzed
@given(st.data())
def test_sections_of_recipes(tmp_path: Path, data: st.DataObject) -> None:
    section = data.draw(st.sampled_from(_fields(Recipe)))
    inner = Recipe.model_fields[section].annotation
    kinds = [kind for kind in (inner, *getattr(inner, "__args__", ())) if hasattr(kind, "model_fields")]
    name = data.draw(st.sampled_from(sorted(kinds[0].model_fields)))
    value = data.draw(JSON)
    path = written(tmp_path / "r.toml", b"")
    text = json.dumps(value) if not isinstance(value, dict) else "1"
    read(load, path, Recipe, [f"{section}.{name}={text}"])
    with_json = {section: {name: value}}
    read(Recipe.read, with_json | {"name": "a"})


@fuzzed
@given(st.text(max_size=40))
def test_changes_of_recipes(tmp_path: Path, line: str) -> None:
    path = written(tmp_path / "r.toml", b'[teacher]\nmodel = "m"\n')
    read(load, path, Recipe, [line])


@fuzzed
@given(st.binary(max_size=200) | spoiled('sentence1,sentence2,score\n"a, b",c,1.5\nd,e,2\nf,g,0\n'))
@example(b'a,b,"' + b"x" * 200_000 + b'"')
@example(b"a,b,1e999\nc,d,nan\n")
@example(b"a\0,b,1\nc,d,2\n")
def test_sts_files(tmp_path: Path, content: bytes) -> None:
    found = read(Sts.read, written(tmp_path / "sts.csv", content))
    if found:
        assert len(found.key) == 64


SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "paragraphs": [
                {
                    "context": "Ada wrote it in 1843.",
                    "qas": [
                        {"id": "1", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]},
                        {"id": "2", "question": "Why?", "answers": [], "is_impossible": True},
                    ],
                }
            ]
        }
    ],
}


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    return [path, *(place for key, one in inner for place in _places(one, (*path, key)))]


def _replaced(value: Any, place: tuple[Any, ...], by: Any) -> Any:
    if not place:
        return by
    made = value.copy()
    made[place[0]] = _replaced(value[place[0]], place[1:], by)
    return made


squads = st.tuples(st.sampled_from(_places(SQUAD)), JSON).map(
    lambda one: json.dumps(_replaced(SQUAD, one[0], one[1])).encode()
)


@fuzzed
@given(st.binary(max_size=100) | squads | spoiled(json.dumps(SQUAD)))
@example(DEEP)
@example(json.dumps(_replaced(SQUAD, ("data", 0, "paragraphs", 0, "context"), "Ada \ud800.")).encode())
@example(json.dumps(_replaced(SQUAD, ("data", 0, "paragraphs", 0, "qas", 0, "id"), "\ud800")).encode())
def test_squad_files(tmp_path: Path, content: bytes) -> None:
    found = read(read_squad, written(tmp_path / "squad.json", content))
    if found:
        assert len(found.key) == 64
        parts = read(lambda: found.split(0.5, 0, "test"))
        assert not parts or sum(map(len, parts)) == len(found)
        json.dumps(found.as_squad()).encode()


@fuzzed
@given(st.binary(max_size=300), st.sampled_from([".txt", ".gz", ".md"]), st.booleans())
def test_text_files(tmp_path: Path, content: bytes, suffix: str, packed: bool) -> None:
    path = written(tmp_path / f"texts{suffix}", gzip.compress(content)[: len(content) + 20] if packed else content)
    for line in read(lambda: list(lines(path))) or []:
        line.encode()


@settings(fuzzed, max_examples=30)
@given(st.lists(st.text(max_size=30), max_size=300))
def test_texts_of_any_kind(tmp_path: Path, texts: list[str]) -> None:
    content = "\n".join(texts).encode("utf-8", "ignore")
    written(tmp_path / "texts.txt", content + b"\n" + b"\n".join(b"text %d" % i for i in range(199)))
    found = read(Texts(source="texts.txt").load, tmp_path)
    if found:
        assert len(set(found.train)) == len(found.train)


MANIFEST = {"format": FORMAT, "stage": "s", "key": "k", "config": None, "figures": {}, "files": {}}


@fuzzed
@given(
    st.binary(max_size=100) | as_json,
    st.sampled_from(sorted(MANIFEST)),
    JSON,
)
@example(DEEP, "key", None)
@example(b"{}", "files", {"\ud800": {"size": 0, "sha256": "0" * 64}})
def test_manifests(tmp_path: Path, content: bytes, field: str, value: Any) -> None:
    written(tmp_path / "manifest.json", content)
    assert read(Artifact.open, tmp_path) is None
    try:
        text = manifest_text(sealed(MANIFEST | {field: value}))
    except CompressorError:  # a figure that is no finite number is never written
        return
    written(tmp_path / "manifest.json", text.encode())
    opened = read(Artifact.open, tmp_path)
    assert opened is None or field in ("stage", "key", "config", "figures") or value == {} or MANIFEST[field] == value


NAMES = ["config.json", "modules.json", "sentence_bert_config.json", "tokenizer_config.json", "1_Pooling/config.json"]


@fuzzed
@given(st.sampled_from(NAMES), JSON | st.dictionaries(st.sampled_from(["model_type", "num_hidden_layers"]), JSON))
@example("modules.json", [{"path": "../x", "type": "sentence_transformers.models.Transformer"}])
@example("config.json", {"model_type": ["bert"]})
@example("config.json", {"model_type": "bert", "num_hidden_layers": 10**30})
def test_settings_of_models(tiny: Path, tmp_path: Path, name: str, value: Any) -> None:
    folder = tmp_path / "model"
    if not folder.is_dir():
        for path in tiny.rglob("*"):
            if path.is_file():
                to = folder / path.relative_to(tiny)
                to.parent.mkdir(parents=True, exist_ok=True)
                to.symlink_to(path)
    kept = (folder / name).resolve()
    (folder / name).unlink()
    try:
        written(folder / name, json.dumps(value).encode())
        read(check_folder, folder)
    finally:
        (folder / name).unlink()
        (folder / name).symlink_to(kept)


@fuzzed
@given(st.sampled_from(["pad_token_id", "max_seq_length", "default_prompt_name", "prompts"]), JSON, st.booleans())
@example("max_seq_length", 1, False)
@example("max_seq_length", -1, False)
@example("max_seq_length", 10**30, False)
@example("pad_token_id", 10**30, False)
def test_settings_of_artifacts(tiny: Path, tmp_path: Path, field: str, value: Any, whole: bool) -> None:
    (tmp_path / "tokenizer.json").write_bytes((tiny / "tokenizer.json").read_bytes())
    stated: dict[str, Any] = {
        "pad_token_id": 0,
        "max_seq_length": 64,
        "prompts": {"a": "b"},
        "default_prompt_name": "a",
    }
    stated |= {field: value}
    for name in ("config.json", "sentence_bert_config.json", "config_sentence_transformers.json", "reading.json"):
        written(tmp_path / name, json.dumps(value if whole else stated).encode())
    found = read(open_tokenizer, tmp_path)
    if found:
        assert found[0].encode("the cat " * 100).ids
    read(kept_prompts, tmp_path)
    read(read_reading, tmp_path)


@fuzzed
@given(st.binary(max_size=200) | as_json)
@example(DEEP)
def test_tokenizers(tmp_path: Path, content: bytes) -> None:
    written(tmp_path / "config.json", b"{}")
    written(tmp_path / "sentence_bert_config.json", b'{"max_seq_length": 8}')
    written(tmp_path / "tokenizer.json", content)
    read(open_tokenizer, tmp_path)


@fuzzed
@given(st.binary(max_size=200) | spoiled("---\nlicense: mit\n---\n"))
@example(b"---\n" + b"license: \n" * 50_000 + b"---\n")
def test_licences_of_cards(tmp_path: Path, content: bytes) -> None:
    written(tmp_path / "README.md", content)
    assert isinstance(licence_of(tmp_path), str | None)


@fuzzed
@given(st.binary(max_size=200) | spoiled(MLMODEL))
@example(b"flavors: " + DEEP[:60_000])
def test_mlflow_models(tmp_path: Path, content: bytes) -> None:
    written(tmp_path / "MLmodel", content)
    read(check_settings, tmp_path, ["MLmodel"])
