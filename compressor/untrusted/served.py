"""Settings that a server reads of a packed view: every line is one that ``pack`` writes, so that none names code."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from compressor.core.errors import ArtifactError, unreadable
from compressor.core.strict_json import read_plain

_MOST_BYTES = 1 << 16
_NUMBER, _VERSION = r"[0-9]{1,9}", r"[0-9][0-9A-Za-z.+!-]*"
_TEXT = r'"(?:[ !#-\[\]-~]|\\u[0-9a-f]{4})*"'  # a string without a quote or an end of the line in it
_TENSOR = (
    rf"(?:input|output) {{ name: {_TEXT} data_type: TYPE_(?:INT64|INT32|FP32|FP16)"
    rf" dims: \[ (?:-1|{_NUMBER})?(?:, (?:-1|{_NUMBER}))* \] }}"
)
_PACKAGE = rf"(?:mlflow|onnx|onnxruntime|numpy)=={_VERSION}"
_LINES: Mapping[str, tuple[str, ...]] = {
    "config.pbtxt": (
        rf"name: {_TEXT}",
        r'backend: "onnxruntime"',
        rf"max_batch_size: {_NUMBER}",
        _TENSOR,
        rf"dynamic_batching {{ max_queue_delay_microseconds: {_NUMBER} }}",
        rf"instance_group \[ {{ count: {_NUMBER} kind: KIND_(?:CPU|GPU) }} \]",
    ),
    "inferenceservice.yaml": (
        r"apiVersion: serving\.kserve\.io/v1beta1",
        r"kind: InferenceService",
        r"metadata:",
        rf"  name: {_TEXT}",
        r"spec:",
        r"  predictor:",
        r"    model:",
        r"      modelFormat:",
        r"        name: onnx",
        r"      protocolVersion: v2",
        rf"      runtime: {_TEXT}",
        rf"      storageUri: {_TEXT}",
        r"      env:",
        r'        - {name: ORT_DISABLE_TELEMETRY, value: "1"}',
        r"      resources:",
        rf"        (?:requests|limits): {{cpu: {_TEXT}, memory: {_TEXT}}}",
    ),
    "requirements.txt": (_PACKAGE,),
    "conda.yaml": (
        r"channels:",
        r"- conda-forge",
        r"dependencies:",
        rf"- python={_VERSION}",
        rf"- pip(?:(?:<=|==){_VERSION})?",
        r"- pip:",
        rf"  - {_PACKAGE}",
        r"name: mlflow-env",
    ),
    "python_env.yaml": (
        rf"python: '?{_VERSION}'?",
        r"build_dependencies:",
        rf"- (?:pip|setuptools|wheel)(?:(?:<=|==){_VERSION})?",
        r"dependencies:",
        r"- -r requirements\.txt",
    ),
    ".gitattributes": (r"[!-~]+ filter=lfs diff=lfs merge=lfs -text",),
}


def check_served(folder: Path, names: Mapping[str, object]) -> tuple[int, str]:
    """Return how many settings of servers are among ``names``, and where a service takes its model from, if any does.

    Raises ArtifactError for a line that is never written there: another backend, a library, an image, a package.
    """
    count, source = 0, ""
    for name in names:
        allowed = _LINES.get(PurePosixPath(name).name)
        if allowed is None:
            continue
        count += 1
        known = re.compile("|".join(allowed))
        for number, line in enumerate(_lines(folder / name), start=1):
            if not known.fullmatch(line):
                raise ArtifactError(f"{folder / name}: line {number}: {line.strip()!a:.80}: never written there")
            if line.startswith("      storageUri: "):
                source = line.removeprefix("      storageUri: ")
    return count, source


def _lines(path: Path) -> list[str]:
    try:
        return read_plain(path, _MOST_BYTES).decode("ascii").rstrip("\n").split("\n")
    except OSError as error:
        raise ArtifactError(unreadable(path, error)) from error
    except ValueError as error:
        raise ArtifactError(f"{path}: not readable: {error}") from error
