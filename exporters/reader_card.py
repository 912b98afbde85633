"""Hand-out: the reader's artifact folder that passed the gate, with its model card."""

import shutil
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import onnx

from compressor.answering.reader import read_reading
from compressor.artifact import Draft
from compressor.recipe import Config
from compressor.stages import Model
from exporters.card import table_row
from exporters.layout import GRAPH

_CARD = """---
library_name: onnxruntime
pipeline_tag: question-answering
tags: [question-answering, onnx{int8_tag}]
base_model: {teacher}
---
# {name}

Finds the answer to a question in a text, {precision}, for ONNX Runtime.
Made from `{teacher}` (weights sha256 `{sha256}`).

One graph: ids of question and context in, two logits a token out. Inputs int64 `{inputs}`
[batch_size, sequence_length]; outputs float32 `start_logits` and `end_logits` [batch_size, sequence_length].
A window has at most {max_length} tokens; windows of a longer context share {stride} tokens.{threshold}

## Measured
| check | figure | value | bar |
|---|---|---|---|
{rows}

F1 and exact match are points from 0 to 100, as SQuAD's evaluation defines them; drops are against the PyTorch
student on the same questions.

## Use
```python
import numpy as np, onnxruntime
from tokenizers import Tokenizer

question, context = "Who wrote it?", "The letter was written by Ada in 1843."
tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.no_padding()
tokenizer.enable_truncation({max_length}, stride={stride}, strategy="only_second")
session = onnxruntime.InferenceSession("onnx/model.onnx")
window = tokenizer.encode(question, context)  # window.overflowing has the others of a long context
feeds = {{"input_ids": window.ids, "attention_mask": window.attention_mask, "token_type_ids": window.type_ids}}
names = {{value.name for value in session.get_inputs()}}
start, end = session.run(
    ["start_logits", "end_logits"], {{k: np.array([v], dtype=np.int64) for k, v in feeds.items() if k in names}}
)
inside = [i for i, part in enumerate(window.sequence_ids) if part == 1]
first, last = max(
    ((i, j) for i in inside for j in inside if i <= j < i + {max_answer}), key=lambda p: start[0, p[0]] + end[0, p[1]]
)
answer = context[window.offsets[first][0] : window.offsets[last][1]]
```

With transformers and optimum-onnx: `ORTModelForQuestionAnswering.from_pretrained(folder, file_name="onnx/model.onnx")`
in a `pipeline("question-answering")`.
"""
_SILENCE = "\nNo answer is given where the first token's logits sum to more than {:.4g} above the best span's."


class PublishReader(Config):
    """Hand out a reader's artifact that passed the gate."""

    recipe: dict[str, Any]
    """The recipe it was made by."""
    teacher: str
    """The teacher's name."""
    teacher_sha256: str
    """SHA-256 of the teacher's weights."""
    precision: Literal["fp32", "int8"]
    """Which of the run's artifacts it is."""

    def run(self, made: Model, checks: Sequence[Mapping[str, Any]], draft: Draft) -> None:
        """Write the folder, its card and its figures into ``draft``."""
        own = [check for check in checks if check["artifact"] == self.precision]
        shutil.copytree(made.folder, draft.folder, ignore=shutil.ignore_patterns("manifest.json"), dirs_exist_ok=True)
        (draft.folder / "README.md").write_text(self._card(draft, own), encoding="utf-8")
        draft.figures["operators"] = made.figures["operators"]
        draft.figures["checks"] = own
        draft.figures["needs"] = {"onnxruntime": ">=1.24", "session_options": {}}

    def _card(self, draft: Draft, checks: Sequence[Mapping[str, Any]]) -> str:
        graph, reading = onnx.load(draft.folder / GRAPH).graph, read_reading(draft.folder)
        silent = reading.no_answer_threshold
        return _CARD.format(
            name=f"{self.recipe['name']}, {self.precision}",
            precision=self.precision,
            int8_tag=", int8" if self.precision == "int8" else "",
            teacher=self.teacher,
            sha256=self.teacher_sha256,
            max_length=reading.max_length,
            stride=reading.stride,
            max_answer=reading.max_answer,
            threshold="" if silent is None else _SILENCE.format(silent),
            inputs="`, `".join(value.name for value in graph.input),
            rows="\n".join(table_row(check) for check in checks),
        )
