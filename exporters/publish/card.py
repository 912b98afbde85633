"""Hand-out: the artifact folder that passed the gate, with its model card."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from tokenizers import Tokenizer

from compressor.artifact.cases import Precision
from compressor.artifact.folder import Draft
from compressor.artifact.layout import GRAPH, INPUTS
from compressor.artifact.workspace import Model
from compressor.core.config import Config
from compressor.core.markdown import code
from compressor.machine.describe import INT8_FEATURES, features
from compressor.models.source import STATIC
from compressor.vectors.codes import RANGES
from exporters.precision.calibrate import dynamic_inputs
from exporters.runtime.prompts import default_prompt
from exporters.runtime.words import cutting_side
from exporters.verify.conformance import write_conformance

_CARD = """---
library_name: onnxruntime
pipeline_tag: sentence-similarity
tags: [sentence-transformers, feature-extraction, sentence-similarity, onnx{int8_tag}]
base_model: {base_model}{license}
---
# {name}

Sentence embeddings of length {dim} from texts of up to {max_length} tokens, {precision}, for ONNX Runtime.
Made from {teacher} (weights sha256 `{sha256}`), {licence}.

One graph, text ids in and unit vectors out: {first}, pooling{dense}, normalization.
Inputs int64 `{inputs}` [batch_size, sequence_length]; outputs float32 `last_hidden_state`
[batch_size, sequence_length, {hidden}] and `sentence_embedding` [batch_size, {dim}].

## Measured
| check | figure | value | bar |
|---|---|---|---|
{rows}

Agreement with the teacher is measured on texts kept out of training. Batch invariance is the cosine of a
text's vector alone with the same text's in a batch{ranges}.

## Use
```python
import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # from 1.29 on it reports to its maker unless told not to
import numpy as np, onnxruntime
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.enable_truncation({max_length}{side})
tokenizer.enable_padding(pad_id={pad})
session = onnxruntime.InferenceSession("onnx/model.onnx")
encoded = tokenizer.encode_batch([{texts}])
ids = np.array([e.ids for e in encoded], dtype=np.int64)
mask = np.array([e.attention_mask for e in encoded], dtype=np.int64)
feeds = {{"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}}
names = {{value.name for value in session.get_inputs()}}
(vectors,) = session.run(["sentence_embedding"], {{k: v for k, v in feeds.items() if k in names}})
```
{running}
Another runtime or language: `python conformance/run.py` and `node conformance/run.mjs` hold it against the token ids
and vectors of hard texts in `conformance/cases.json`.

