"""The search for the form of a graph, and the way to run it, that this CPU runs fastest inside the quality gate."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from compressor.artifact.folder import Draft, key_of, write_json
from compressor.artifact.layout import GRAPH, copy_consumer_files
from compressor.core.cache import remove_leftovers
from compressor.core.config import Config
from compressor.core.encoder import Vectors, usable_cores
from compressor.core.errors import ModelError, TextError
from compressor.core.files import replacing
from compressor.core.progress import say
from compressor.machine.describe import describe, features
from compressor.models.agreement import check_vectors, cosines, neighbours_in_common
from exporters.graph.files import require_fp32, run_operators
from exporters.graph.roles import KEPT
from exporters.precision.calibrate import batches_of_texts
from exporters.precision.int8 import OnnxInt8
from exporters.runtime.running import Running
from exporters.search.contest import Pass, Ratio, contest, encoder_pass, graph_pass
from exporters.search.forms import Form, Forms
from exporters.search.report import as_markdown
from exporters.session import OnnxEncoder
from exporters.verify.embedding import Check, Share, gate
from exporters.verify.parity import invariance

_FORMS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("smooth", ("none", "values", "normalizations", "all")),
    ("ranges", ("percentile", "least-error", "batch")),
    ("weights", ("tensor",)),
    ("kept", KEPT),
    ("attention", ("fused", "separate", "products")),
    ("gelu", ("with-bias", "tanh")),
    ("skip_normalization", (True,)),
    ("written", ("qdq",)),
)
_INT8_ONLY = ("smooth", "ranges", "weights", "kept", "written")
_BATCH_TOKENS = (64, 128, 256, 512, 1024)
_LEAST_GAIN = 1.005
_CLOSER = 2e-4  # more mean cosine, at the same speed, that makes another form the better one
_NEIGHBOURS = 512  # texts that are compared in quality, at most
_LEAST_TEXTS = 32
_ALONE = 64  # texts that are computed alone, padded and in a batch
_LARGEST_BATCH = 128


class Search(Config):
    """Try forms of the graph on this CPU, and keep the fastest inside the gate. Off unless the section stands."""

    precision: Literal["int8", "fp32"] = "int8"
    """Precision of the forms."""
    cpu: Literal["this", "any"] = "this"
    """What it is made for: this CPU, or any; then nothing is timed, and the form that suits most is written."""
    cosine_mean: Share = 0.98
    """Least mean cosine with the fp32 vectors."""
    cosine_min: Share = 0.9
    """Least cosine with the fp32 vectors."""
    neighbours_at_10: Annotated[float, Field(ge=0, le=1)] = 0.85
    """Least share of a text's 10 nearest texts in common with the fp32 vectors."""
    batch_cosine_min: Share = 0.99999
    """Least cosine of a text's vector alone with the same text's, padded or in a batch."""
    loss: Annotated[float, Field(ge=0, le=1)] = 0.001
    """Mean cosine that a faster form may lose against the form that the search starts from."""
    speed_texts: str | None = None
    """An STS file whose sentences forms are timed on, less those of ``bench.speed_texts``; by default the texts to
    choose by. What is fastest depends on how long texts are."""
    count: Annotated[int, Field(ge=64)] = 512
    """Texts of one timed pass, at most."""
    turns: Annotated[int, Field(ge=3)] = 9
    """Turns in which each form is timed against the best so far."""

    def decided_here(self) -> list[str]:
        return features() if self.cpu == "this" else []

    def run(
        self,
        fp32: Path,
        int8: OnnxInt8,
        sample: Sequence[str],
        dev: Sequence[str],
        kept: Path,
        draft: Draft,
        speed_texts: Sequence[str] = (),
    ) -> None:
        """Write the chosen form of the fp32 graph in ``fp32`` into ``draft``, with ``search.json`` and ``search.md``.

        Ranges are measured on ``sample``, quality on ``dev``, speed on ``speed_texts`` or, without any, on ``dev``: no
        texts that figures are reported on. Figures are put down in ``kept`` one by one, so that a search that was
        stopped goes on. GateError where even the first form misses its bars.
        """
        require_fp32(fp32 / GRAPH, "forms are made")
        if len(dev) < _LEAST_TEXTS:
            raise TextError(f"{len(dev)} texts to choose by are too few to search on; {_LEAST_TEXTS} are needed")
        if self.cpu == "any":
            int8 = int8.model_copy(update={"reduce_range": True})
        forms = Forms(fp32, int8, lambda: batches_of_texts(fp32, sample[: int8.sample]))
        trials = _Trials(self, forms, list(dev), list(speed_texts or dev)[: self.count], kept)
        result = trials.search()
        form, running = Form.read(result["choice"]["form"]), Running.read(result["choice"]["running"])
        copy_consumer_files(fp32, draft.folder)
        forms.write(form, draft.folder / GRAPH)
        draft.figures["operators"] = run_operators(draft.folder / GRAPH)
        draft.figures["choice"] = result["choice"]
        draft.figures["needs"] = {"session_options": running.session_options()}
        write_json(draft.folder / "search.json", result)
        (draft.folder / "search.md").write_text(as_markdown(result), encoding="utf-8")


