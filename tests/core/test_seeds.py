"""A seed is what every generator takes; another is refused where it stands, not by a library after the reading."""

from typing import Any

import pytest

from compressor.answering.questions.sets import QuestionSets
from compressor.answering.training.augment import Augment
from compressor.answering.training.train import ReaderTraining
from compressor.core.config import Config
from compressor.core.errors import RecipeError
from compressor.distil.training.train import Training
from compressor.texts.corpus import Texts


@pytest.mark.parametrize("schema", [Augment, QuestionSets, ReaderTraining, Texts, Training])
def test_a_seed_is_a_number_of_32_bits(schema: type[Config]) -> None:
    given: dict[str, Any] = {"train": "x.json"} if schema is QuestionSets else {}
    for seed, wanted in ((-1, "greater than or equal to 0"), (1 << 32, "less than 4294967296")):
        with pytest.raises(RecipeError) as caught:
            schema.read(given | {"seed": seed})
        assert str(caught.value) == f"options: seed = {seed}: input should be {wanted}"
    assert schema.read(given | {"seed": (1 << 32) - 1})