Smaller vectors: `output_ranges.safetensors` holds the `ranges` of sentence-transformers' `quantize_embeddings` for
int8, one range for all dimensions, so that dot product and cosine of the codes rank as the vectors do; binary needs
none.
"""
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")  # text that YAML takes for itself
CONSUMERS = Path(__file__).with_name("consumers.md")
_EXAMPLES = ("A sentence.", "Another one.")


class HandOut(Config):
    """Hand out an artifact that passed the gate."""

    recipe: dict[str, Any]
    """The recipe it was made by."""
    teacher: str
    """The teacher's name."""
    teacher_sha256: str
    """SHA-256 of the teacher's weights."""
    teacher_license: str | None = None
    """The hub's name of the teacher's licence, which goes on with the artifact; none where its card states none."""
    precision: Precision
    """Which of the run's artifacts it is."""

    def copy_in(self, made: Model, checks: Sequence[Mapping[str, Any]], draft: Draft) -> list[Mapping[str, Any]]:
        """Copy the folder, add its conformance set, note its figures; return those checks that are of this artifact."""
        own = [check for check in checks if check["artifact"] == self.precision]
        shutil.copytree(made.folder, draft.folder, ignore=shutil.ignore_patterns("manifest.json"), dirs_exist_ok=True)
        draft.figures["operators"] = made.figures["operators"]
        draft.figures["checks"] = own
        draft.figures["needs"] = {"onnxruntime": ">=1.24", "session_options": {}} | made.figures.get("needs", {})
        if "choice" in made.figures:
            draft.figures["choice"] = made.figures["choice"]
        if self.precision == "int8":
            draft.figures["needs"]["fast_on"] = list(INT8_FEATURES)
        draft.figures["made_on"] = features()
        write_conformance(draft.folder, self.precision)
        return own

    def head(self, checks: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Return what every model card says: name, precision, teacher, and the table of checks."""
        return {
            "name": f"{self.recipe['name']}, {self.precision}",
            "precision": self.precision,
            "int8_tag": ", int8" if self.precision == "int8" else "",
            "teacher": code(self.teacher),
            "base_model": self.teacher if _PLAIN.fullmatch(self.teacher) else json.dumps(self.teacher),
            "sha256": self.teacher_sha256,
            "license": f"\nlicense: {self.teacher_license}" if self.teacher_license else "",
            "licence": f"under {self.teacher_license}" if self.teacher_license else "whose card states no licence",
            "rows": "\n".join(_row(check) for check in checks),
        }


class Publish(HandOut):
    """Hand out a sentence-embedding artifact that passed the gate."""

    def run(self, made: Model, ranges: Model, checks: Sequence[Mapping[str, Any]], draft: Draft) -> None:
        """Write the folder, its card and its figures into ``draft``."""
        own = self.copy_in(made, checks, draft)
        shutil.copy(ranges.folder / RANGES, draft.folder / RANGES)
        (draft.folder / "README.md").write_text(self._card(draft, own), encoding="utf-8")
        draft.figures["output_vectors"] = ranges.figures["precisions"]

    def _card(self, draft: Draft, checks: Sequence[Mapping[str, Any]]) -> str:
        model = onnx.load(draft.folder / GRAPH)
        side = cutting_side(Tokenizer.from_file(str(draft.folder / "tokenizer.json")))
        graph = model.graph
        hidden, dim = (o.type.tensor_type.shape.dim[-1].dim_value for o in graph.output)
        config = json.loads((draft.folder / "config.json").read_text())
        static = config.get("architectures") == [STATIC]
        length = json.loads((draft.folder / "sentence_bert_config.json").read_text())["max_seq_length"]
        card = _CARD.format(
            **self.head(checks),
            dim=dim,
            hidden=hidden,
            max_length=length,
            side="" if side == "right" else f', direction="{side}"',
            pad=config.get("pad_token_id") or 0,
            first="one vector a token" if static else "transformer",
            ranges=": its int8 takes ranges from the whole batch" if dynamic_inputs(model) else "",
            dense=", Dense" if any(draft.folder.glob("*_Dense")) else "",
            inputs="`, `".join(value.name for value in graph.input),
            running=_running(draft.figures),
            texts=", ".join(json.dumps(default_prompt(draft.folder) + text, ensure_ascii=False) for text in _EXAMPLES),
        )
        return f"{card}\n{_elsewhere(dim, len(graph.input))}"


def _running(figures: Mapping[str, Any]) -> str:
    """Say what was chosen for a CPU: the graph's form needs nothing, the way to run it is ``OnnxEncoder``'s to read."""
    choice = figures.get("choice")
    if choice is None:
        return ""
    settings = ", ".join(f"{name} {value}" for name, value in choice["running"].items())
    options = json.dumps(figures["needs"]["session_options"])
    return (
        f"\nThis form of the graph was searched for {choice['cpu']}; any session keeps it. Fastest there with: "
        f"{settings}; session options beside the defaults: {options}. `OnnxEncoder` reads both from `manifest.json`.\n"
    )


def _elsewhere(dim: int, inputs: int) -> str:
    """Return how other libraries and languages load the artifact, a section each."""
    title, *sections = CONSUMERS.read_text(encoding="utf-8").replace("dim=256", f"dim={dim}").split("\n## ")
    if inputs != len(INPUTS):
        sections = [section for section in sections if not section.startswith("C\n")]  # it names three
    return "\n### ".join([f"#{title}", *sections])


def _row(check: Mapping[str, Any]) -> str:
    bar = "" if check["bar"] is None else f"{check['direction']} {check['bar']:g}"
    if check.get("off"):
        bar = f"off ({bar})"
    return f"| {check['check']} | {check['figure']} | {check['value']:.6g} | {bar} |"
