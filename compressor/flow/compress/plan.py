"""What the folder of a compressed model keeps of how it came about: the recipe, and what it was chosen for."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from benchmarks.report.page import as_toml
from compressor.artifact.folder import write_json
from compressor.core.errors import ArtifactError
from compressor.core.files import replace_text
from compressor.core.strict_json import JsonObject, read_json

RECIPE, PLAN = "recipe.toml", "compress.json"
FORMAT = "compressor-compress/1"


@dataclass(frozen=True)
class Plan:
    """A recipe in ``folder``; with ``depths``, its layers are still to be chosen by a trade-off of these."""

    folder: Path
    wanted: str
    """Hash of what it was chosen for."""
    depths: tuple[int, ...] = ()

    @property
    def path(self) -> Path:
        """Return where the recipe is."""
        return self.folder / RECIPE

    def write(self, values: JsonObject, notes: Sequence[str]) -> None:
        """Write the recipe, ``notes`` at its head as comments, and what it was chosen for."""
        head = "".join(f"# {_printable(note)}\n" for note in notes)
        replace_text(self.path, f"{head}\n{as_toml(values)}\n")
        stated = {"format": FORMAT, "wanted": self.wanted, "depths": self.depths, "recipe": _hash(self.path)}
        write_json(self.folder / PLAN, stated)


def kept_plan(folder: Path, wanted: str) -> Plan | None:
    """Return the plan that ``folder`` keeps for what is wanted; None where it keeps none, or one for something else.

    ArtifactError for a folder that holds something else, and for a recipe that was edited and would be written over.
    """
    path = folder / PLAN
    if not path.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ArtifactError(f"{folder}: holds something else; give an empty or a new folder")
        return None
    try:
        stated = read_json(path)
        kept = Plan(folder, str(stated["wanted"]), tuple(int(n) for n in stated["depths"]))
        written = str(stated["recipe"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: not readable; give a new folder, or take it out") from error
    if not kept.path.is_file():
        return None
    if kept.wanted == wanted:
        return kept
    if _hash(kept.path) != written:
        ways = f"give another --out, or run it: compressor run {kept.path}"
        raise ArtifactError(f"{kept.path}: was edited, and something else is wanted now; {ways}")
    return None


def _hash(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
