"""Strict configuration: a stage's fields are documented once, where they stand; unknown keys are refused."""

import copy
import difflib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from compressor.core.errors import RecipeError

Seed = Annotated[int, Field(ge=0, lt=1 << 32)]
"""What every generator takes: NumPy's is the narrowest."""


class Config(BaseModel):
    """A frozen set of fields, read strictly: no unknown key, no text where a number belongs."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @classmethod
    def read(cls, values: dict[str, Any], where: str = "options") -> Self:
        """Check ``values`` (as TOML gives them) and return the configuration; RecipeError on the first fault."""
        try:
            # JSON mode: arrays may be tuples, everything else stays strict.
            return cls.model_validate_json(json.dumps(values, default=str))
        except ValidationError as error:
            raise RecipeError(f"{where}: {_first_fault(cls, error)}") from error

    def decided_here(self) -> Any:
        """Return what this machine decides of a stage, in JSON values; its processor's features where it measures."""
        return None


C = TypeVar("C", bound=Config)


def load(path: Path, schema: type[C], overrides: list[str] | None = None) -> C:
    """Read a TOML recipe into ``schema``.

    ``overrides`` are ``section.field=value`` lines, the value in TOML (a bare word counts as text); without a value,
    the field or section is left out, so that its default counts.
    Raises RecipeError for a missing file, broken TOML, an unknown key or a value that is not allowed.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: no such recipe") from error
    except (ValueError, RecursionError, OSError) as error:  # TOML, UTF-8, or numbers of thousands of digits
        raise RecipeError(f"{path}: not readable as TOML: {error}") from error
    values = overridden(values, overrides or [])
    if "name" in schema.model_fields:
        values.setdefault("name", path.stem)
    return schema.read(values, where=str(path))


def overridden(values: dict[str, Any], lines: Sequence[str]) -> dict[str, Any]:
    """Return a recipe's values with those of ``section.field=value`` lines; RecipeError for what is no such line."""
    changed: dict[str, Any] = copy.deepcopy(values)
    for line in lines:
        _override(changed, line)
    return changed


def _override(values: dict[str, Any], line: str) -> None:
    field, separator, text = line.partition("=")
    if not separator:
        raise RecipeError(f"--set {line}: expected section.field=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text
    *sections, name = field.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise RecipeError(f"--set {line}: {section} is a field, not a section")
    if text.strip():
        values[name] = value
    elif values.pop(name, None) is None:
        raise RecipeError(f"--set {line}: leaves out what the recipe does not state")


def _first_fault(schema: type[Config], error: ValidationError) -> str:
    faults = error.errors(include_url=False)
    fault = faults[0]
    place = _place(schema, fault["loc"])
    for candidate in faults[1:]:  # the branch of a union that the value got furthest in
        further = _place(schema, candidate["loc"])
        if further[: len(place)] == place and len(further) > len(place):
            fault, place = candidate, further
    field = ".".join(place) or "recipe"
    if fault["type"] == "extra_forbidden":
        allowed = _fields_at(schema, [part for part in fault["loc"][:-1] if isinstance(part, str)])
        close = difflib.get_close_matches(str(fault["loc"][-1]), allowed, n=1)
        hint = f"did you mean {close[0]}?" if close else f"allowed: {', '.join(allowed)}"
        return f"{field}: unknown key; {hint}"
    if fault["type"] == "missing":
        return f"{field}: missing"
    # A field that takes several kinds of value has a fault for each.
    wanted = [f["msg"].removeprefix("Value error, ") for f in faults if _place(schema, f["loc"]) == place]
    message = " or ".join([wanted[0], *(w.removeprefix("Input should be ") for w in wanted[1:])])
    return f"{field} = {json.dumps(fault['input'], default=str)}: {message[0].lower() + message[1:]}"


def _place(schema: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Name sections, field and index of a fault, without the branch of a union that pydantic adds."""
    place: list[str] = []
    section: type[BaseModel] | None = schema
    for part in loc:
        if isinstance(part, str):
            if section is None:
                continue
            field = section.model_fields.get(part)
            section = _model_of(field.annotation) if field else None
        place.append(str(part))
    return place


def _fields_at(schema: type[BaseModel], path: list[str]) -> list[str]:
    """Names of the fields of the section that ``path`` leads to."""
    for part in path:
        field = schema.model_fields.get(part)
        inner = _model_of(field.annotation) if field else None
        if inner is None:
            return []
        schema = inner
    return list(schema.model_fields)


def _model_of(annotation: Any) -> type[BaseModel] | None:
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next((a for a in candidates if isinstance(a, type) and issubclass(a, BaseModel)), None)
