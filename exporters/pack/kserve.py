"""An InferenceService of KServe, with the Triton repository that it serves."""

import json

from pydantic import Field

from compressor.artifact.folder import Artifact, Draft
from exporters.pack.target import TASKS, Contents, check_name, write_text
from exporters.pack.triton import Triton

REPOSITORY = "model_repository"
_SERVICE = """apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {service}
spec:
  predictor:
    model:
      modelFormat:
        name: onnx
      protocolVersion: v2
      runtime: {runtime}
      storageUri: {uri}
      env:
        - {{name: ORT_DISABLE_TELEMETRY, value: "1"}}
      resources:
        requests: {{cpu: {cpu}, memory: {memory}}}
        limits: {{cpu: {cpu}, memory: {memory}}}
"""


class KServe(Triton):
    """A KServe InferenceService, and the Triton repository for it."""

    storage_uri: str | None = None
    """Where model_repository will lie for the cluster. By default pvc://models/NAME."""
    runtime: str = "kserve-tritonserver"
    """The cluster's serving runtime for Triton."""
    cpu: int = Field(default=2, ge=1)
    """Processor cores of the service."""
    memory: str = Field(default="2Gi", pattern=r"^[1-9][0-9]*(Mi|Gi)$")
    """Memory of the service, in Mi or Gi."""

    def run(self, artifact: Artifact, draft: Draft) -> None:
        """Write ``inferenceservice.yaml`` and the repository, which goes to ``storage_uri``."""
        contents = Contents.read(artifact, "kserve", TASKS)
        allowed = "a service is called by lower-case letters, digits and dashes, at most 63"
        service = check_name(self.name or contents.name.lower(), r"(?!.{64})[a-z]([a-z0-9-]*[a-z0-9])?", allowed)
        self.write_repository(contents, draft.folder / REPOSITORY)
        fields = {
            "service": service,
            "runtime": self.runtime,
            "uri": self.storage_uri or f"pvc://models/{service}",
            "cpu": str(self.cpu),
            "memory": self.memory,
        }
        quoted = {field: json.dumps(value) for field, value in fields.items()}  # JSON's strings are YAML's
        write_text(draft.folder / "inferenceservice.yaml", _SERVICE.format(**quoted))
        draft.figures["needs"] = contents.needs(server="kserve", runtime=self.runtime, protocol="v2")
