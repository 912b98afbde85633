"""The search for the form of a graph, and the way to run it, that this CPU runs fastest inside the quality gate."""

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from compressor.artifact.copying import copy_consumer_files
from compressor.artifact.folder import Draft, is_artifact, key_of, write_json, writing
from compressor.artifact.layout import GRAPH
from compressor.core.config import Config
from compressor.core.cores import usable_cores
from compressor.core.errors import ArtifactError, ModelError, TextError
from compressor.core.progress import say
from compressor.core.strict_json import JsonObject
from compressor.machine.describe import bf16_on_arm, describe, features
from exporters.graph.files import require_fp32, require_one_file, run_operators
from exporters.graph.roles import KEPT
from exporters.precision.int8 import OnnxInt8
from exporters.runtime.providers import CPU, require_providers
from exporters.runtime.running import Running
from exporters.search.contest import Pass, Ratio, contest
from exporters.search.forms import Form, Forms
from exporters.search.report import as_markdown
from exporters.search.results import Choice, Searched, Trial
from exporters.search.subject import Subject
from exporters.verify.check import Check, Cosine, Share, gate

_FORMS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("smooth", ("none", "values", "normalizations", "all")),
    ("ranges", ("percentile", "least-error", "batch")),
    ("weights", ("tensor",)),
    ("kept", KEPT),
    ("attention", ("fused", "separate", "unmasked", "products")),
    ("gelu", ("with-bias", "tanh")),
    ("skip_normalization", (True,)),
    ("written", ("qdq",)),
)
_INT8_ONLY = ("smooth", "ranges", "weights", "kept", "written")
_CHANGE_RESULTS = ("bf16_products",)
_BATCH_TOKENS = (64, 128, 256, 512, 1024)
_LEAST_GAIN = 1.005
_CLOSER = 2e-4  # more mean cosine, at the same speed, that makes another form the better one
_LEAST = 32  # texts, or questions, to choose by


