"""The gate on searching: what an artifact finds of what the teacher does, judged and unlabelled."""

from collections.abc import Callable
from pathlib import Path

import pytest
from beir import of_sentences
from builders import sentences

from compressor.core.errors import GateError, RecipeError
from compressor.models.agreement import Heldout
from compressor.models.sentence_model import TorchEncoder, open_model
from compressor.texts.collections import Collection
from compressor.vectors.retrieval import FIGURE, Found, Searches, retrieval, sides
from exporters.session import OnnxEncoder
from exporters.verify.check import Check, gate
from exporters.verify.embedding import Verify

TEXTS = sentences(60)
LOOSE = Verify(
    int8_cosine_mean=0.9, teacher_cosine_mean=-1.0, teacher_cosine_p1=-1.0, teacher_cosine_min=-1.0,
    neighbours_at_10=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def heldout(tiny: Path) -> Heldout:
    return Heldout(TEXTS, open_model(tiny).encode(TEXTS))


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return Collection.read(of_sentences(tmp_path_factory.mktemp("beir") / "sentences"))


@pytest.fixture(scope="module")
def searches(collection: Collection, tiny: Path) -> Searches:
    """Return what the tiny model, as the teacher, finds."""
    made = Searches([collection])
    made.figures(TorchEncoder.load(tiny))
    return made


def found(checks: list[Check], label: str = "retrieval") -> dict[str, Check]:
    return {check.figure: check for check in checks if check.check == label}


def known(ndcg: float) -> Found:
    return {"ndcg_at_10": ndcg, "recall_at_1": 0, "recall_at_10": 0, "recall_at_100": 0, "mrr_at_10": 0}


def test_the_share_is_of_the_mean_and_of_each_collection() -> None:
    teacher = {"papers": known(40), "books": known(20), "none": known(0)}
    checks = Verify(retrieval_share=0.9)._found("int8", {"papers": 30.0, "books": 21.0, "none": 0.0}, teacher)
    assert [(check.figure, check.value, check.bar) for check in checks] == [
        ("ndcg_at_10_of_teachers", pytest.approx(51 / 60), 0.9),
        ("ndcg_at_10_of_teachers, papers", 0.75, None),
        ("ndcg_at_10_of_teachers, books", pytest.approx(1.05), None),
        ("ndcg_at_10_of_teachers, none", 0, None),
    ]
    with pytest.raises(GateError) as caught:
        gate(checks)
    stated = "retrieval: ndcg_at_10_of_teachers = 0.85, must be >= 0.9; the bar is verify.retrieval_share"
    assert str(caught.value) == f"verify int8: {stated}"


def test_an_artifact_finds_by_itself(
    artifacts: Callable[..., Path], tiny: Path, heldout: Heldout, collection: Collection, searches: Searches
) -> None:
    full = retrieval(collection, *sides(TorchEncoder.load(tiny), collection))[FIGURE]
    for name in ("fp32", "int8"):
        folder = artifacts() / name
        checks = found(LOOSE.examine(name, folder, tiny, heldout, searches))
        own = retrieval(collection, *sides(OnnxEncoder(folder), collection))[FIGURE]
        assert list(checks) == ["ndcg_at_10_of_teachers", "ndcg_at_10_of_teachers, sentences"]
        assert [check.value for check in checks.values()] == pytest.approx([own / full] * 2)
        assert [check.bar for check in checks.values()] == [None, None]
    assert found(LOOSE.examine("fp32", artifacts() / "fp32", tiny, heldout)) == {}


def test_a_bar_on_it_stops_what_finds_less(
    artifacts: Callable[..., Path], tiny: Path, heldout: Heldout, searches: Searches
) -> None:
    """The teacher's figure, doubled: what finds as much as it is at a half."""
    bars = LOOSE.model_copy(update={"retrieval_share": 0.95})
    gate(bars.examine("fp32", artifacts() / "fp32", tiny, heldout, searches))
    doubled = {name: known(2 * figures["ndcg_at_10"]) for name, figures in searches.teacher.items()}
    more = Searches(searches.collections, searches.index, doubled)
    line = r"ndcg_at_10_of_teachers = 0\.\d+, must be >= 0\.95; the bar is verify\.retrieval_share$"
    with pytest.raises(GateError, match=rf"^verify fp32: retrieval: {line}"):
        gate(bars.examine("fp32", artifacts() / "fp32", tiny, heldout, more))


def test_a_bar_without_a_collection_is_refused(collection: Collection) -> None:
    Verify().check([])
    Verify(retrieval_share=0.9).check([collection])
    with pytest.raises(RecipeError, match=r"^verify\.retrieval_share = 0\.9: needs a collection in bench\.retrieval$"):
        Verify(retrieval_share=0.9).check([])


def test_without_a_collection_the_teachers_order_is_the_truth(
    artifacts: Callable[..., Path], make_model: Callable[..., Path], tiny: Path, heldout: Heldout
) -> None:
    label, bars = "agreement with the teacher", LOOSE.model_copy(update={"ranking_kept": 0.9})
    same = bars.examine("fp32", artifacts() / "fp32", tiny, heldout)
    assert found(same, label)["ranking_kept"].value > 0.99
    gate(same)
    other = bars.examine("fp32", artifacts(seed=1) / "fp32", make_model(seed=1), heldout)
    assert 0 < found(other, label)["ranking_kept"].value < 0.9
    line = r"ranking_kept = 0\.\d+, must be >= 0\.9; the bar is verify\.ranking_kept$"
    with pytest.raises(GateError, match=rf"^verify fp32: agreement with the teacher: {line}"):
        gate(other)
