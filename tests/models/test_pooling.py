"""Plain transformers folders: pooled as they are asked for, or state, and then a model like any other."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import sentences, tokenizer
from commands import Command, refusal
from families import random_transformer
from graphs import draft
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from compressor.core.errors import ModelError, RecipeError
from compressor.models.pooling import Pooling, is_plain, pooling_modes
from compressor.models.sentence_model import open_model, token_limit
from compressor.models.source import Teacher, find, pooled
from exporters.graph.export import Export
from exporters.loading import kind_of
from exporters.session import OnnxEncoder

TEXTS = [*sentences(6), "the cat sees " * 30]
UNSTATED = (
    "{folder}: a transformer without modules.json: nothing says how a text's vector is made of its tokens; "
    "state --pooling mean, cls or last (in a recipe: teacher.pooling)"
)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Return a folder as transformers saves it."""
    return saved("Bert", tmp_path / "plain")


def saved(family: str, to: Path) -> Path:
    words = tokenizer()
    words.model_max_length = 40
    random_transformer(family, vocab_size=len(words), initializer_range=0.2).save_pretrained(to)
    words.save_pretrained(to)
    return to


def fault(call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def by_transformers(folder: Path, pooling: Pooling, limit: int) -> Any:
    """Return the texts' vectors as whoever has transformers alone computes them, one by one."""
    words, model = AutoTokenizer.from_pretrained(str(folder)), AutoModel.from_pretrained(str(folder)).eval()
    rows = []
    for text in TEXTS:
        inputs = words(text, truncation=True, max_length=limit, return_tensors="pt")
        with torch.inference_mode():
            states = model(**inputs).last_hidden_state[0]
        rows.append({"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling].numpy())
    return np.array(rows)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_the_vectors_are_those_of_transformers(plain: Path, tmp_path: Path, pooling: Pooling) -> None:
    source = find(str(plain), pooling=pooling)
    expected = by_transformers(plain, pooling, 40)
    assert np.abs(open_model(source.folder).encode(TEXTS) - expected).max() < 1e-5
    Export().run(source.folder, draft(tmp_path / "graph"))
    assert np.abs(OnnxEncoder(tmp_path / "graph", threads=1).encode(TEXTS) - expected).max() < 1e-5


def test_the_mean_is_what_sentence_transformers_takes_of_such_a_folder(plain: Path) -> None:
    own = SentenceTransformer(str(plain), device="cpu")
    assert np.array_equal(own.encode(TEXTS), open_model(pooled(plain, "mean")).encode(TEXTS))


@pytest.mark.parametrize(("family", "limit"), [("Bert", 40), ("Roberta", 38), ("MPNet", 38), ("Electra", 40)])
def test_the_length_is_that_of_the_positions(tmp_path: Path, family: str, limit: int) -> None:
    assert token_limit(open_model(pooled(saved(family, tmp_path / family), "mean"))) == limit


def test_without_a_pooling_it_is_refused(plain: Path, tmp_path: Path, command: Command) -> None:
    message = UNSTATED.format(folder=plain)
    assert (
        fault(find, str(plain)) == fault(open_model, plain) == fault(pooled, plain) == fault(kind_of, plain) == message
    )
    assert fault(Teacher(model=str(plain)).find) == message
    assert refusal(command("export", plain, "--out", tmp_path / "graph")) == f"error: {message}"
    assert command("export", plain, "--out", tmp_path / "graph", "--pooling", "cls")[0] == 0
    expected = by_transformers(plain, "cls", 40)
    assert np.abs(OnnxEncoder(tmp_path / "graph", threads=1).encode(TEXTS) - expected).max() < 1e-5


def test_a_recipe_states_it(plain: Path) -> None:
    found = Teacher(model=plain.name, pooling="last").find(plain.parent)
    assert (pooling_modes(found.folder), found.name, found.origin) == (["lasttoken"], plain.name, "folder")
    assert found.weights_sha256 == find(str(plain), pooling="mean").weights_sha256
    assert found.key != find(str(plain), pooling="mean").key == find(str(plain), pooling="mean").key
    with pytest.raises(RecipeError, match=r"pooling = \"max\": input should be 'mean', 'cls' or 'last'"):
        Teacher.read({"pooling": "max"})


def test_a_folder_may_state_it_in_its_pooling_alone(plain: Path) -> None:
    (plain / "1_Pooling").mkdir()
    (plain / "1_Pooling" / "config.json").write_text('{"word_embedding_dimension": 16, "pooling_mode_cls_token": true}')
    assert np.abs(open_model(find(str(plain)).folder).encode(TEXTS) - by_transformers(plain, "cls", 40)).max() < 1e-5
    assert find(str(plain), pooling="cls").key == find(str(plain)).key
    assert fault(find, str(plain), pooling="mean") == f"pooling = mean: {plain} states its own (cls); leave it out"


def test_a_model_that_states_it_keeps_it(tiny: Path) -> None:
    assert pooled(tiny, "mean") == pooled(tiny) == tiny
    assert fault(find, str(tiny), pooling="cls") == f"pooling = cls: {tiny} states its own (mean); leave it out"


def test_prompts_and_length_of_a_plain_folder_are_kept(plain: Path) -> None:
    usage = {"prompts": {"query": "the cat "}, "default_prompt_name": "query", "similarity_fn_name": "dot"}
    (plain / "config_sentence_transformers.json").write_text(json.dumps(usage))
    (plain / "sentence_bert_config.json").write_text('{"max_seq_length": 9}')
    model = open_model(pooled(plain, "mean"))
    assert (token_limit(model), model.prompts["query"], model.similarity_fn_name) == (9, "the cat ", "dot")


def test_texts_do_not_go_through_a_chat_template(plain: Path) -> None:
    expected = open_model(pooled(plain, "mean")).encode(TEXTS)
    settings = plain / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"chat_template": "{{ 'one two three' }}"}))
    assert np.array_equal(open_model(pooled(plain, "mean")).encode(TEXTS), expected)
    (pooled(plain, "mean") / "sentence_bert_config.json").unlink()


