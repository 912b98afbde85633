"""Each setting of a model that is not at its default is kept by the exported folder, or refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import WORDS, tokenizer
from families import random_encoder
from graphs import draft
from sentence_transformers import SentenceTransformer

from compressor.core.errors import ModelError
from compressor.models.sentence_model import open_model
from compressor.models.settings import check_stated
from exporters.graph.export import Export
from exporters.session import OnnxEncoder
from exporters.verify.folder import by_modules, other_tokens

LONG = " ".join(WORDS * 3)
TEXTS = ["the cat sleeps .", "A big RED house", "a dog", LONG]


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def change(path: Path, **values: Any) -> None:
    stated = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(stated | values))


def exported(model: Path, folder: Path) -> OnnxEncoder:
    Export().run(model, draft(folder))
    return OnnxEncoder(folder, threads=1)


def off(encoder: OnnxEncoder, model: Path) -> float:
    wanted = SentenceTransformer(str(model), device="cpu", local_files_only=True).encode(TEXTS)
    return float(np.abs(encoder.encode(TEXTS) - wanted).max())


KEPT = [
    ("config_sentence_transformers.json", {"truncate_dim": 5}),
    ("config_sentence_transformers.json", {"truncate_dim": 500}),
    ("config_sentence_transformers.json", {"similarity_fn_name": "dot"}),
    ("tokenizer_config.json", {"truncation_side": "left"}),
    ("tokenizer_config.json", {"model_max_length": 1e30}),
    ("sentence_bert_config.json", {"do_lower_case": True}),
    ("sentence_bert_config.json", {"unpad_inputs": False}),
    ("sentence_bert_config.json", {"max_seq_length": 9}),
    ("sentence_bert_config.json", {"processing_kwargs": {"text": {}}}),
    ("config.json", {"layer_norm_eps": 0.5}),
    ("config.json", {"hidden_act": "relu"}),
    ("config.json", {"position_embedding_type": "absolute"}),
]


@pytest.mark.parametrize(("name", "values"), KEPT)
def test_settings_that_are_kept(name: str, values: dict[str, Any], copy: Path, tmp_path: Path) -> None:
    change(copy / name, **values)
    assert off(exported(copy, tmp_path / "plain"), copy) < 1e-5


def test_a_cut_vector_is_cut_for_every_consumer(copy: Path, tmp_path: Path) -> None:
    change(copy / "config_sentence_transformers.json", truncate_dim=5)
    encoder = exported(copy, tmp_path / "plain")
    assert (encoder.dim, encoder.encode(TEXTS).shape) == (5, (4, 5))
    np.testing.assert_allclose(by_modules(encoder, TEXTS), encoder.encode(TEXTS), atol=1e-6)
    assert open_model(copy).truncate_dim is None


REFUSED = [
    ("config_sentence_transformers.json", {"truncate_dim": 0}, "truncate_dim = 0: must be a whole number from 1"),
    (
        "config_sentence_transformers.json",
        {"model_type": "SparseEncoder"},
        "model_type = 'SparseEncoder': must be SentenceTransformer",
    ),
    ("config_sentence_transformers.json", {"new": 3}, "new = 3: not known, so it cannot be kept; take it out if it"),
    ("sentence_bert_config.json", {"processing_kwargs": {"text": {"add_special_tokens": False}}}, "processing_kwargs"),
    (
        "sentence_bert_config.json",
        {"transformer_task": "fill-mask"},
        "transformer_task = 'fill-mask': must be feature-extraction",
    ),
    ("sentence_bert_config.json", {"model_args": {"num_hidden_layers": 2}}, "model_args = "),
    ("sentence_bert_config.json", {"query_length": 8}, "query_length = 8: cannot be kept; it must be left out"),
    (
        "sentence_bert_config.json",
        {
            "modality_config": {"text": {"method": "forward", "method_output_name": ["hidden_states", 1]}},
            "module_output_name": "token_embeddings",
        },
        "modality_config = ",
    ),
    ("tokenizer_config.json", {"split_special_tokens": True}, "split_special_tokens = True: cannot be kept"),
    ("tokenizer_config.json", {"model_input_names": ["input_ids"]}, "model_input_names: attention_mask must be among"),
    ("tokenizer_config.json", {"pieces_at_once": 3}, "pieces_at_once = 3: not known, so it cannot be kept"),
    ("config.json", {"alibi_slopes": 8}, "alibi_slopes = 8: not known, so it cannot be kept"),
    ("config.json", {"chunk_size_feed_forward": 8}, "chunk_size_feed_forward = 8: cannot be kept; it must be 0 or 1"),
    ("2_Dense/config.json", {"use_residual": True}, "use_residual = True: cannot be kept; it must be left out"),
    ("2_Dense/config.json", {"module_input_name": "token_embeddings"}, "it must be 'sentence_embedding'"),
    ("2_Dense/config.json", {"activation_function": "evil.Act"}, "activation_function = 'evil.Act': none of PyTorch's"),
    ("3_Normalize/config.json", {"module_input_name": "token_embeddings"}, "it must be 'sentence_embedding'"),
    ("1_Pooling/config.json", {"weights": [1, 2]}, r"weights = [1, 2]: not known, so it cannot be kept"),
]


@pytest.mark.parametrize(("name", "values", "message"), REFUSED)
def test_settings_that_are_refused(
    name: str, values: dict[str, Any], message: str, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    model = Path(shutil.copytree(make_model(dense=16), tmp_path / "model"))
    change(model / name, **values)
    with pytest.raises(ModelError) as caught:
        open_model(model)
    assert str(caught.value).startswith(f"{model / name}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_chat_template_is_refused_where_texts_go_through_it(copy: Path, tmp_path: Path) -> None:
    change(copy / "tokenizer_config.json", chat_template="{{ messages }}")
    assert off(exported(copy, tmp_path / "plain"), copy) < 1e-5, "it is said to read text alone"
    settings = copy / "sentence_bert_config.json"
    stated = json.loads(settings.read_text())
    settings.write_text(json.dumps({name: stated[name] for name in stated if "modality" not in name}))
    with pytest.raises(ModelError, match=r"chat_template = .*cannot be kept; it must be left out"):
        open_model(copy)


def test_arguments_of_modules_are_refused(copy: Path) -> None:
    entries = json.loads((copy / "modules.json").read_text())
    entries[1]["kwargs"] = ["task"]
    (copy / "modules.json").write_text(json.dumps(entries))
    with pytest.raises(ModelError, match=r"modules\.json: kwargs = \['task'\]: cannot be kept; it must be left out$"):
        open_model(copy)


def test_padding_that_moves_positions_is_refused(copy: Path, tmp_path: Path) -> None:
    change(copy / "tokenizer_config.json", padding_side="left")
    with pytest.raises(ModelError, match=r"would give other vectors than it does, .*padding_side = left\)$"):
        exported(copy, tmp_path / "plain")


def test_what_says_nothing_is_taken() -> None:
    for value in (None, False, "", [], {}, {"text": {}}):
        check_stated(Path("a.json"), {"some": value}, {})
    for value in (0, "x", [0], {"text": {"a": False}}, {"a": None}):
        with pytest.raises(ModelError, match=r"^a\.json: some = "):
            check_stated(Path("a.json"), {"some": value}, {})


def test_a_tokenizer_beside_the_graph_that_differs_is_seen(copy: Path, tmp_path: Path) -> None:
    encoder, model = exported(copy, tmp_path / "plain"), open_model(copy)
    assert other_tokens(encoder, model) == []
    change(tmp_path / "plain" / "tokenizer.json", normalizer=None)
    assert any("UPPER" in text for text in other_tokens(OnnxEncoder(tmp_path / "plain", threads=1), model))


@pytest.mark.parametrize("family", ["DistilBert", "ModernBert"])
def test_inputs_that_the_transformer_does_not_take_are_left_out(family: str, tmp_path: Path) -> None:
    random_encoder(family, tokenizer(), tmp_path / "made").save(str(tmp_path / "model"))
    wanted = open_model(tmp_path / "model").encode(TEXTS)
    [path] = (tmp_path / "model").rglob("tokenizer_config.json")
    named = json.loads(path.read_text()) | {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
    path.write_text(json.dumps(named))
    opened = open_model(tmp_path / "model")
    assert list(opened.tokenizer.model_input_names) == ["input_ids", "attention_mask"]
    np.testing.assert_array_equal(opened.encode(TEXTS), wanted)
