"""What a hub answers where it does not do what it is asked, in one line that says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from compressor.core.errors import CompressorError, HubError, one_line

_ADVICE = {
    401: "it does not take the token: hf auth login, or a valid one in HF_TOKEN",
    403: "the token may not write there: it must have write access, to its owner's or an organisation's repositories",
    404: "there is no such owner or repository, or this token may not see it",
    409: "there is such a repository, or another process is making it: look there, and run the command again",
    412: "somebody else wrote there meanwhile: run the command again",
    413: "the files are too large for it",
    429: "too many requests: run the command again later",
}
_LATER = "it cannot answer now: run the command again later"
_MOST = 300


@contextmanager
def in_one_line(repository: str, endpoint: str, token: str, made: str = "") -> Iterator[None]:
    """Turn every error of the hub's client into a HubError without the ``token``; ``made`` is what is there by then.

    Its errors are its own, those of two HTTP libraries by its release, RuntimeError around them, and ValueError.
    """
    try:
        yield
    except CompressorError:
        raise
    except Exception as error:
        line = _message(error, endpoint).replace(token, "(token)") if token else _message(error, endpoint)
        raise HubError(f"{repository}: {line}{made}") from error


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that an error, or what caused it, was raised for; None where nothing was answered."""
    causing: BaseException | None = error
    while causing is not None:
        answer: Any = getattr(causing, "response", None)
        if answer is not None:  # an answer of requests is false where its status is an error's
            return int(answer.status_code)
        causing = causing.__cause__ or causing.__context__
    return None


def _message(error: Exception, endpoint: str) -> str:
    status = status_of(error)
    if status is None:
        return f"{endpoint} is not reached, or answers what nobody reads: {one_line(error, _MOST)}"
    advice = _LATER if status >= 500 else _ADVICE.get(status, "it takes no such upload")
    message = getattr(error, "server_message", None)
    if message is None and isinstance(error, ValueError):  # a card that is refused, or files by LFS
        message = one_line(error, _MOST)
    detail = f" ({' '.join(str(message).split())[:_MOST]})" if message else ""
    return f"{endpoint} answers {status}{detail}; {advice}"
