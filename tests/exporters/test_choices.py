"""What settings are chosen by is never what is reported: every choice is made on texts of its own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import sentences
from running import RECIPE, write_recipe

from benchmarks.quality.curve import Curve
from compressor.artifact.folder import Draft
from compressor.artifact.workspace import Workspace
from compressor.core.config import load
from compressor.distil.language.multilingual import Multilingual, Translations
from compressor.distil.training.embedding import Distil
from compressor.flow.embedding import EmbeddingFlow, Recipe
from compressor.models.sentence_model import TorchEncoder
from compressor.models.source import find
from compressor.texts.corpus import Texts
from compressor.texts.mixing import folded
from compressor.texts.parallel import ParallelTexts
from compressor.vectors.pca import Pca


@pytest.fixture(scope="module")
def flow(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> EmbeddingFlow:
    home = write_recipe(tmp_path_factory.mktemp("home"), RECIPE, tiny)
    recipe = load(home / "tiny.toml", Recipe, ["distil.patience=1", "pca.dim=8"])
    return EmbeddingFlow(recipe, home, Workspace(home / "runs"))


class Stopped(Exception):
    """Ends a stage once it was called."""


def called(flow: EmbeddingFlow, stage: type, go: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the texts and vectors that a stage is given to choose by."""
    given: list[Any] = []

    def run(self: Any, *arguments: Any, **named: Any) -> None:
        given.extend(named.get("dev") or one for one in [*arguments, named.get("dev")] if hasattr(one, "agreement"))
        raise Stopped

    monkeypatch.setattr(stage, "run", run)
    with pytest.raises(Stopped):
        go()
    return given[0]


def test_the_parts_have_no_text_in_common_however_it_is_written(flow: EmbeddingFlow) -> None:
    parts = [
        {folded(text.encode()) for text in part} for part in (flow.corpus.train, flow.dev.texts, flow.heldout.texts)
    ]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert [len(part) for part in parts[1:]] == [20, 20]


@pytest.mark.parametrize(("stage", "name"), [(Pca, "pca"), (Distil, "distil")])
def test_stages_choose_on_texts_that_are_not_reported(
    stage: type, name: str, flow: EmbeddingFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = (lambda: flow.pca(flow.teacher)) if name == "pca" else flow.distil
    chosen_by = called(flow, stage, go, monkeypatch)
    assert chosen_by.texts == flow.corpus.dev
    np.testing.assert_allclose(
        chosen_by.teacher, TorchEncoder.load(flow.teacher.folder).encode(flow.corpus.dev), atol=1e-3
    )


def test_a_curve_chooses_on_texts_that_it_does_not_report(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(sentences(300)))
    corpus, choose, seen = Texts(source=str(tmp_path / "texts.txt")).load(), Pca.choose, []

    def watched(self: Pca, sample: Any, own: Any, teacher: Any) -> Any:
        seen.extend([own, teacher])
        return choose(self, sample, own, teacher)

    monkeypatch.setattr(Pca, "choose", watched)
    (tmp_path / "made").mkdir()
    Curve(dims=(8,), sample=200).run(find(str(tiny)), corpus, False, "curve", Draft(tmp_path / "made"))
    own = TorchEncoder.load(tiny).encode(corpus.dev)
    assert len(seen) == 2
    for vectors in seen:
        np.testing.assert_allclose(vectors, own, atol=1e-5)


def test_translations_of_texts_that_are_kept_out_are_not_learnt(flow: EmbeddingFlow) -> None:
    corpus, stage = flow.corpus, Multilingual(pairs=(("a", "b"),), switched=0.0)
    shouted = [f"{text.upper()}!" for text in [corpus.heldout[0], corpus.dev[0]]]
    sources = [*shouted, *corpus.train[:3]]
    translations = Translations(stage, flow.base)
    pairs = ParallelTexts.of([(source, f"translation {i}") for i, source in enumerate(sources)])
    translations.__dict__["pairs"] = (pairs, pairs)
    [part] = translations.parts(flow.teacher, corpus, None)
    assert list(part.texts) == ["translation 2", "translation 3", "translation 4"]
    wanted = TorchEncoder.load(flow.teacher.folder).encode(corpus.train[:3])
    np.testing.assert_allclose(np.stack([part.vectors[[row]][0] for row in part.rows]), wanted, atol=2e-2)
