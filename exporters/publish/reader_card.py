"""Hand-out: the reader's artifact folder that passed the gate, with its model card."""

from collections.abc import Mapping, Sequence
from typing import Any

import onnx

from compressor.answering.readers.reader import read_reading
from compressor.artifact.folder import Draft
from compressor.artifact.layout import GRAPH
from compressor.artifact.workspace import Model
from exporters.publish.card import HandOut

_CARD = """---
library_name: onnxruntime
pipeline_tag: question-answering
tags: [question-answering, onnx{int8_tag}]
base_model: {base_model}{license}
---
# {name}

Finds the answer to a question in a text, {precision}, for ONNX Runtime.
Made from {teacher} (weights sha256 `{sha256}`), {licence}.

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
import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # from 1.29 on it reports to its maker unless told not to
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
{silence}```

With transformers 4 and optimum-onnx, in this folder:

```python
import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # from 1.29 on ONNX Runtime reports to its maker unless told not to
from optimum.onnxruntime import ORTModelForQuestionAnswering
from transformers import AutoTokenizer, pipeline

question, context = "Who wrote it?", "The letter was written by Ada in 1843."
model = ORTModelForQuestionAnswering.from_pretrained(".", file_name="model.onnx", subfolder="onnx")
ask = pipeline("question-answering", model=model, tokenizer=AutoTokenizer.from_pretrained("."))
limits = {{"max_seq_len": {max_length}, "doc_stride": {stride}, "max_answer_len": {max_answer}}}
answer = ask(question=question, context=context, **limits)["answer"]
```

Another runtime or language: `python conformance/run.py` and `node conformance/run.mjs` hold it against the token ids
and logits of hard texts in `conformance/cases.json`.
"""
_SILENCE = "\nNo answer is given where the first token's logits sum to more than {:.4g} above the best span's."

_SILENT = """if start[0, 0] + end[0, 0] - start[0, first] - end[0, last] > {:.9g}:
    answer = ""
"""


class PublishReader(HandOut):
    """Hand out a reader's artifact that passed the gate."""

    def run(self, made: Model, checks: Sequence[Mapping[str, Any]], draft: Draft) -> None:
        """Write the folder, its card and its figures into ``draft``."""
        own = self.copy_in(made, checks, draft)
        graph, reading = onnx.load(draft.folder / GRAPH).graph, read_reading(draft.folder)
        silent = reading.no_answer_threshold
        card = _CARD.format(
            **self.head(own),
            max_length=reading.max_length,
            stride=reading.stride,
            max_answer=reading.max_answer,
            silence="" if silent is None else _SILENT.format(silent),
            threshold="" if silent is None else _SILENCE.format(silent),
            inputs="`, `".join(value.name for value in graph.input),
        )
        (draft.folder / "README.md").write_text(card, encoding="utf-8")
