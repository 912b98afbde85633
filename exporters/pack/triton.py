"""A model repository of Triton Inference Server."""

import json
from pathlib import Path
from typing import Literal

from onnx import TensorProto
from pydantic import Field

from compressor.artifact.folder import Artifact, Draft
from compressor.artifact.layout import GRAPH
from compressor.core.errors import ArtifactError
from exporters.pack.target import TASKS, Contents, Target, Tensor, check_name, copy_graph, write_text

_TYPES: dict[int, str] = {
    TensorProto.INT64: "TYPE_INT64",
    TensorProto.INT32: "TYPE_INT32",
    TensorProto.FLOAT: "TYPE_FP32",
    TensorProto.FLOAT16: "TYPE_FP16",
}


class Triton(Target):
    """A model repository of Triton Inference Server: config.pbtxt and the graph."""

    name: str | None = None
    """Name of the model. By default that of the recipe and the precision."""
    max_batch_size: int = Field(default=64, ge=1)
    """Most texts in a batch that the server puts together."""
    queue_delay_us: int = Field(default=100, ge=0)
    """Microseconds that a request may wait for others to join its batch."""
    instances: int = Field(default=1, ge=1)
    """Copies of the model that run side by side."""
    device: Literal["cpu", "gpu"] = "cpu"
    """Where the copies run."""

    def run(self, artifact: Artifact, draft: Draft) -> None:
        """Write ``<name>/config.pbtxt`` and ``<name>/1/model.onnx``."""
        contents = Contents.read(artifact, "triton", TASKS)
        self.write_repository(contents, draft.folder)
        draft.figures["needs"] = contents.needs(server="tritonserver", backend="onnxruntime")

    def write_repository(self, contents: Contents, folder: Path) -> None:
        """Write the repository into ``folder``."""
        allowed = "letters, digits, dots, dashes and underscores"
        name = check_name(self.name or contents.name, r"[A-Za-z0-9][A-Za-z0-9._-]*", allowed)
        write_text(folder / name / "config.pbtxt", self._config(contents, name))
        copy_graph(contents.artifact, folder / name / "1" / "model.onnx")

    def _config(self, contents: Contents, name: str) -> str:
        return "\n".join(
            [
                f"name: {json.dumps(name)}",
                'backend: "onnxruntime"',
                f"max_batch_size: {self.max_batch_size}",
                *_tensors("input", contents, contents.inputs),
                *_tensors("output", contents, contents.outputs),
                f"dynamic_batching {{ max_queue_delay_microseconds: {self.queue_delay_us} }}",
                f"instance_group [ {{ count: {self.instances} kind: KIND_{self.device.upper()} }} ]",
                "",
            ]
        )


def _tensors(field: str, contents: Contents, tensors: tuple[Tensor, ...]) -> list[str]:
    """Return the entries of ``field``, the batch's dimension left out of each, a free one as -1."""
    lines = []
    for tensor in tensors:
        if not tensor.dims or tensor.dims[0] is not None:
            raise ArtifactError(f"{contents.folder / GRAPH}: {field} {tensor.name} has no free batch dimension")
        if tensor.dtype not in _TYPES:
            kind = TensorProto.DataType.Name(tensor.dtype)
            raise ArtifactError(
                f"{contents.folder / GRAPH}: {field} {tensor.name} is {kind}, which triton does not take"
            )
        dims = ", ".join(str(-1 if dim is None else dim) for dim in tensor.dims[1:])
        lines.append(f'{field} {{ name: "{tensor.name}" data_type: {_TYPES[tensor.dtype]} dims: [ {dims} ] }}')
    return lines
