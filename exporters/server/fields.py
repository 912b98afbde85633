"""The fields of a request's body, each read once and checked where it is read; what nobody reads is refused."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from compressor.core.encoder import check_texts
from compressor.core.errors import TextError
from exporters.server.refused import Refused, too_large, wrong

Item = str | list[int]
"""A text, or the ids of its tokens."""


class Fields:
    """What a JSON object says."""

    def __init__(self, body: Any) -> None:
        if not isinstance(body, dict):
            raise Refused(400, "body: must be a JSON object", code="invalid_json")
        self._left: dict[str, Any] = dict(body)

    def end(self) -> None:
        """Refuse what was not asked for: a misspelt field would be passed over in silence."""
        if self._left:
            raise Refused(400, f"{ascii(next(iter(self._left)))[1:-1]:.60}: no such field", code="unknown_field")

    def take(self, name: str) -> Any:
        """Return a field as it is, None where it is null or not there."""
        return self._left.pop(name, None)

    def text(self, name: str) -> str | None:
        value = self.take(name)
        if value is None or isinstance(value, str):
            return value
        raise wrong(name, value, "a string")

    def choice(self, name: str, allowed: Sequence[str]) -> str | None:
        value = self.take(name)
        if value is None or (isinstance(value, str) and value in allowed):
            return value
        raise wrong(name, value, " or ".join(map(repr, allowed)))

    def whole(self, name: str) -> int | None:
        value = self.take(name)
        if value is None or (type(value) is int and value >= 1):
            return value
        raise wrong(name, value, "a whole number from 1")

    def flag(self, name: str) -> bool | None:
        value = self.take(name)
        if value is None or isinstance(value, bool):
            return value
        raise wrong(name, value, "true or false")

    def items(self, name: str, most: int) -> list[Item]:
        """Return the texts of a field, or the token ids of each: one or a list, all of one kind."""
        value = self.take(name)
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list) or not value:
            raise wrong(name, value, "a text, a list of texts, token ids or a list of those, and not empty")
        if type(value[0]) is int:
            value = [value]
        if len(value) > most:
            raise too_large(name, f"{name}: {len(value)} texts; a request has at most {most}")
        if isinstance(value[0], str):
            _check_texts(name, value)
        else:
            _check_ids(name, value)
        return value


def _check_texts(name: str, values: list[Any]) -> None:
    try:
        check_texts(values)
    except TextError as error:
        raise Refused(400, f"{name}: {error}", name, "invalid_value") from error


def _check_ids(name: str, values: list[Any]) -> None:
    for row, ids in enumerate(values):
        if not (isinstance(ids, list) and ids and all(type(token) is int for token in ids)):
            raise wrong(f"{name}[{row}]", ids, "token ids, whole numbers, one at least")


def check_ids(name: str, values: Sequence[Sequence[int]], vocabulary: int, longest: int) -> None:
    """Refuse token ids that the artifact's tokenizer does not know, and more of them than it reads."""
    for row, ids in enumerate(values):
        if len(ids) > longest:
            raise Refused(
                400, f"{name}[{row}]: {len(ids)} tokens; the model reads at most {longest}", name, "too_many_tokens"
            )
    if not all(0 <= token < vocabulary for token in chain.from_iterable(values)):
        row, token = next(
            (row, token) for row, ids in enumerate(values) for token in ids if not 0 <= token < vocabulary
        )
        raise Refused(
            400,
            f"{name}[{row}]: token id {token!s:.40}: the artifact's own tokenizer has ids from 0 to {vocabulary - 1}; "
            "send texts, or ids of that tokenizer",
            name,
            "invalid_token_id",
        )
