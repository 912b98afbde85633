"""Each rule is kept by our artifacts, and complains by name when exactly it is broken."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from compressor.core.errors import ArtifactError
from exporters.contracts import CONSUMERS, RULES, Folder, check
from exporters.pack.vocab_txt import write_vocabulary

POOLING = "1_Pooling/config.json"
GRAPH = "onnx/model.onnx"


@pytest.fixture
def folder(artifacts: Callable[..., Path], tmp_path: Path) -> Path:
    """Return a copy of a tiny model's int8 artifact, to break."""
    return with_vocabulary(artifacts() / "int8", tmp_path / "int8")


def with_vocabulary(source: Path, to: Path) -> Path:
    """Copy an artifact and write the file that its view for Semantic Kernel has besides."""
    shutil.copytree(source, to)
    assert write_vocabulary(to)
    return to


def change(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def rewrite(folder: Path, edit: Callable[[onnx.ModelProto], Any]) -> None:
    model = onnx.load(folder / GRAPH)
    edit(model)
    onnx.save(model, folder / GRAPH)


def swap_outputs(model: onnx.ModelProto) -> None:
    first, second = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend([second, first])


def rename_input(model: onnx.ModelProto) -> None:
    model.graph.input[2].name = "segment_ids"


def narrow_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32


def fix_batch(model: onnx.ModelProto) -> None:
    model.graph.input[1].type.tensor_type.shape.dim[0].dim_value = 1


def halve_output(model: onnx.ModelProto) -> None:
    model.graph.output[1].type.tensor_type.elem_type = TensorProto.FLOAT16


def free_width(model: onnx.ModelProto) -> None:
    model.graph.output[1].type.tensor_type.shape.dim[1].dim_param = "dim"


def own_operator(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Own", ["input_ids"], ["own"], domain="example.org"))


def put_outside(folder: Path) -> None:
    model = onnx.load(folder / GRAPH)
    onnx.save(model, folder / GRAPH, save_as_external_data=True, location="model.onnx_data", size_threshold=64)


def cut_elsewhere(folder: Path) -> None:
    tokens = json.loads((folder / "tokenizer.json").read_text())
    change(folder, "tokenizer.json", truncation=tokens["truncation"] | {"max_length": 32})


def swap_words(folder: Path) -> None:
    first, second, *rest = (folder / "vocab.txt").read_text().splitlines()
    (folder / "vocab.txt").write_text("\n".join([second, first, *rest]) + "\n")


def add_dense(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 9, "name": "9", "path": "9_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))


def new_module_name(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "sentence_transformers.sentence_transformer.modules.pooling.Pooling"
    (folder / "modules.json").write_text(json.dumps(modules))


def prompt(folder: Path) -> None:
    change(folder, "config_sentence_transformers.json", prompts={"ask": "two dogs: "}, default_prompt_name="ask")


def cut_on_the_left(folder: Path) -> None:
    cut = json.loads((folder / "tokenizer.json").read_text())["truncation"]
    change(folder, "tokenizer.json", truncation=cut | {"direction": "Left"})


def pool(folder: Path, key: str) -> None:
    change(folder, POOLING, **{"pooling_mode_mean_tokens": False, key: True})


BROKEN: list[tuple[str, Callable[[Path], Any], str]] = [
    (
        "inputs",
        lambda f: rewrite(f, rename_input),
        "inputs input_ids, attention_mask, segment_ids; taken are input_ids, attention_mask, token_type_ids",
    ),
    ("inputs", lambda f: rewrite(f, lambda m: m.graph.input.pop()), "inputs input_ids, attention_mask; taken"),
    ("inputs", lambda f: rewrite(f, narrow_input), "input input_ids is INT32; taken is INT64"),
    ("inputs", lambda f: rewrite(f, fix_batch), "input attention_mask is [1, 'sequence_length']; taken is [batch_size"),
    (
        "outputs",
        lambda f: rewrite(f, swap_outputs),
        "outputs sentence_embedding of rank 2, last_hidden_state of rank 3; taken are last_hidden_state of rank 3",
    ),
    ("outputs", lambda f: rewrite(f, lambda m: m.graph.output.pop()), "outputs last_hidden_state of rank 3; taken"),
    (
        "outputs",
        lambda f: rewrite(f, lambda m: m.graph.output[0].type.tensor_type.shape.dim.pop(0)),
        "outputs last_hidden_state of rank 2, sentence_embedding of rank 2; taken",
    ),
    ("output_types", lambda f: rewrite(f, halve_output), "output sentence_embedding is FLOAT16; taken is FLOAT"),
    (
        "static_width",
        lambda f: rewrite(f, free_width),
        "output sentence_embedding is ['batch_size', 'dim']; its last dimension must be a number",
    ),
    ("one_file", put_outside, "lies in another file (external data); taken is one file"),
    ("operators", lambda f: rewrite(f, own_operator), "operators of the domain example.org; taken are ai.onnx, com.mi"),
    ("tokenizer", lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json: not there"),
    ("tokenizer", cut_elsewhere, "tokenizer.json: cuts at 32; max_seq_length is 64"),
    ("tokenizer", lambda f: change(f, "tokenizer.json", truncation=None), "tokenizer.json: cuts at None"),
    ("finite_length", lambda f: change(f, "tokenizer_config.json", model_max_length=int(1e30)), "a whole number up to"),
    ("finite_length", lambda f: change(f, "tokenizer_config.json", model_max_length=None), "model_max_length = None;"),
    ("finite_length", lambda f: change(f, "tokenizer_config.json", model_max_length=512), "max_seq_length is 64"),
    (
        "finite_length",
        lambda f: change(f, "tokenizer_config.json", max_length=32),
        "tokenizer_config.json: max_length = 32; model_max_length is 64",
    ),
    (
        "sequence_length",
        lambda f: (f / "sentence_bert_config.json").unlink(),
        "sentence_bert_config.json: max_seq_length = None; taken is a whole number",
    ),
    ("vocabulary", lambda f: (f / "vocab.txt").unlink(), "vocab.txt: not there"),
    ("vocabulary", swap_words, "vocab.txt: line 0 is [UNK]; in tokenizer.json its id is 1"),
    (
        "vocabulary",
        lambda f: change(f, "tokenizer.json", model={"type": "BPE", "vocab": {}}),
        "tokenizer.json: a BPE model; taken is WordPiece",
    ),
    ("legacy_modules", lambda f: (f / "modules.json").unlink(), "modules.json: not there"),
    (
        "legacy_modules",
        new_module_name,
        "modules.json: type sentence_transformers.sentence_transformer.modules.pooling.Pooling; taken is sentence_tran",
    ),
    (
        "legacy_pooling",
        lambda f: (f / POOLING).write_text('{"embedding_dimension": 32, "pooling_mode": "mean"}'),
        "1_Pooling/config.json: pooling_mode_* keys that are on: none; taken is exactly one",
    ),
    (
        "legacy_pooling",
        lambda f: change(f, POOLING, pooling_mode_cls_token=True),
        "on: pooling_mode_cls_token, pooling_mode_mean_tokens; taken is exactly one",
    ),
    (
        "pools_by_itself",
        lambda f: pool(f, "pooling_mode_lasttoken"),
        "1_Pooling/config.json: pooling_mode_lasttoken; this consumer pools by itself, by mean or CLS",
    ),
    ("pools_by_itself", add_dense, "modules.json: a Dense after the pooling; this consumer pools last_hidden_state"),
    ("cuts_on_the_right", cut_on_the_left, "tokenizer.json: cuts texts on the left; this consumer cuts them on the"),
    ("no_default_prompt", prompt, "config_sentence_transformers.json: default prompt ask; this consumer puts none"),
]


@pytest.mark.parametrize("form", ["plain", "fp32", "int8"])
def test_our_artifacts_keep_every_contract(form: str, artifacts: Callable[..., Path], tmp_path: Path) -> None:
    missing = {"Semantic Kernel": ["vocab.txt: not there: compressor pack --target vocab-txt writes it"]}
    assert check(artifacts() / form) == {name: [] for name in CONSUMERS} | missing
    assert check(with_vocabulary(artifacts() / form, tmp_path / form)) == {name: [] for name in CONSUMERS}


def test_every_rule_is_broken_below() -> None:
    assert {rule.__name__ for rule in RULES} == {rule for rule, _, _ in BROKEN}


@pytest.mark.parametrize(
    ("rule", "breaking", "complaint"), BROKEN, ids=[f"{r}-{i}" for i, (r, *_) in enumerate(BROKEN)]
)
def test_a_broken_rule_is_the_only_one_that_complains(
    rule: str, breaking: Callable[[Path], Any], complaint: str, folder: Path
) -> None:
    breaking(folder)
    opened = Folder(folder)
    said = {each.__name__: list(each(opened)) for each in RULES}
    assert [name for name, lines in said.items() if lines] == [rule]
    [line] = said[rule]
    assert complaint in line
    concerned = {name for name, rules in CONSUMERS.items() if rule in [each.__name__ for each in rules]}
    assert {name for name, lines in check(folder).items() if lines == [line]} == concerned
    assert {name for name, lines in check(folder).items() if lines} == concerned


def test_a_model_with_dense_is_not_for_those_who_pool_by_themselves(artifacts: Callable[..., Path]) -> None:
    served = {name for name, lines in check(artifacts(dense=16) / "int8").items() if not lines}
    assert served == {"TEI", "Android", "iOS"}


def test_a_model_without_token_types_declares_whom_it_cannot_serve(artifacts: Callable[..., Path]) -> None:
    said = check(artifacts(family="distilbert") / "int8")
    assert all("inputs input_ids, attention_mask; taken" in lines[0] for lines in said.values())


def test_a_reader_serves_none_of_those_who_ask_for_vectors(reader: Path) -> None:
    listed = "onnx/model.onnx: outputs start_logits of rank 2, end_logits of rank 2; taken are last_hidden_state"
    said = check(reader / "fp32")
    assert said.keys() == CONSUMERS.keys()
    assert all(any(line.startswith(listed) for line in lines) for lines in said.values())


def test_what_is_no_artifact_is_refused(folder: Path) -> None:
    (folder / "modules.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"modules.json: not readable as JSON"):
        check(folder)
    (folder / GRAPH).write_bytes(b"\xff\xff")
    with pytest.raises(ArtifactError, match=r"model.onnx: missing, or not a whole ONNX graph"):
        check(folder)
    (folder / GRAPH).unlink()
    with pytest.raises(ArtifactError, match=r"model.onnx: no such file"):
        check(folder)