def test_what_changes_in_a_folder_is_seen(plain: Path) -> None:
    first = find(str(plain), pooling="mean")
    assert first.folder == find(str(plain), pooling="mean").folder
    before = open_model(first.folder).encode(TEXTS)
    random_transformer("Bert", vocab_size=len(tokenizer()), initializer_range=0.1).save_pretrained(plain)
    second = find(str(plain), pooling="mean")
    assert second.key != first.key
    assert second.weights_sha256 != first.weights_sha256
    assert np.abs(open_model(second.folder).encode(TEXTS) - before).max() > 1e-3
    assert np.abs(open_model(second.folder).encode(TEXTS) - by_transformers(plain, "mean", 40)).max() < 1e-5


def test_what_is_wrong_is_made_again(plain: Path) -> None:
    made = pooled(plain, "mean")
    (made / "modules.json").unlink()
    assert (pooled(plain, "mean") / "modules.json").is_file()


def test_without_links_files_are_copied(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise OSError("a privilege is not held")

    monkeypatch.setattr("compressor.models.pooling.os.symlink", refused)
    made = pooled(plain, "last")
    assert not (made / "model.safetensors").is_symlink()
    assert np.abs(open_model(made).encode(TEXTS) - by_transformers(plain, "last", 40)).max() < 1e-5


def test_the_rules_for_strangers_stay(plain: Path, tmp_path: Path) -> None:
    config = json.loads((plain / "config.json").read_text())
    (plain / "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": {"AutoModel": "x.Y"}}))
    assert "remote code is never run" in fault(find, str(plain), pooling="mean")
    (plain / "config.json").write_text(json.dumps(config))
    (plain / "model.safetensors").rename(plain / "pytorch_model.bin")
    assert "weights are pickled (pytorch_model.bin)" in fault(find, str(plain), pooling="mean")
    shutil.copytree(plain, tmp_path / "empty", ignore=lambda folder, names: [n for n in names if n != "config.json"])
    assert "weights must be safetensors" in fault(find, str(tmp_path / "empty"), pooling="mean")


def test_a_graph_without_weights_is_no_plain_transformer(plain: Path) -> None:
    assert is_plain(plain)
    (plain / "onnx").mkdir()
    assert is_plain(plain)  # a folder of the hub with several forms
    (plain / "model.safetensors").unlink()
    assert not is_plain(plain)
