"""What a search tried and chose, with types: ``search.json``, and the ``choice`` in an artifact's manifest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from compressor.core.figures import Figures
from compressor.core.strict_json import JsonObject
from exporters.runtime.names import CPU
from exporters.runtime.running import Running
from exporters.search.contest import Ratio
from exporters.search.forms import Form


@dataclass(frozen=True)
class Trial(Figures):
    """A form, or a way to run one, that was tried."""

    stage: str
    """The field that was varied."""
    name: str
    figures: Mapping[str, float]
    """Its quality; empty where it could not be written, or is that of a form already known."""
    ratio: Ratio | None
    """Against the best so far; None where it was not timed."""
    verdict: str

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote."""
        ratio = _ratio(stated["ratio"])
        return cls(stated["stage"], stated["name"], stated["figures"], ratio, stated["verdict"])


@dataclass(frozen=True)
class Choice:
    """What was chosen, and for which CPU."""

    form: Form
    running: Running
    kept_products: int
    """Products that stay fp32 in an int8 form."""
    made_for: str
    """``this`` CPU or ``any``."""
    cpu: str
    """Its name, or ``any``."""
    cpu_features: Sequence[str]
    figures: Mapping[str, float]
    """Its quality."""
    ratio: Ratio | None
    """Against the start, all that a user waits for; None where nothing was timed."""
    provider: str = CPU
    """The execution provider that it was judged and timed on."""

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it."""
        return {
            "form": self.form.model_dump(mode="json"),
            "running": self.running.as_dict(),
            "kept_products": self.kept_products,
            "made_for": self.made_for,
            "cpu": self.cpu,
            "cpu_features": list(self.cpu_features),
            "provider": self.provider,
            "figures": dict(self.figures),
            "ratio": None if self.ratio is None else self.ratio.as_dict(),
        }

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote; RecipeError or ValueError for a form or a way to run it that is none."""
        return cls(
            form=Form.read(stated["form"]),
            running=Running.read(stated["running"]),
            kept_products=stated["kept_products"],
            made_for=stated["made_for"],
            cpu=stated["cpu"],
            cpu_features=stated["cpu_features"],
            figures=stated["figures"],
            ratio=_ratio(stated["ratio"]),
            provider=stated.get("provider", CPU),
        )


@dataclass(frozen=True)
class Searched:
    """A finished search."""

    environment: Mapping[str, Any]
    """The machine."""
    config: Mapping[str, Any]
    """Settings of the search."""
    trials: Sequence[Trial]
    """In their order."""
    start: str
    """The form that it started from."""
    choice: Choice

    def as_dict(self) -> JsonObject:
        """Return what ``search.json`` holds, in its order."""
        return {
            "environment": dict(self.environment),
            "config": dict(self.config),
            "trials": [trial.as_dict() for trial in self.trials],
            "start": self.start,
            "choice": self.choice.as_dict(),
        }

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote."""
        trials = [Trial.read(trial) for trial in stated["trials"]]
        choice = Choice.read(stated["choice"])
        return cls(stated["environment"], stated["config"], trials, stated["start"], choice)


def _ratio(stated: Mapping[str, Any] | None) -> Ratio | None:
    return None if stated is None else Ratio.read(stated)
