"""An MLflow model."""

from importlib.metadata import version
from typing import Any

import numpy as np
from onnx import helper

from compressor.artifact.folder import Artifact, Draft
from compressor.core.errors import installed
from exporters.graph.files import sort_nodes
from exporters.pack.target import TASKS, TOKENIZER_FILES, Contents, Target, Tensor, copy_files

MODEL = "model"
_PACKAGES = ("mlflow", "onnx", "onnxruntime", "numpy")
_TIME = "1980-01-01 00:00:00.000000"  # an MLflow model states when it was made; the same input gives the same bytes


class MLflow(Target):
    """An MLflow model of the onnx flavor, token ids in, vectors or logits out; the tokenizer lies beside it."""

    def run(self, artifact: Artifact, draft: Draft) -> None:
        """Write ``model/`` as mlflow.onnx saves it, with a signature, and the tokenizer's files."""
        contents = Contents.read(artifact, "mlflow", TASKS)
        installed("mlflow", "mlflow", "mlflow")
        import mlflow.onnx
        from mlflow.models import Model, ModelSignature
        from mlflow.types import Schema

        signature = ModelSignature(
            Schema([_spec(tensor) for tensor in contents.inputs]),
            Schema([_spec(tensor) for tensor in contents.outputs]),
        )
        sort_nodes(contents.model)  # graphs of earlier releases may not be, and MLflow loads no other
        mlflow.onnx.save_model(
            contents.model,
            str(draft.folder / MODEL),
            mlflow_model=Model(utc_time_created=_TIME, model_uuid=artifact.key[:32]),
            signature=signature,
            save_as_external_data=False,
            onnx_execution_providers=["CPUExecutionProvider"],
            pip_requirements=[f"{name}=={version(name)}" for name in _PACKAGES],
            metadata={"artifact": artifact.key},
        )
        copy_files(artifact, draft, TOKENIZER_FILES)
        draft.figures["needs"] = contents.needs(mlflow=f">={version('mlflow')}")


def _spec(tensor: Tensor) -> Any:
    from mlflow.types import TensorSpec

    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.dtype))
    return TensorSpec(dtype, tuple(-1 if dim is None else dim for dim in tensor.dims), tensor.name)
