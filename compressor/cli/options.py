"""Command-line options made from a configuration's fields, so that each is documented in one place."""

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer

from compressor.core.config import Config
from compressor.core.errors import RecipeError

C = TypeVar("C", bound=Config)


def with_options(**schemas: type[Config]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add an option for every field of the schemas to a command.

    The command takes each configuration as a keyword argument of the name that its schema is given under. Options left
    out take the field's default; values are checked by the configuration itself, and its RecipeError names the field.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def call(**given: Any) -> None:
            made = {}
            for name, schema in schemas.items():
                values = {field: given.pop(field) for field in schema.model_fields if field in given}
                made[name] = read(schema, values)
            command(**given, **made)

        own = [p for name, p in inspect.signature(command).parameters.items() if name not in schemas]
        extra = [_parameter(schema, field) for schema in schemas.values() for field in schema.model_fields]
        call.__signature__ = inspect.Signature([*own, *extra])  # type: ignore[attr-defined]
        call.__doc__, call.__name__ = command.__doc__, command.__name__
        return call

    return decorate


def with_choice(name: str, text: str, schemas: Mapping[str, type[Config]]) -> Callable[..., Callable[..., None]]:
    """Add option ``name``, one of ``schemas``, and an option for every field of any of them.

    The command takes the chosen configuration as keyword argument ``name``. An option of another choice is a
    RecipeError.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        fields = dict.fromkeys(field for schema in schemas.values() for field in schema.model_fields)
        having = {field: [key for key, schema in schemas.items() if field in schema.model_fields] for field in fields}

        def call(**given: Any) -> None:
            chosen, values = given.pop(name), {field: given.pop(field) for field in fields}
            if chosen not in schemas:
                raise RecipeError(f"{name} = {chosen}: not known; allowed: {', '.join(schemas)}")
            for field, value in values.items():
                if value is not None and chosen not in having[field]:
                    flag = f"--{field.replace('_', '-')}"
                    raise RecipeError(f"{flag}: an option of {', '.join(having[field])}; {chosen} has none such")
            own = {field: values[field] for field in schemas[chosen].model_fields}
            command(**given, **{name: read(schemas[chosen], own)})

        metavar = "|".join(schemas)
        choice = Annotated[str, typer.Option(f"--{name}", help=text, metavar=metavar)]
        own = [p for n, p in inspect.signature(command).parameters.items() if n != name]
        extra = [_parameter(schemas[keys[0]], field, f"{', '.join(keys)}: ") for field, keys in having.items()]
        parameters = [*own, inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=choice), *extra]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__doc__, call.__name__ = command.__doc__, command.__name__
        return call

    return decorate


def with_each(name: str, schemas: Mapping[str, type[Config]]) -> Callable[..., Callable[..., None]]:
    """Add an option for every field of any of ``schemas``, which are by task, for a command that finds the task out.

    The command takes as keyword argument ``name`` what returns a task's configuration: ``name(task)``. An option that
    this task has not is a RecipeError.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        fields = dict.fromkeys(field for schema in schemas.values() for field in schema.model_fields)

        def call(**given: Any) -> None:
            values = {field: given.pop(field) for field in fields}
            command(**given, **{name: lambda task: _of_task(task, schemas, values)})

        own = [p for n, p in inspect.signature(command).parameters.items() if n != name]
        parameters = [*own, *(_parameter_of_each(schemas, field) for field in fields)]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__doc__, call.__name__ = command.__doc__, command.__name__
        return call

    return decorate


def _of_task(task: str, schemas: Mapping[str, type[Config]], values: Mapping[str, Any]) -> Config:
    """Check the options of a task; RecipeError for one of another's."""
    for field in [field for field, value in values.items() if value is not None]:
        if field not in schemas[task].model_fields:
            tasks = ", ".join(_having(schemas, field))
            raise RecipeError(f"--{field.replace('_', '-')}: an option of {tasks}; the model is for {task}")
    return read(schemas[task], {field: values[field] for field in schemas[task].model_fields})


def _having(schemas: Mapping[str, type[Config]], name: str) -> dict[str, type[Config]]:
    return {task: schema for task, schema in schemas.items() if name in schema.model_fields}


def read(schema: type[C], given: dict[str, Any]) -> C:
    """Check options as text into a configuration; those left out (None) take their default."""
    values = {name: _value(schema, name, value) for name, value in given.items() if value is not None}
    return schema.read(values)


def _parameter(schema: type[Config], name: str, head: str = "") -> inspect.Parameter:
    return _option(name, head + described(schema, name), _metavar(schema.model_fields[name].annotation))


def _parameter_of_each(schemas: Mapping[str, type[Config]], name: str) -> inspect.Parameter:
    """Return the option of a field that some of ``schemas`` have; where they differ in it, each is told of."""
    having = _having(schemas, name)
    fields = {task: schema.model_fields[name] for task, schema in having.items()}
    texts = {task: described(schema, name) for task, schema in having.items()}
    if len(set(texts.values())) == 1:
        head = "" if len(having) == len(schemas) else f"{', '.join(having)}: "
        text = head + next(iter(texts.values()))
    elif len({field.description for field in fields.values()}) == 1:
        defaults = ", ".join(f"{_shown(field.default)} for {task}" for task, field in fields.items())
        text = f"{_words(next(iter(fields.values())).description)} [default: {defaults}]"
    else:
        text = " ".join(f"{task}: {own}" for task, own in texts.items())
    metavars = dict.fromkeys(_metavar(field.annotation) for field in fields.values())
    return _option(name, text, "|".join(metavars))


def _option(name: str, text: str, metavar: str) -> inspect.Parameter:
    option = typer.Option(f"--{name.replace('_', '-')}", help=text, show_default=False, metavar=metavar)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]
    )


def described(schema: type[Config], name: str) -> str:
    """Return what the help says of a field: its words, and its default."""
    field = schema.model_fields[name]
    return _words(field.description) + ("" if field.default is None else f" [default: {_shown(field.default)}]")


def _words(text: str | None) -> str:
    return " ".join((text or "").split())


def _shown(value: Any) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _metavar(annotation: Any) -> str:
    kinds = _kinds(annotation)
    words = [w for kind in kinds if get_origin(kind) is Literal for w in map(str, get_args(kind))]
    words += ["true", "false"] * (bool in kinds)
    words += ["NUMBER"] * bool({int, float} & set(kinds)) + ["TEXT"] * (str in kinds)
    if any(get_origin(kind) is tuple for kind in kinds):
        words.append("A,B,…")
    return "|".join(words)


def _kinds(annotation: Any) -> list[Any]:
    """Return the plain types of an annotation, Annotated and unions taken apart."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [kind for part in get_args(annotation) for kind in _kinds(part)]
    return [annotation]


def _value(schema: type[Config], name: str, text: Any) -> Any:
    """Turn an option's text into what TOML would have given; what does not fit is left to the check."""
    kinds = _kinds(schema.model_fields[name].annotation)
    if not isinstance(text, str):
        return text
    for kind in kinds:
        if get_origin(kind) is tuple and ("," in text or not {int, float} & set(kinds)):
            return [_scalar(part.strip(), _kinds(get_args(kind)[0])) for part in text.split(",") if part.strip()]
    return _scalar(text, kinds)


def _scalar(text: str, kinds: list[Any]) -> Any:
    if bool in kinds and text.lower() in ("true", "false"):
        return text.lower() == "true"
    for choice in (choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)):
        if text == str(choice):
            return choice  # a number, where these are the choices
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                continue
    return text