@dataclass(frozen=True)
class _Trials:
    """One search at work: what was tried, and what it gave."""

    config: Search
    forms: Forms
    dev: list[str]
    speed_texts: list[str]
    kept: Path
    rows: list[dict[str, Any]] = field(default_factory=list)

    def search(self) -> dict[str, Any]:
        """Return ``search.json``: every trial in its order, and the choice."""
        start = form = self._start()
        first = self._figures(form)
        running, whole = Running(), None
        if self.config.cpu == "this":
            for name, values in _form_stages(self.config.precision):
                form = self._try_forms(name, values, form, first)
            for name, values in _running_stages():
                running = self._try_running(name, values, form, running)
            whole = self._timed("whole", (start, Running()), {"choice": (form, running)}, whole=True)["choice"]
        machine = describe()
        choice = {
            "form": form.model_dump(mode="json"),
            "running": running.as_dict(),
            "kept_products": self.forms.kept(form),
            "made_for": self.config.cpu,
            "cpu": machine["cpu"] if self.config.cpu == "this" else "any",
            "cpu_features": self.config.decided_here(),
            "figures": self._figures(form),
            "ratio": whole.as_dict() if whole else None,
        }
        return {"environment": machine, "config": self.config.model_dump(mode="json"), "trials": self.rows,
                "start": str(start), "choice": choice}  # fmt: skip

    def _start(self) -> Form:
        """Return the first form inside the gate: with all products in int8 or, where these miss it, some kept fp32."""
        first = first_form(self.config.precision, self.forms.int8)
        kept = KEPT if self.config.precision == "int8" else ()
        for form in (first, *(first.model_copy(update={"kept": products}) for products in kept)):
            if not self._refused("start", form, None):
                self._note("start", str(form), self._figures(form), None, "start")
                return form
        figures = self._figures(first)
        gate([check.as_dict() for check in self._checks(first, figures, figures)])
        return first

    def _refused(self, name: str, form: Form, first: Mapping[str, float] | None) -> bool:
        """Put down why a form cannot be had, or is outside the gate, against the start's figures or alone."""
        try:
            figures = self._figures(form)
        except ModelError as error:
            self._note(name, str(form), {}, None, f"cannot be written: {error}")
            return True
        missed = [check for check in self._checks(form, figures, first or figures) if not check.passed]
        if missed:
            why = f"{missed[0].figure} = {missed[0].value:.5g}, must be {missed[0].direction} {missed[0].bar:g}"
            self._note(name, str(form), figures, None, f"outside the gate: {why}")
        return bool(missed)

    def _try_forms(self, name: str, values: Sequence[Any], best: Form, first: Mapping[str, float]) -> Form:
        """Try other values of one field; return the better form."""
        rivals: dict[str, Form] = {}
        for value in values:
            rival = _rival(best, name, value)
            if rival != best and not self._refused(name, rival, first):
                rivals[str(rival)] = rival
        ratios = self._timed(name, (best, None), {key: (rival, None) for key, rival in rivals.items()})
        chosen = self._better(best, rivals, ratios)
        for key, rival in rivals.items():
            verdict = "kept" if rival == chosen else "not better"
            self._note(name, key, self._figures(rival), ratios[key], verdict)
        return chosen

    def _better(self, best: Form, rivals: Mapping[str, Form], ratios: Mapping[str, Ratio]) -> Form:
        """Return the fastest that is faster beyond its spread; else the closest to fp32 of those as fast."""
        faster = [key for key in rivals if ratios[key].low >= _LEAST_GAIN]
        if faster:
            return rivals[max(faster, key=lambda key: ratios[key].median)]
        close = {key: self._figures(rivals[key])["cosine_mean"] for key in rivals if ratios[key].high >= 1.0}
        key = max(close, key=lambda key: close[key], default=None)
        if key is not None and close[key] > self._figures(best)["cosine_mean"] + _CLOSER:
            return rivals[key]
        return best

    def _try_running(self, name: str, values: Sequence[Any], form: Form, best: Running) -> Running:
        alternatives = [value for value in values if value != getattr(best, name)]
        rivals = {f"{name} = {value}": replace(best, **{name: value}) for value in alternatives}
        ratios = self._timed(name, (form, best), {key: (form, rival) for key, rival in rivals.items()}, whole=True)
        faster = [key for key in rivals if ratios[key].low >= _LEAST_GAIN]
        chosen = max(faster, key=lambda key: ratios[key].median, default=None)
        for key in rivals:
            self._note(name, key, {}, ratios[key], "kept" if key == chosen else "not better")
        return rivals[chosen] if chosen else best

    def _note(self, stage: str, name: str, figures: Mapping[str, float], ratio: Ratio | None, verdict: str) -> None:
        timed = f", {ratio.median:.3f}x ({ratio.low:.3f} to {ratio.high:.3f})" if ratio else ""
        say(f"  {stage}: {name}{timed}: {verdict}")
        compared = ratio.as_dict() if ratio else None
        self.rows.append(
            {"stage": stage, "name": name, "figures": dict(figures), "ratio": compared, "verdict": verdict}
        )

    def _checks(self, form: Form, figures: Mapping[str, float], first: Mapping[str, float]) -> list[Check]:
        """Hold a form's figures against the bars."""
        config = self.config
        closest = max(config.cosine_mean, first["cosine_mean"] - config.loss)
        bars = {
            "cosine_mean": closest,
            "cosine_min": config.cosine_min,
            "neighbours_at_10": config.neighbours_at_10,
            "batch_cosine_min": config.batch_cosine_min,
        }
        return [Check(str(form), "search", f, figures[f], bar, field=f"search.{f}") for f, bar in bars.items()]

    @cached_property
    def _exact(self) -> Vectors:
        vectors = OnnxEncoder(self.forms.exported).encode(self.dev[:_NEIGHBOURS])
        check_vectors(vectors, str(self.forms.exported))
        return vectors

    def _figures(self, form: Form) -> dict[str, float]:
        """Return how near a form's vectors are to the fp32 ones, and to their own in another batch."""

        def measure() -> dict[str, float]:
            encoder = OnnxEncoder(self._folder(form))
            vectors = encoder.encode(self.dev[:_NEIGHBOURS])
            near = cosines(self._exact, vectors)
            alone, padded, batched = invariance(encoder, self.dev[:_ALONE])
            return {
                "cosine_mean": float(near.mean()),
                "cosine_min": float(near.min()),
                "neighbours_at_10": neighbours_in_common(self._exact, vectors, 10),
                "batch_cosine_min": float(min(cosines(alone, changed).min() for changed in (padded, batched))),
            }

        figures: dict[str, float] = self._once("figures", form, measure)
        return figures

    def _timed(
        self,
        name: str,
        base: tuple[Form, Running | None],
        rivals: Mapping[str, tuple[Form, Running | None]],
        whole: bool = False,
    ) -> dict[str, Ratio]:
        """Time rivals against a base, graphs alone or the ``whole`` encoder."""
        if not rivals:
            return {}
        subject = [name, str(base), {key: str(rival) for key, rival in rivals.items()}]

        def measure() -> dict[str, Any]:
            opened = {key: self._pass(*rival, whole) for key, rival in rivals.items()}
            timed = contest(self._pass(*base, whole), opened, self.config.turns)
            return {key: ratio.as_dict() for key, ratio in timed.items()}

        return {key: Ratio(**values) for key, values in self._once("ratios", subject, measure).items()}

    def _pass(self, form: Form, running: Running | None, whole: bool) -> Pass:
        if not whole:
            return graph_pass(self._folder(form), self.speed_texts)
        encoder = OnnxEncoder(self._folder(form), running=running)
        return encoder_pass(encoder, self.speed_texts, _LARGEST_BATCH)

    def _folder(self, form: Form) -> Path:
        """Return a folder with the graph in ``form``, written once."""
        folder = self.kept / key_of(form.model_dump(mode="json"))[:16]
        if not (folder / GRAPH).is_file():
            copy_consumer_files(self.forms.exported, folder)
            remove_leftovers((folder / GRAPH).parent)
            with replacing(folder / GRAPH) as draft:
                self.forms.write(form, draft)
        return folder

    def _once(self, kind: str, subject: Any, measure: Callable[[], Any]) -> Any:
        """Return figures that were put down before, or measure them and put them down."""
        content = subject.model_dump(mode="json") if isinstance(subject, Config) else subject
        path = self.kept / f"{kind}-{key_of(content)[:16]}.json"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
        result = measure()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, result)
        return result


def first_form(precision: Literal["fp32", "int8"], int8: OnnxInt8) -> Form:
    """Return what a search starts from, and what is written for a CPU that is not known."""
    return (
        Form(smooth=int8.smooth, attention=int8.attention)
        if precision == "int8"
        else Form(precision="fp32", gelu="with-bias")
    )


def _form_stages(precision: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    for name, values in _FORMS:
        if precision == "int8" or name not in _INT8_ONLY:
            yield name, values


def _rival(best: Form, name: str, value: Any) -> Form:
    """Return ``best`` with another value; a bias is in the product only where ranges are fixed."""
    changed = {"gelu": "with-bias"} if value == "batch" else {}
    return best.model_copy(update={name: value, **changed})


def _running_stages() -> Iterator[tuple[str, tuple[Any, ...]]]:
    cores = usable_cores()
    yield "batch_tokens", _BATCH_TOKENS
    yield "equal_lengths", (True,)
    if cores > 1:
        yield "threads", tuple(n for n in range(2, cores + 1) if cores % n == 0)
    yield "arena", (False,)
