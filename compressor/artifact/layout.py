"""Where things lie in an artifact folder."""

from pathlib import Path
from typing import Literal

from compressor.core.errors import ArtifactError

GRAPH = Path("onnx/model.onnx")
DATA = GRAPH.with_name("model.onnx_data")  # its weights, where they are more than one file of a graph can hold
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
EMBEDDING = ("last_hidden_state", "sentence_embedding")  # an encoder's outputs
ANSWERING = ("start_logits", "end_logits")  # a reader's
TAIL = "tail"  # what follows the transformer carries this name in the graph
HEAD = "/qa_outputs/"  # in the names of the nodes that give them
INTEGER_PRODUCTS = (
    "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat", "QAttention", "QLinearMatMul",
)  # fmt: skip
REDUCED = "reduce_range"  # figure and setting of int8 weights that have 7 bits
READING = "reading.json"  # how a reader cuts windows and chooses answers
CASES = Path("conformance/cases.json")
RUNNERS = ("run.py", "run.mjs")  # beside them
RUNNERS_FOLDER = Path(__file__).with_name("runners")
TORCH_INT8 = "int8.json"  # marks a PyTorch int8 folder
Kind = Literal["torch", "torch-int8", "onnx"]  # what a folder of a model holds


def require_graph(folder: Path) -> Path:
    """Return the path of an artifact's graph; ArtifactError where it has none."""
    if not (folder / GRAPH).is_file():
        raise ArtifactError(f"{folder}: no {GRAPH}; not an artifact with an ONNX graph")
    return folder / GRAPH
