"""ONNX Runtime's own format, for phones and reduced builds."""

import contextlib
import io
import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from compressor.artifact.folder import Artifact, Draft
from compressor.artifact.layout import GRAPH
from compressor.core.errors import ArtifactError
from exporters.pack.ort_format import canonical
from exporters.pack.target import TASKS, TOKENIZER_FILES, Contents, Target, copy_files, write_text

MODEL = "model.ort"
OPERATORS = "required_operators_and_types.config"
USABILITY = "mobile_usability.txt"
_VERDICT = re.compile(r"Model should perform well with (.+?)( as is| if modified to have fixed input shapes): (\w+)")


class Ort(Target):
    """ONNX Runtime's own format for phones, with what a reduced build of the runtime must hold."""

    platform: Literal["arm", "amd64"] = "arm"
    """The processor that it will run on."""

    def run(self, artifact: Artifact, draft: Draft) -> None:
        """Write ``model.ort``, the required operators and types, and what the usability checker says."""
        contents = Contents.read(artifact, "ort", TASKS)
        with TemporaryDirectory() as aside:
            graph = Path(aside) / "model.onnx"
            shutil.copyfile(artifact.folder / GRAPH, graph)
            self._convert(artifact, graph, draft)
            lines = _usability(graph)
        write_text(draft.folder / USABILITY, "\n".join(lines) + "\n")
        copy_files(artifact, draft, (*TOKENIZER_FILES, "config.json", "sentence_bert_config.json"))
        verdicts = [match.groups() for line in lines if (match := _VERDICT.search(line))]
        draft.figures["usability"] = {provider + how: verdict for provider, how, verdict in verdicts}
        draft.figures["needs"] = contents.needs(platform=self.platform, provider="CPUExecutionProvider")

    def _convert(self, artifact: Artifact, graph: Path, draft: Draft) -> None:
        converted = graph.parent / "made"
        # In a process of its own: operators that another graph had registered in this one would be named in the file.
        done = subprocess.run(
            [sys.executable, "-P", "-m", "onnxruntime.tools.convert_onnx_models_to_ort", str(graph)]
            + ["--output_dir", str(converted), "--optimization_style", "Fixed"]
            + ["--target_platform", self.platform, "--enable_type_reduction"],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            errors = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise ArtifactError(f"{artifact.folder / GRAPH}: cannot be converted: {errors[-1]}")
        (draft.folder / MODEL).write_bytes(canonical((converted / MODEL).read_bytes()))
        lines = (converted / f"model.{OPERATORS}").read_text(encoding="utf-8").splitlines()
        # Its comments name the temporary folder.
        kept = [line for line in lines if not line.startswith("#")]
        write_text(draft.folder / OPERATORS, "\n".join(["# Generated from model.ort", *kept, ""]))


def _usability(graph: Path) -> list[str]:
    """Return what ONNX Runtime's checker says of a graph on phones' accelerators, line by line."""
    from onnxruntime.tools.mobile_helpers.usability_checker import analyze_model

    handler = _Said()
    logger = logging.Logger("usability", logging.INFO)
    logger.addHandler(handler)
    with contextlib.redirect_stdout(io.StringIO()):
        helps = analyze_model(graph, logger=logger)
    advice = "compare NNAPI and CoreML with the CPU" if helps else "use the CPU provider"
    return [*(line for line in handler.lines if str(graph.parent) not in line), f"Advice: {advice}"]


class _Said(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage().rstrip())
