"""The conformance cases of an artifact, bounded in what they ask for, and held against the graph that is open."""

from collections.abc import Mapping
from typing import Any

from compressor.inspect_graph import Refusal, first_line
from compressor.strict_json import parse_json
from exporters.layout import CASES, GRAPH
from exporters.runners.run import failures

_MOST_CASES, _MOST_CHARACTERS, _MOST_TOKENS = 100, 1_000_000, 4096


def check_cases(content: bytes, tokenizer: Any, session: Any) -> int:
    """Return how many cases this machine gives as they are stated; Refusal at the first that it does not."""
    stated = _read(content)
    try:
        found = list(failures(stated, tokenizer, session))
    except Exception as error:  # ONNX Runtime and tokenizers raise their own kinds
        raise Refusal(f"{CASES}: cannot be run: {first_line(error)}") from error
    if found:
        others = f"; {len(found) - 1} more" if found[1:] else ""
        raise Refusal(f"does not conform on this machine: {found[0]}{others}")
    return len(stated["cases"])


def _read(content: bytes) -> Mapping[str, Any]:
    """Return the cases; Refusal for such as would take more than a moment, or are not whole."""
    try:
        stated: Mapping[str, Any] = parse_json(content)
        fits = stated["graph"] == GRAPH.as_posix() and 1 <= len(stated["cases"]) <= _MOST_CASES
        for case in stated["cases"]:
            fits = fits and sum(len(part["text"]) * part["times"] for part in case["texts"]) <= _MOST_CHARACTERS
            fits = fits and all(len(row) <= _MOST_TOKENS for row in (case["ids"], *case["inputs"].values()))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Refusal(f"{CASES}: not the cases of an artifact: {type(error).__name__}") from error
    if not fits:
        raise Refusal(
            f"{CASES}: must be of {GRAPH}, at most {_MOST_CASES} cases of {_MOST_CHARACTERS:,} characters and "
            f"{_MOST_TOKENS:,} tokens"
        )
    return stated
