"""The conformance set of an artifact: hard texts with token ids and outputs that any runtime can be held against."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Encoding, Tokenizer

from compressor.artifact.cases import QUESTION, Precision, cases_behind, tolerance, truncation_of
from compressor.artifact.layout import CASES, GRAPH, RUNNERS, RUNNERS_FOLDER
from compressor.artifact.prompts import kept_prompts
from compressor.core.errors import ArtifactError
from compressor.machine.exact import open_exact
from exporters.runtime.providers import CPU


def write_conformance(folder: Path, precision: Precision = "fp32") -> None:
    """Write ``conformance/`` into a finished artifact folder: the cases and a runner in Python and in JavaScript.

    Each text is computed alone by a session of default options but for exact sums of int8, so the outputs depend
    neither on neighbours nor on the processor. How near a runtime must come follows from the ``precision``.
    """
    (folder / CASES).parent.mkdir()
    stated = {
        "graph": GRAPH.as_posix(),
        "truncation": truncation_of(folder),
        "tolerance": tolerance(precision),
        "cases": list(cases(folder)),
    }
    text = json.dumps(stated, separators=(",", ":"))
    (folder / CASES).write_text(text.replace('{"name"', '\n{"name"') + "\n", encoding="utf-8")
    for runner in RUNNERS:
        shutil.copy(RUNNERS_FOLDER / runner, (folder / CASES).with_name(runner))


def own_conformance(source: Path, folder: Path, precision: Precision) -> None:
    """Write a finished folder's own set where the artifact ``source`` that it was made of has one."""
    if (source / CASES).is_file():
        write_conformance(folder, precision)


def cases(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield each text of the set with its token ids, what the graph in ``folder`` takes of them and what it gives.

    A text stands behind the prompt that ``OnnxEncoder`` would put before it, and where there is one, that is stated.
    """
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    truncation = truncation_of(folder)
    tokenizer.enable_truncation(**truncation)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = open_exact(str(folder / GRAPH), options, providers=[CPU])
    inputs = [value.name for value in session.get_inputs()]
    outputs = [value.name for value in session.get_outputs() if value.name != "last_hidden_state"]
    pad = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("pad_token_id") or 0
    asks = "strategy" in truncation
    for case in cases_behind(kept_prompts(folder)):
        texts = [(QUESTION, 1), (case.text, case.times)] if asks else [(case.text, case.times)]
        whole = [case.prompt + part * count for part, count in texts]  # of a question there is no prompt
        encoding: Encoding = tokenizer.encode(*whole)  # type: ignore[arg-type]
        feeds = _feeds(encoding, inputs, int(pad))
        results = session.run(outputs, {name: np.array([row], np.int64) for name, row in feeds.items()})
        yield {
            "name": case.name,
            **case.stated(),
            "texts": [{"text": part, "times": count} for part, count in texts],
            "ids": encoding.ids,
            "inputs": feeds,
            "outputs": {name: _rounded(values[0]) for name, values in zip(outputs, results, strict=True)},
        }


def _feeds(encoding: Encoding, inputs: Sequence[str], pad: int) -> Mapping[str, list[int]]:
    """Return a row of each input; a text without any token is one token of padding."""
    rows = {
        "input_ids": encoding.ids or [pad],
        "attention_mask": encoding.attention_mask or [0],
        "token_type_ids": encoding.type_ids or [0],
    }
    if unknown := set(inputs) - rows.keys():
        raise ArtifactError(f"{GRAPH}: input {min(unknown)}; known: {', '.join(rows)}")
    return {name: rows[name] for name in inputs}


def _rounded(values: Any) -> list[float]:
    """Return float32 numbers with as many digits as they hold, so that the file stays small."""
    return [float(f"{value:.7g}") for value in values.tolist()]
