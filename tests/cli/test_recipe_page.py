"""The page of a recipe says of every step that may be left out that it runs only where its section stands."""

from compressor.cli.reference import _RECIPE
from compressor.flow.embedding import Recipe


def test_every_step_of_its_own_section_is_listed() -> None:
    said, _, _ = _RECIPE.partition(" run only where their section stands")
    steps = [name for name, field in Recipe.model_fields.items() if field.default is None and name != "queries"]
    assert len(steps) == 6
    assert [name for name in steps if f"`{name}`" not in said] == []
    assert [name for name in steps if name not in (Recipe.__doc__ or "")] == []
