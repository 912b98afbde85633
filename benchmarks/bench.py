"""The benchmark: every system on the same texts, side by side with the teacher."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from tokenizers import Tokenizer

from benchmarks.quality.sts import Sts
from benchmarks.speed import throughput
from benchmarks.speed.footprint import footprint
from benchmarks.speed.limit import Limit
from benchmarks.speed.server import server
from benchmarks.speed.turns import against_itself
from benchmarks.systems import TORCH_CUDA, TORCH_CUDA_FP16, System, threads_of
from compressor.artifact.folder import Draft, write_json
from compressor.artifact.layout import Kind
from compressor.artifact.workspace import Model
from compressor.core.config import Config
from compressor.core.encoder import Encoder, usable_cores
from compressor.core.errors import ProviderError, RecipeError
from compressor.core.progress import say
from compressor.machine.describe import features
from compressor.machine.threads import same_threads
from compressor.models.agreement import check_vectors
from exporters.runtime.providers import CPU, CUDA, require_providers
from exporters.session import OnnxEncoder

_CHECKED = 64  # texts whose vectors must differ before anything is timed


class Bench(Config):
    """Measure the artifacts beside the teacher."""

    sts: tuple[str, ...] = ()
    """STS files (``sentence1,sentence2,score``) to measure quality on; without any, agreement alone."""
    speed_texts: str | None = None
    """An STS file whose sentences are the texts of the speed measurements; by default the held-out texts."""
    count: Annotated[int, Field(ge=64)] = 2000
    """Texts in one pass of the Offline scenario, at most."""
    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = (8, 32, 128)
    """Batch sizes tried for each system; its best is measured."""
    rounds: Annotated[int, Field(ge=1)] = 6
    """Rounds of the Offline scenario; in each, the systems take turns. Six give an interval of 97 %."""
    queries: Annotated[int, Field(ge=20)] = 200
    """Queries of the SingleStream scenario."""
    server_p99_ms: Annotated[float, Field(gt=0)] | None = None
    """Bound of the 99th percentile of latency in the Server scenario, which finds each ONNX artifact's highest rate of
    random arrivals within it, in about a minute each; without it the scenario is left out."""
    lengths: tuple[Annotated[int, Field(ge=8)], ...] = (16, 64, 128, 256)
    """Text lengths, in tokens, to measure speed and latency at; lengths above the model's are left out."""
    providers: tuple[str, ...] = (CPU,)
    """ONNX Runtime execution providers to measure on; one that is not there is an error."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads for every system; by default all cores of the machine."""

    def decided_here(self) -> list[str]:
        return features()

    def check(self, base: Path) -> list[Sts]:
        """Read the STS files and look for the providers before any long work."""
        require_providers(self.providers)
        if CUDA in self.providers:
            _require_torch_cuda()
        if not self.batch_sizes:
            raise RecipeError("bench.batch_sizes = []: give at least one")
        if self.speed_texts is not None:
            Sts.read(base / self.speed_texts)
        files = [Sts.read(base / path) for path in self.sts]
        if len({sts.name for sts in files}) < len(files):
            raise RecipeError(f"bench.sts = {list(self.sts)}: two files of one name; figures are told apart by it")
        return files

    def pick_texts(self, base: Path, heldout: Sequence[str]) -> tuple[str, list[str]]:
        """Return the source and the texts of the speed measurements."""
        if self.speed_texts is None:
            return "held-out texts", list(heldout)[: self.count]
        sts = Sts.read(base / self.speed_texts)
        return sts.name, sts.texts[: self.count]

    def run(self, systems: Sequence[System], texts: Sequence[str], source: str, draft: Draft) -> None:
        """Write ``bench.json`` into ``draft``; the first system is the teacher."""
        write_json(draft.folder / "bench.json", self.measure(systems, texts, source))

    def measure(self, systems: Sequence[System], texts: Sequence[str], source: str) -> dict[str, Any]:
        """Return the ``bench`` section of the results; ratios are to the first system.

        All systems have the same threads, whatever the shell or they themselves state.
        """
        check_names([system.name for system in systems])
        threads = self.threads or usable_cores()
        with same_threads(threads):
            return self._measured([replace(system, threads=threads) for system in systems], texts, source, threads)

    def _measured(self, systems: Sequence[System], texts: Sequence[str], source: str, threads: int) -> dict[str, Any]:
        encoders = {system.name: system.open() for system in systems}
        twin = {f"{systems[-1].name}, again": systems[-1].open()}
        tokenizer = throughput.plain_tokenizer(Path(systems[-1].folder))  # all systems of a run share one vocabulary
        for name, encoder in encoders.items():
            check_vectors(encoder.encode(texts[:_CHECKED]), name)
        say(f"  {len(systems)} systems on {len(texts):,} texts, {self.rounds} rounds in turns")
        fast = throughput.offline(encoders | twin, texts, self.batch_sizes, self.rounds)
        slow = throughput.single_stream(encoders | twin, texts, self.queries)
        served = self._server(encoders, texts, fast)
        limit = min(encoder.max_length for encoder in encoders.values())
        lengths = {n: throughput.texts_of_length(tokenizer, texts, n) for n in self.lengths if n <= limit}
        length_rows = throughput.by_length(encoders, lengths)
        rows = [
            {
                "name": system.name,
                "label": system.label,
                "provider": system.provider,
                "size_bytes": system.size_bytes,
                "threads": threads_of(encoders[system.name]),
                **footprint(system, texts[:256]),
                "offline": fast[system.name],
                "single_stream": slow[system.name],
                "server": served.get(system.name),
                "by_length": length_rows[system.name],
            }
            for system in systems
        ]
        return {
            "texts": {"source": source, "count": len(texts), **token_figures(tokenizer, texts)},
            "rounds": self.rounds,
            "threads": threads,
            "a_a": _against_itself(systems[-1].name, fast, slow),
            "limit": self._limit(systems[-1], texts),
            "systems": rows,
        }

    def _server(
        self, encoders: Mapping[str, Encoder], texts: Sequence[str], fast: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        """Find the highest rate of what a ``Batcher`` can serve."""
        if self.server_p99_ms is None:
            return {}
        served = {name: encoder for name, encoder in encoders.items() if isinstance(encoder, OnnxEncoder)}
        ceilings = {name: 1.2 * fast[name]["texts_per_second"] for name in served}
        return server(served, texts, self.server_p99_ms, ceilings)

    def _limit(self, system: System, texts: Sequence[str]) -> dict[str, Any] | None:
        """Tell what share of the machine's peak the artifact reaches; None for what is no graph on the CPU."""
        if system.kind != "onnx" or system.provider != CPU:
            return None
        return Limit(lengths=self.lengths, threads=self.threads).measure(Path(system.folder), texts)


def _against_itself(
    name: str, fast: Mapping[str, Mapping[str, Any]], slow: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Compare the system that ran under two names."""
    again = f"{name}, again"
    return {
        "system": name,
        "offline": against_itself(fast[name]["rounds"], fast[again]["rounds"]),
        "single_stream": against_itself(slow[name]["turns_ms_p50"], slow[again]["turns_ms_p50"]),
    }


def _require_torch_cuda() -> None:
    """The teacher is measured on CUDA by PyTorch, whatever ONNX Runtime has."""
    import torch

    if not torch.cuda.is_available():
        raise ProviderError(f"{CUDA}: PyTorch sees no CUDA device for the teacher; install a CUDA build and a driver")


_STAGE_OF = {
    "teacher": "teacher",
    "student": "pca",
    "torch-int8": "quantize",
    "teacher-fp16": "teacher",
    "onnx-fp32": "fp32",
    "onnx-fp16": "fp16",
    "onnx-int8": "int8",
}

_ON_CUDA: tuple[tuple[str, str, Kind, str, str], ...] = (
    ("teacher", "teacher, PyTorch fp32", "torch", "teacher", TORCH_CUDA),
    ("teacher-fp16", "teacher, PyTorch fp16", "torch", "teacher", TORCH_CUDA_FP16),
    ("onnx-fp32", "student, ONNX fp32", "onnx", "fp32", CUDA),
    ("onnx-fp16", "student, ONNX fp16", "onnx", "fp16", CUDA),
)


def systems_of(steps: Mapping[str, Model], bench: "Bench") -> list[System]:
    """List what a run's benchmark compares, the teacher first.

    On CUDA: the teacher and the graphs in fp32 and fp16. int8 there is slower than fp32, so it is not offered.
    """
    student = "pca" if "pca" in steps else "distil"
    kinds: list[tuple[str, str, Kind, str]] = [
        ("teacher", "teacher, PyTorch fp32 encode", "torch", "teacher"),
        ("student", "student, PyTorch fp32 encode", "torch", student),
        ("torch-int8", "student, PyTorch dynamic int8", "torch-int8", "quantize"),
        ("onnx-fp32", "student, ONNX fp32", "onnx", "fp32"),
        ("onnx-int8", "student, ONNX int8", "onnx", "int8"),
    ]
    folders = {name: str(model.folder) for name, model in steps.items()}
    systems = [
        System(name, label, kind, folders[stage], CPU if kind == "onnx" else "PyTorch CPU", bench.threads)
        for name, label, kind, stage in kinds
        if stage in folders
    ]
    if CUDA in bench.providers:
        systems += [
            System(f"{name}-cuda", f"{label} on CUDA", kind, folders[stage], provider)
            for name, label, kind, stage, provider in _ON_CUDA
            if stage in folders
        ]
    return systems


def with_quality(bench: dict[str, Any], story: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the ``bench`` section with each system's quality, as the story measured it, beside its speed."""
    by_stage = {row["stage"]: row for row in story}
    by_stage.setdefault("pca", by_stage.get("distil", by_stage["teacher"]))
    rows = []
    for row in bench["systems"]:
        figures = by_stage.get(_STAGE_OF[row["name"].removesuffix("-cuda")], {})
        rows.append(row | {"agreement": figures.get("agreement", {}), "sts": figures.get("sts", {})})
    return bench | {"systems": rows}


def check_names(names: Sequence[str]) -> None:
    """Refuse systems of one name; figures are told apart by it."""
    if len(set(names)) < len(names):
        raise RecipeError(f"systems {', '.join(names)}: each needs a name of its own")


def token_figures(tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, float]:
    """Return the mean, the median and the 99th percentile of the texts' lengths in tokens."""
    lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(list(texts))]
    p50, p99 = np.percentile(lengths, [50, 99])
    return {"tokens_mean": float(np.mean(lengths)), "tokens_p50": float(p50), "tokens_p99": float(p99)}
