"""The conformance cases of an artifact, held against what every set must hold, then against the graph that is open."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from compressor.artifact.cases import QUESTION, TEXTS, Case, cases_behind, is_as_strict, tolerance
from compressor.artifact.layout import ANSWERING, CASES, EMBEDDING, GRAPH
from compressor.artifact.prompts import Prompts
from compressor.artifact.runners.run import failures
from compressor.core.strict_json import parse_json
from compressor.untrusted.graph import Refusal, first_line, shown

NO_PROMPTS = Prompts({})
_MOST_CASES, _MOST_CHARACTERS, _MOST_TOKENS = 100, 1_000_000, 4096


def check_cases(
    content: bytes,
    tokenizer: Any,
    session: Any,
    precision: str,
    truncation: Mapping[str, Any],
    prompts: Prompts = NO_PROMPTS,
) -> Sequence[Case]:
    """Return the cases that this machine gives as they are stated; Refusal at the first that it does not.

    How near is near enough follows from the graph's ``precision``, which texts and outputs must be there from the
    project, and what they stand behind from the model's ``prompts``: a set that a stranger wrote could let anything
    pass. Earlier releases put no case behind a prompt; their sets may have none, and who asked can tell by the cases.
    """
    stated = _read(content)
    if not is_as_strict(stated.get("tolerance"), precision):
        own, wanted = shown(json.dumps(stated.get("tolerance"))), json.dumps(tolerance(precision))
        raise Refusal(f"{CASES}: tolerance = {own}: must be {wanted}, for its graph is {precision}")
    if stated.get("truncation") != truncation:
        own = shown(json.dumps(stated.get("truncation")))
        raise Refusal(f"{CASES}: truncation = {own}: must be {json.dumps(truncation)}, as the artifact's own")
    cases = _check_whole(stated["cases"], session, prompts)
    try:
        found = list(failures(stated, tokenizer, session))
        if not found:
            _check_inputs(stated["cases"], tokenizer)
    except Refusal:
        raise
    except Exception as error:  # ONNX Runtime and tokenizers raise their own kinds
        raise Refusal(f"{CASES}: cannot be run: {first_line(error)}") from error
    if found:
        more = f"; {len(found) - 1} more" if found[1:] else ""
        raise Refusal(f"does not conform on this machine: {found[0]}{more}")
    return cases


def _read(content: bytes) -> Mapping[str, Any]:
    """Return the cases; Refusal for such as would take more than a moment, or are not whole."""
    try:
        stated: Mapping[str, Any] = parse_json(content)
        fits = stated["graph"] == GRAPH.as_posix() and 1 <= len(stated["cases"]) <= _MOST_CASES
        for case in stated["cases"]:
            characters = [len(case.get("prompt", "")) + len(part["text"]) * part["times"] for part in case["texts"]]
            fits = fits and sum(characters) <= _MOST_CHARACTERS
            fits = fits and all(len(row) <= _MOST_TOKENS for row in (case["ids"], *case["inputs"].values()))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Refusal(f"{CASES}: not the cases of an artifact: {type(error).__name__}") from error
    if not fits:
        raise Refusal(
            f"{CASES}: must be of {GRAPH}, at most {_MOST_CASES} cases of {_MOST_CHARACTERS:,} characters and "
            f"{_MOST_TOKENS:,} tokens"
        )
    return stated


def _check_whole(cases: list[Mapping[str, Any]], session: Any, prompts: Prompts) -> list[Case]:
    """Return what the cases must be; refuse other texts or prompts, and one without what the graph takes or gives."""
    inputs = {value.name for value in session.get_inputs()}
    outputs = {value.name for value in session.get_outputs()} - {EMBEDDING[0]}
    asked = [{"text": QUESTION, "times": 1}] if outputs == set(ANSWERING) else []
    expected = _expected(cases, prompts)
    for case, own in zip(cases, expected, strict=True):
        name = own.name
        if case["texts"] != [*asked, {"text": own.text, "times": own.times}]:
            raise Refusal(f"{CASES}: {name}: not the text of that name")
        if {key: case[key] for key in ("prompt_name", "prompt") if key in case} != own.stated():
            raise Refusal(f"{CASES}: {name}: not the model's prompt")
        if case["inputs"].keys() != inputs or not isinstance(case.get("outputs"), dict):
            raise Refusal(f"{CASES}: {name}: must have outputs, and inputs {', '.join(sorted(inputs))}")
        if case["outputs"].keys() != outputs:
            raise Refusal(f"{CASES}: {name}: must state the outputs {', '.join(sorted(outputs))}")
    return expected


def _expected(cases: list[Mapping[str, Any]], prompts: Prompts) -> list[Case]:
    """Return what the cases must be: behind the model's prompts or, as in earlier releases, none; refuse others."""
    names, expected = [case.get("name") for case in cases], cases_behind(prompts)
    if names == list(TEXTS) and not any("prompt" in case for case in cases):
        return cases_behind(NO_PROMPTS)
    wanted = [case.name for case in expected]
    if names != wanted:
        missing = next((name for name in wanted if name not in names), None)
        fault = f"{missing!r} is missing" if missing else "others are among them"
        which = "of every set" if len(wanted) == len(TEXTS) else "of every set and of its model's prompts"
        raise Refusal(f"{CASES}: its cases must be the {len(wanted)} hard texts {which}: {fault}")
    return expected


def _check_inputs(cases: list[Mapping[str, Any]], tokenizer: Any) -> None:
    """Refuse a case that feeds the graph something else than its text: token ids, mask and types of ``tokenizer``."""
    for case in cases:
        prompt = case.get("prompt", "")
        encoding = tokenizer.encode(*(prompt + part["text"] * part["times"] for part in case["texts"]))
        rows = {
            "input_ids": encoding.ids or case["inputs"]["input_ids"][:1],  # a text without a token is one of padding
            "attention_mask": encoding.attention_mask or [0],
            "token_type_ids": encoding.type_ids or [0],
        }
        for name, row in case["inputs"].items():
            if row != rows[name]:
                raise Refusal(f"{CASES}: {case['name']}: {name}: not the tokens of its text")
