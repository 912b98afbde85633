"""The folder that transformers.js loads, in Node and in browsers."""

import json

from compressor.artifact.folder import Artifact, Draft
from exporters.pack.target import TASKS, TOKENIZER_FILES, Contents, Target, copy_files, copy_graph, write_text

_FILES = {"fp32": "model.onnx", "fp16": "model_fp16.onnx", "int8": "model_quantized.onnx"}
_DTYPES = {"fp32": "fp32", "fp16": "fp16", "int8": "q8"}


class JavaScript(Target):
    """The folder that transformers.js loads, in Node and in browsers."""

    def run(self, artifact: Artifact, draft: Draft) -> None:
        """Write config, tokenizer and the graph under the name that its precision has there.

        ``config.json`` states the precision, so that the folder loads without naming a ``dtype``.
        """
        contents = Contents.read(artifact, "javascript", TASKS)
        config = contents.json("config.json")
        for name in ("tokenizer.json", "tokenizer_config.json"):
            contents.json(name)
        dtype = _DTYPES[contents.precision]
        stated = config | {"transformers.js_config": {"dtype": dtype}}
        write_text(draft.folder / "config.json", json.dumps(stated, indent=2, sort_keys=True) + "\n")
        copy_files(artifact, draft, TOKENIZER_FILES)
        copy_graph(artifact, draft.folder / "onnx" / _FILES[contents.precision])
        draft.figures["needs"] = contents.needs(library="@huggingface/transformers", dtype=dtype)
