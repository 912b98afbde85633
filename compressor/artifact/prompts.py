"""What stands before a text, as sentence-transformers puts it there: by default, by name, for queries and documents."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compressor.artifact.layout import READING
from compressor.core.errors import ArtifactError, TextError
from compressor.core.strict_json import read_json

_USAGE = "config_sentence_transformers.json"
_ALWAYS = {"query": "", "document": ""}  # sentence-transformers has these two, empty where a model states none
QUERY, DOCUMENT = ("query",), ("document", "passage", "corpus")
"""The names that ``encode_query`` and ``encode_document`` look for; the first that there is counts."""


@dataclass(frozen=True)
class Prompts:
    """The prompts of an artifact."""

    named: dict[str, str]
    default: str = ""
    pooled: bool = True
    """Pooling takes a prompt's tokens in; where it does not, no graph can keep texts with a prompt."""

    @classmethod
    def load(cls, folder: Path) -> "Prompts":
        """Read what an artifact states; ArtifactError for what is none."""
        usage = _stated(folder / _USAGE)
        named, name = usage.get("prompts") or {}, usage.get("default_prompt_name")
        if not isinstance(named, dict) or not all(isinstance(text, str) for text in named.values() if text is not None):
            raise ArtifactError(f"{folder / _USAGE}: prompts: must be an object of texts")
        named = _ALWAYS | {key: text or "" for key, text in named.items()}
        if name is not None and (not isinstance(name, str) or name not in named):
            raise ArtifactError(f"{folder / _USAGE}: default_prompt_name = {name!a:.80}: must be {_listed(named)}")
        pooled = all(_stated(path).get("include_prompt") is not False for path in folder.glob("*_Pooling/config.json"))
        return cls(named, named[name] if name else "", pooled)

    @property
    def stated(self) -> dict[str, str]:
        """The prompts that are not empty, in the order of their names."""
        return {name: prompt for name, prompt in sorted(self.named.items()) if prompt}

    def choose(self, name: str | None = None, prompt: str | None = None) -> str:
        """Return ``prompt`` if one is given, the one of that ``name``, or the default one; TextError for another name.

        TextError, too, for a prompt that the model's pooling leaves out.
        """
        if prompt is None and name is not None and not (isinstance(name, str) and name in self.named):
            raise TextError(f"prompt_name = {name!a:.80}: must be {_listed(self.named)}")
        chosen = prompt if prompt is not None else self.default if name is None else self.named[name]
        if not isinstance(chosen, str):
            raise TextError(f"prompt: {type(chosen).__name__} was given where a text belongs")
        if chosen and not self.pooled:
            raise TextError(f"prompt = {chosen!a:.80}: the model's pooling leaves prompts out, which this form cannot")
        return chosen

    def first(self, names: Sequence[str]) -> str | None:
        """Return the first of ``names`` that there is a prompt of."""
        return next((name for name in names if name in self.named), None)


def kept_prompts(folder: Path) -> Prompts:
    """Return the prompts of an artifact, a reader's being none; ArtifactError for such as its pooling leaves out."""
    prompts = Prompts({}) if (folder / READING).is_file() else Prompts.load(folder)
    if prompts.stated and not prompts.pooled:
        first = next(iter(prompts.stated))
        raise ArtifactError(f"{folder}: prompt {first!a:.80}: its pooling leaves prompts out, which a graph cannot")
    return prompts


def _listed(names: Sequence[str] | dict[str, str]) -> str:
    return " or ".join(f"{name!a:.80}" for name in names)


def _stated(path: Path) -> dict[str, object]:
    """Return what a settings file says, nothing where there is none; ArtifactError where it is not readable."""
    try:
        stated = read_json(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(stated, dict):
        raise ArtifactError(f"{path}: must be an object")
    return stated
