"""The teacher's index is what the searches of a run find there again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from beir import of_sentences, write
from graphs import draft

from compressor.flow.embedding import EmbeddingFlow, Recipe
from compressor.models.sentence_model import TorchEncoder
from compressor.texts.collections import Collection
from compressor.vectors.index import Index, open_index
from compressor.vectors.retrieval import Searches


def test_an_index_is_read_as_it_was_embedded(tiny: Path, make_model: Callable[..., Path], tmp_path: Path) -> None:
    collections = [Collection.read(of_sentences(tmp_path / "a b")), Collection.read(write(tmp_path / "__metadata__"))]
    made = draft(tmp_path / "index")
    Index().run(tiny, collections, made)
    opened, searches = open_index(made.folder, collections), Searches(collections)
    figures = searches.figures(TorchEncoder.load(tiny))
    assert opened.teacher == figures == searches.teacher
    assert 50 < figures["a b"]["ndcg_at_10"] <= 100
    assert list(opened.index) == ["a b", "__metadata__"]
    for name, vectors in searches.index.items():
        np.testing.assert_array_equal(opened.index[name], vectors)
    # The teacher is done: another model's queries search its index.
    other = opened.figures(TorchEncoder.load(make_model(seed=1)))
    assert all("on_teachers_index" in found for found in other.values())
    assert other["a b"]["on_teachers_index"]["ndcg_at_10"] < figures["a b"]["ndcg_at_10"]


def test_a_collection_of_another_name_is_embedded_again(tiny: Path, tmp_path: Path) -> None:
    """What the teacher finds is kept by a collection's name: renamed, it was looked for in vain."""

    def found(folder: Path) -> dict[str, Any]:
        recipe = Recipe.read({"name": "r", "teacher": {"model": str(tiny)}, "bench": {"retrieval": [folder.name]}})
        return dict(EmbeddingFlow.of(recipe, tmp_path, tmp_path / "runs").searches.teacher)

    first = found(of_sentences(tmp_path / "first"))
    renamed = found((tmp_path / "first").rename(tmp_path / "second"))
    assert list(renamed) == ["second"]
    assert renamed["second"] == first["first"]