class Searching(Config):
    """Try forms of the graph on this CPU, and keep the fastest inside the gate; each task has a bar of its own."""

    alike: ClassVar[str]
    """The field, and the figure, of that bar."""
    precision: Literal["int8", "fp32"] = "int8"
    """Precision of the forms."""
    cpu: Literal["this", "any"] = "this"
    """What it is made for: this CPU, or any; then nothing is timed, and the form that suits most is written."""
    provider: str = CPU
    """ONNX Runtime execution provider that forms are judged and timed on, options behind the name
    (``OpenVINOExecutionProvider:NUM_STREAMS=2``); what it has no kernels for runs on the CPU provider behind it, and is
    counted."""
    cosine_mean: Cosine = 0.98
    """Least mean cosine with the fp32 vectors, or with a reader's fp32 logits."""
    cosine_min: Cosine = 0.9
    """Least cosine with the fp32 vectors, or with a reader's fp32 logits."""
    batch_cosine_min: Cosine = 0.99999
    """Least cosine of a text's vector, or a window's logits, alone with the same, padded or in a batch."""
    loss: Share = 0.001
    """Mean cosine that a faster form may lose against the form that the search starts from."""
    count: Annotated[int, Field(ge=64)] = 512
    """Texts, or questions, of one timed pass, at most."""
    turns: Annotated[int, Field(ge=3)] = 9
    """Turns in which each form is timed against the best so far."""

    def decided_here(self) -> list[str]:
        return features() if self.cpu == "this" else []

    def search(self, subject: Subject, int8: OnnxInt8, kept: Path, draft: Draft) -> None:
        """Write the chosen form of the subject's fp32 graph into ``draft``, with ``search.json`` and ``search.md``.

        Figures are put down in ``kept`` one by one, so that a search that was stopped goes on. GateError where even
        the first form misses its bars.
        """
        fp32 = subject.fp32
        require_providers([self.provider])
        require_one_file(fp32 / GRAPH, "the search")
        require_fp32(fp32 / GRAPH, "forms are made")
        if len(subject.dev) < _LEAST:
            raise TextError(
                f"{len(subject.dev)} {subject.unit} to choose by are too few to search on; {_LEAST} are needed"
            )
        if self.cpu == "any":
            int8 = int8.model_copy(update={"reduce_range": True})
        forms = Forms(fp32, int8, lambda: subject.batches(int8.sample))
        result = _Trials(self, forms, subject, kept).search()
        copy_consumer_files(fp32, draft.folder)
        forms.write(result.choice.form, draft.folder / GRAPH)
        draft.figures["operators"] = run_operators(draft.folder / GRAPH)
        if self.precision == "int8":
            draft.figures.update(int8.noted())
        draft.figures["choice"] = result.choice.as_dict()
        draft.figures["needs"] = {"session_options": result.choice.running.session_options()}
        write_json(draft.folder / "search.json", result.as_dict())
        (draft.folder / "search.md").write_text(as_markdown(result), encoding="utf-8")

    def bars(self, first: Mapping[str, float]) -> dict[str, float]:
        """Return the least value of each figure, where the search starts from the figures ``first``."""
        closest = max(self.cosine_mean, first["cosine_mean"] - self.loss)
        names = ("cosine_min", self.alike, "batch_cosine_min")
        return {"cosine_mean": closest} | {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class _Trials:
    """One search at work: what was tried, and what it gave."""

    config: Searching
    forms: Forms
    subject: Subject
    kept: Path
    tried: list[Trial] = field(default_factory=list)

    def search(self) -> Searched:
        """Try everything, and choose."""
        start = form = self._start()
        first = self._figures(form)
        running, whole = Running(), None
        if self.config.cpu == "this":
            for name, values in _form_stages(self.config.precision):
                form = self._try_forms(name, values, form, first)
            for name, values in _running_stages(self.subject.settings):
                running = self._try_running(name, values, form, running, first)
            whole = self._timed("whole", (start, Running()), {"choice": (form, running)}, whole=True)["choice"]
        machine = describe()
        choice = Choice(
            form=form,
            running=running,
            kept_products=self.forms.kept(form),
            made_for=self.config.cpu,
            cpu=machine["cpu"] if self.config.cpu == "this" else "any",
            cpu_features=self.config.decided_here(),
            figures=self._figures(form, running),
            ratio=whole,
            provider=self.config.provider,
        )
        return Searched(machine, self.config.model_dump(mode="json"), self.tried, str(start), choice)

    def _start(self) -> Form:
        """Return the first form inside the gate: with all products in int8 or, where these miss it, some kept fp32."""
        first = first_form(self.config.precision, self.forms.int8)
        kept = KEPT if self.config.precision == "int8" else ()
        for form in (first, *(first.model_copy(update={"kept": products}) for products in kept)):
            if not self._refused("start", form, None):
                self._note("start", str(form), self._figures(form), None, "start")
                return form
        figures = self._figures(first)
        gate(self._checks(first, figures, figures))
        return first

    def _refused(
        self, name: str, form: Form, first: Mapping[str, float] | None, running: Running | None = None
    ) -> bool:
        """Put down why a form cannot be had, or is outside the gate, against the start's figures or alone."""
        shown = f"{name} = {getattr(running, name)}" if running else str(form)
        try:
            figures = self._figures(form, running)
        except ModelError as error:
            self._note(name, shown, {}, None, f"cannot be written: {error}")
            return True
        except ArtifactError as error:
            if self.config.provider == CPU:
                raise
            self._note(name, shown, {}, None, f"cannot be run: {error}")
            return True
        missed = [check for check in self._checks(form, figures, first or figures) if not check.passed]
        if missed:
            why = f"{missed[0].figure} = {missed[0].value:.5g}, must be {missed[0].direction} {missed[0].bar:g}"
            self._note(name, shown, figures, None, f"outside the gate: {why}")
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

    def _try_running(
        self, name: str, values: Sequence[Any], form: Form, best: Running, first: Mapping[str, float] | None = None
    ) -> Running:
        alternatives = [value for value in values if value != getattr(best, name)]
        rivals = {f"{name} = {value}": replace(best, **{name: value}) for value in alternatives}
        if name in _CHANGE_RESULTS:
            rivals = {key: rival for key, rival in rivals.items() if not self._refused(name, form, first, rival)}
        ratios = self._timed(name, (form, best), {key: (form, rival) for key, rival in rivals.items()}, whole=True)
        faster = [key for key in rivals if ratios[key].low >= _LEAST_GAIN]
        chosen = max(faster, key=lambda key: ratios[key].median, default=None)
        for key in rivals:
            self._note(name, key, {}, ratios[key], "kept" if key == chosen else "not better")
        return rivals[chosen] if chosen else best

    def _note(self, stage: str, name: str, figures: Mapping[str, float], ratio: Ratio | None, verdict: str) -> None:
        timed = f", {ratio.median:.3f}x ({ratio.low:.3f} to {ratio.high:.3f})" if ratio else ""
        say(f"  {stage}: {name}{timed}: {verdict}")
        self.tried.append(Trial(stage, name, dict(figures), ratio, verdict))

    def _checks(self, form: Form, figures: Mapping[str, float], first: Mapping[str, float]) -> list[Check]:
        """Hold a form's figures against the bars."""
        bars = self.config.bars(first)
        return [Check(str(form), "search", f, figures[f], bar, field=f"search.{f}") for f, bar in bars.items()]

    def _figures(self, form: Form, running: Running | None = None) -> dict[str, float]:
        """Return how near a form is to fp32, and to itself in another batch, run as ``running`` has results change."""
        changed = running if running is not None and running.bf16_products else None
        subject = form if changed is None else [form.model_dump(mode="json"), changed.as_dict()]
        figures: dict[str, float] = self._once(
            "figures", subject, lambda: self.subject.figures(self._folder(form), changed)
        )
        return figures

    def _timed(
        self,
        name: str,
        base: tuple[Form, Running | None],
        rivals: Mapping[str, tuple[Form, Running | None]],
        whole: bool = False,
    ) -> dict[str, Ratio]:
        """Time rivals against a base, graphs alone or the ``whole`` of an encoder or reader."""
        if not rivals:
            return {}
        subject = [name, str(base), {key: str(rival) for key, rival in rivals.items()}]

        def measure() -> dict[str, JsonObject]:
            opened = {key: self._pass(*rival, whole) for key, rival in rivals.items()}
            timed = contest(self._pass(*base, whole), opened, self.config.turns)
            return {key: ratio.as_dict() for key, ratio in timed.items()}

        return {key: Ratio.read(values) for key, values in self._once("ratios", subject, measure).items()}

    def _pass(self, form: Form, running: Running | None, whole: bool) -> Pass:
        folder = self._folder(form)
        return self.subject.whole_pass(folder, running) if whole else self.subject.graph_pass(folder)

    def _folder(self, form: Form) -> Path:
        """Return a folder with the graph in ``form``, written once."""
        stated = form.model_dump(mode="json")
        folder = self.kept / (key := key_of(stated))[:16]
        if not is_artifact(folder):  # with a manifest it is run as the artifact will be
            shutil.rmtree(folder, ignore_errors=True)
            with writing(folder, "trial", key, stated) as draft:
                copy_consumer_files(self.forms.exported, draft.folder)
                self.forms.write(form, draft.folder / GRAPH)
                draft.figures.update(self.forms.int8.noted() if form.precision == "int8" else {})
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


def _running_stages(names: Collection[str]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    cores = usable_cores()
    stages: dict[str, tuple[Any, ...]] = {
        "batch_tokens": _BATCH_TOKENS,
        "equal_lengths": (True,),
        "threads": tuple(n for n in range(2, cores + 1) if cores % n == 0),
        "arena": (False,),
        "bf16_products": (True,) if bf16_on_arm() else (),
    }
    yield from ((name, values) for name, values in stages.items() if name in names and values)
