"""A length past the positions, and tokens past the vectors, are refused before anything is made of the model."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders import tokenizer
from families import random_encoder, random_transformer
from graphs import draft
from tokenizers import AddedToken, Tokenizer

from compressor.core.errors import ArtifactError, ModelError
from compressor.models import positions as tables
from compressor.models.positions import positions
from compressor.models.sentence_model import open_model
from exporters.graph.export import Export
from exporters.serving import Batcher
from exporters.session import OnnxEncoder


@pytest.mark.parametrize(
    ("family", "most"),
    [
        ("Bert", 40),
        ("Roberta", 38),  # counted from behind the padding's
        ("MPNet", 38),
        ("DistilBert", 512),
        ("Albert", 40),
        ("Electra", 40),
        ("DebertaV2", 40),
        ("ModernBert", None),
        ("NomicBert", None),
        ("T5", None),
    ],
)
def test_positions_of_families(family: str, most: int | None) -> None:
    assert positions(random_transformer(family)) == most


def test_a_length_without_positions_is_refused(tiny: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny, tmp_path / "model"))
    settings = json.loads((model / "sentence_bert_config.json").read_text())
    (model / "sentence_bert_config.json").write_text(json.dumps(settings | {"max_seq_length": 65}))
    with pytest.raises(ModelError) as caught:
        open_model(model)
    assert str(caught.value) == (
        f"{model}: max_seq_length = 65: the model has positions for 64 tokens; "
        "state at most 64 in sentence_bert_config.json"
    )


def test_positions_behind_the_paddings_are_refused(tmp_path: Path) -> None:
    model = random_encoder("Roberta", tokenizer(), tmp_path / "raw", pad_token_id=0)
    model.max_seq_length = 40
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    (tmp_path / "model" / "sentence_bert_config.json").write_text('{"max_seq_length": 40}')
    with pytest.raises(ModelError, match="max_seq_length = 40: the model has positions for 39 tokens"):
        open_model(tmp_path / "model")


def test_what_the_tables_do_not_show_is_run(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "positions", lambda _: None)
    model = Path(shutil.copytree(tiny, tmp_path / "model"))
    (model / "sentence_bert_config.json").write_text('{"max_seq_length": 100}')
    with pytest.raises(ModelError, match="max_seq_length = 100: a text of so many tokens cannot be computed: "):
        Export().run(model, draft(tmp_path / "plain"))


def test_tokens_without_a_vector_are_refused(tiny: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny, tmp_path / "model"))
    words = Tokenizer.from_file(str(model / "tokenizer.json"))
    count = words.get_vocab_size()
    words.add_tokens([AddedToken("qwertz")])
    words.save(str(model / "tokenizer.json"))
    message = f": token 'qwertz' has the id {count}; the model has vectors for {count} tokens$"
    with pytest.raises(ModelError, match=message):
        open_model(model)


@pytest.fixture
def overlong(artifacts: Callable[..., Path], tmp_path: Path) -> Path:
    """Return an artifact as another tool may write it: it reads more tokens than its graph has positions for."""
    folder = Path(shutil.copytree(artifacts() / "fp32", tmp_path / "artifact"))
    (folder / "manifest.json").unlink(missing_ok=True)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 100}')
    return folder


def test_what_cannot_be_computed_is_one_line(overlong: Path) -> None:
    encoder, long = OnnxEncoder(overlong, threads=1), "cat " * 90
    for texts in ([long], [long, "a dog"] * 40):
        with pytest.raises(
            ArtifactError, match=r"model\.onnx: cannot compute \d+ x 92 tokens with ids up to"
        ) as caught:
            encoder.encode(texts)
        assert "\n" not in str(caught.value)
    with Batcher(encoder) as batcher:
        bad, good = batcher.submit(long), batcher.submit("a dog")
        assert isinstance(bad.exception(10), ArtifactError)
        np.testing.assert_allclose(good.result(10), encoder.encode(["a dog"])[0], atol=1e-6)
