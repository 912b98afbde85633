"""A run: what is to do, who does it, and what is there in the end."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.artifact.folder import Artifact
from compressor.artifact.workspace import Workspace
from compressor.core.cache import remove_leftovers
from compressor.core.errors import RecipeError, TextError
from compressor.core.progress import say, track
from compressor.machine.cluster import Cluster
from compressor.texts.rows.base import RowFile, changed
from compressor.texts.rows.find import find, open_rows
from compressor.texts.rows.plan import Plan
from exporters.embedding.cluster import embed_on
from exporters.embedding.job import Job, Worker
from exporters.embedding.options import Embedding
from exporters.embedding.record import Record, Source, artifact_key, claim, keep_plan, kept_plan
from exporters.embedding.rows import Columns
from exporters.runtime.running import Running
from exporters.session import OnnxEncoder


@dataclass(frozen=True)
class Embedded:
    """What a run has done."""

    folder: Path
    rows: int
    """Rows that are there."""
    shards: int
    computed: int
    """Rows of this run; the others were there."""
    seconds: float
    """Of computing and writing them."""


def embed(
    artifact: Path | str,
    sources: Sequence[Path | str] | Path | str,
    out: Path | str,
    threads: int | None = None,
    ray: str | None = None,
    workers: int | None = None,
    **options: Any,
) -> Embedded:
    """Embed the texts of files into the folder ``out``, one row a text, in their order.

    ``sources`` are text files (a text a line), .csv, .tsv and .jsonl, all plain or .gz, .parquet, folders of them, and
    patterns; ``options`` are the fields of ``Embedding``: ``to``, ``precision``, ``column``, ``id_column``,
    ``with_text``, ``role``, ``prompt_name``, ``prompt``, ``shard_rows``, ``batch_size``. Memory does not grow with the
    texts. A run that was stopped goes on with the shards that are missing when it is called again with the same; a
    folder that was begun with anything else is an ArtifactError. ``ray`` is the address of a Ray cluster that computes
    instead of this process, ``"local"`` for one on this machine, with ``workers`` (as many as there is room for) of
    ``threads`` (1) each; its machines must see all files at the same paths. RecipeError for an option or a cluster,
    TextError for a source, a column or a text, DependencyError without pyarrow, lancedb for ``to="lance"`` or ray.
    """
    chosen = Embedding.read(options)
    chosen.check()
    if ray is not None and chosen.to == "lance":
        raise RecipeError(f"ray = {ray}: not with to = lance, whose rows are added by one process; take parquet or npy")
    cluster = Cluster.asked(ray, workers, threads)
    names = [str(source) for source in ([sources] if isinstance(sources, str | Path) else sources)]
    run = Run.prepare(Path(artifact), names, Path(out), chosen, threads, cluster)
    with Workspace(run.job.out).lock():
        return run.go()


@dataclass(frozen=True)
class Run:
    """One run into one folder."""

    job: Job
    record: Record
    encoder: OnnxEncoder
    cluster: Cluster | None = None
    """What computes; None for this process."""

    @classmethod
    def prepare(
        cls,
        artifact: Path,
        names: Sequence[str],
        out: Path,
        options: Embedding,
        threads: int | None,
        cluster: Cluster | None = None,
    ) -> "Run":
        """Check all that a run is given, before anything is written."""
        _check_apart(out, names)
        files = open_rows(_outside(out, names), options.column, options.id_column)
        Artifact.open(artifact)
        begun, key, sources = claim(out), artifact_key(artifact), tuple(Source.of(file) for file in files)
        if begun is not None:
            begun.check(out, key, options, sources)
        running = None if begun is None else Running.read(begun.running)
        encoder = OnnxEncoder(artifact, threads=threads, running=running)
        prompt, columns = options.chosen(encoder.prompts), _columns(encoder, files, options)
        plan = _plan(files, options.shard_rows) if begun is None else kept_plan(out, begun)
        job = Job(artifact, key, tuple(files), plan, out, options, prompt, columns, encoder.running, threads)
        record = Record(
            artifact=key, options=options, prompt=prompt, dtype=columns.dtype, width=columns.width,
            running=encoder.running.as_dict(), sources=sources, rows=plan.rows, shards=len(plan),
        )  # fmt: skip
        return cls(job, record, encoder, cluster)

    def go(self) -> Embedded:
        """Compute the shards that are missing; nobody else is at work in the folder."""
        job, record = self.job, self.record
        remove_leftovers(job.out)
        if (begun := claim(job.out)) is None:
            keep_plan(job.out, job.plan)
        else:
            begun.check(job.out, job.artifact_key, job.options, record.sources)
        record.write(job.out)
        started = time.monotonic()
        computed = self._compute()
        seconds = time.monotonic() - started
        for file, source in zip(job.files, record.sources, strict=True):
            if Source.of(file) != source:
                raise changed(file.path)
        record.model_copy(update={"finished": True}).write(job.out)
        return Embedded(job.out, record.rows, record.shards, computed, seconds)

    def _compute(self) -> int:
        """Compute on this thread and write on another; return the rows."""
        output, plan = self.job.output(), self.job.plan
        missing = [shard for shard in map(plan.shard, range(len(plan))) if not output.is_done(shard)]
        total = sum(shard.rows for shard in missing)
        if total < plan.rows:
            say(f"{self.job.out}: {plan.rows - total:,} of {plan.rows:,} rows are there")
        with track("embed", total) as advance:
            if self.cluster is None:
                Worker(self.job, self.encoder).write(missing, output, advance)
            else:
                embed_on(self.cluster, self.job, missing, advance)
        return total


def _check_apart(out: Path, names: Sequence[str]) -> None:
    """Refuse to write where texts are read."""
    for name in names:
        source = Path(name).expanduser()
        if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
            raise RecipeError(f"out = {out}: lies in {name}, whose files are read; give a folder outside of it")
        if source.exists() and out.resolve() in source.resolve().parents:
            raise RecipeError(f"out = {out}: {name}, which is read, lies in it; give another folder")


def _outside(out: Path, names: Sequence[str]) -> list[Path]:
    """Return the files of texts, without what a pattern fits of an earlier run's output."""
    found = [path for path in find(names) if out.resolve() not in path.resolve().parents]
    if not found and names:
        raise TextError(f"{names[0]}: fits files in out = {out} alone; give the texts")
    return found


def _columns(encoder: OnnxEncoder, files: Sequence[RowFile], options: Embedding) -> Columns:
    """Return the columns that are written; ArtifactError where codes need ranges that the artifact has not."""
    none = encoder.encode([], precision=options.computed)
    dtype = "float16" if options.precision == "float16" else str(none.dtype)
    whole = options.id_column is None or all(file.whole_ids for file in files)
    return Columns(dtype, none.shape[1], whole, options.with_text)


def _plan(files: Sequence[RowFile], every: int) -> Plan:
    """Read all files once, to know where their rows are; TextError where there are none."""
    with track("count", len(files), "files") as advance:
        plan = Plan.make(files, every, lambda _: advance(1))
    if not plan.rows:
        raise TextError(f"{files[0].path}{' and others' * (len(files) > 1)}: empty, no text to embed")
    return plan
