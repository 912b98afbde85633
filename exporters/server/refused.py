"""What a request is refused with: a status, one line, and the field that it is about."""

from typing import Any

from compressor.core.strict_json import JsonObject

_TYPES = {401: "authentication_error", 404: "not_found_error", 503: "overloaded_error"}
_TEI = {401: "Unauthorized", 413: "Validation", 422: "Tokenizer", 503: "Overloaded"}


class Refused(Exception):
    """A request that is not answered with what it asks for."""

    def __init__(
        self,
        status: int,
        message: str,
        field: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.field, self.code, self.headers = status, message, field, code, headers

    def as_dict(self) -> JsonObject:
        """Return the body as OpenAI's clients read it."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.field, "code": self.code}}

    def as_tei(self) -> JsonObject:
        """Return the body as text-embeddings-inference's clients read it."""
        kind = _TEI.get(self.status, "Validation" if self.status < 500 else "Backend")
        return {"error": self.message, "error_type": kind}


def wrong(field: str, value: Any, wanted: str) -> Refused:
    """Return the refusal of a field's value: what is ``wanted`` in its place."""
    return Refused(400, f"{field} = {_shown(value)}: must be {wanted}", field, "invalid_value")


def too_large(field: str | None, what: str) -> Refused:
    """Return the refusal of more than the server takes."""
    return Refused(413, what, field, "content_too_large")


def _shown(value: Any) -> str:
    """Return a value in a line: containers by their kind, whatever is in them."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
