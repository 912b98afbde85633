"""A training says how long its texts were where the student reads longer ones."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from trained import TEXTS, Trained

from compressor.distil.training.lengths import Lengths, lengths_of
from compressor.distil.training.lessons import Collate, Lessons, Part
from compressor.models.sentence_model import limit_tokens, open_model


@pytest.mark.parametrize(
    ("seen", "p99"),
    [({7: 99, 50: 1}, 7), ({7: 98, 20: 1, 50: 1}, 20), ({50: 1, 7: 98}, 50), ({7: 1}, 7), ({}, 64)],
)
def test_the_length_that_99_of_100_do_not_exceed(seen: dict[int, int], p99: int) -> None:
    assert lengths_of(Counter(seen), 64, 256) == Lengths(cut_at=64, p99=p99, limit=256)
    assert lengths_of(Counter(seen), 64, None) is lengths_of(Counter(seen), None, None) is None


@pytest.mark.parametrize(
    ("lengths", "said"),
    [
        (Lengths(64, 64, 256), "at most 64 tokens; it reads 256"),
        (Lengths(64, 51, 256), "at most 51 tokens (99 % of them); it reads 256"),
        (Lengths(128, 128, 256), "at most 128 tokens; it reads 256"),
        (Lengths(256, 128, 256), "at most 128 tokens (99 % of them); it reads 256"),
        (Lengths(256, 129, 256), None),
        (Lengths(256, 256, 256), None),
    ],
)
def test_a_training_on_shorter_texts_says_so(lengths: Lengths, said: str | None) -> None:
    rest = "agreement by length says what it keeps of longer ones"
    assert lengths.line == (said and f"trained on texts of {said}: {rest}")
    assert Lengths.read(lengths.as_dict()) == lengths


def test_a_batchs_texts_are_counted_as_they_are_cut(tiny: Path) -> None:
    model = open_model(tiny)
    limit_tokens(model, 8)
    texts = ["cat dog", "the big cat sleeps", "the cat sees the dog and the bird and the tree"]
    collate = Collate(model, Lessons([Part(texts, np.zeros((3, 4), np.float32))]), 8)
    collate([0, 1])
    collate([2, 0])
    assert (collate.tokens, collate.cut, collate.seen) == (Counter({4: 2, 6: 1, 8: 1}), 1, 4)


def test_a_run_says_it_and_the_students_limit_stays(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = Trained(tmp_path / "short").run(tiny, epochs=0.2)
    assert short.draft.figures["lengths"] == {"cut_at": 12, "p99": 12, "limit": 64}
    line = "trained on texts of at most 12 tokens; it reads 64: agreement by length says"
    assert " ".join(capsys.readouterr().err.split()).count(line) == 1
    assert open_model(short.draft.folder).max_seq_length == 64
    whole = Trained(tmp_path / "whole").run(tiny, epochs=0.2, max_length=64)
    longest = max(len(ids) for ids in open_model(tiny).tokenizer(TEXTS)["input_ids"])
    assert whole.draft.figures["lengths"] == {"cut_at": 64, "p99": longest, "limit": 64}
    assert "tokens (99 % of them); it reads 64" in " ".join(capsys.readouterr().err.split())
