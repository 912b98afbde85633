"""Measure what a multilingual student learnt of the new language, and what the first one lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from benchmarks.quality.translation import CrossLingualSts, matching
from benchmarks.systems import System
from compressor.artifact.folder import Draft, write_json
from compressor.core.config import Config
from compressor.core.encoder import Encoder
from compressor.core.figures import Figures
from compressor.core.progress import track
from compressor.core.strict_json import JsonObject
from compressor.distil.language.multilingual import Translations
from compressor.texts.parallel import ParallelTexts
from exporters.loading import kind_of


@dataclass(frozen=True)
class BothLanguages(Figures):
    """Spearman's correlation x 100 on one STS file in two languages."""

    first: float
    """Both sentences in the first language."""
    new: float
    """Both in the new one."""
    across: float
    """One in each."""
    files: str
    first_kept: float | None = None
    """Share of the teacher's ``first``; None where that is 0."""

    @classmethod
    def of(cls, file: CrossLingualSts, encoder: Encoder) -> Self:
        """Measure a model alone."""
        return cls(file.left.spearman(encoder), file.right.spearman(encoder), file.spearman(encoder), file.name)

    def beside(self, teacher: "BothLanguages") -> Self:
        """Return it with what is kept of the teacher's."""
        return replace(self, first_kept=self.first / teacher.first if teacher.first else None)


@dataclass(frozen=True)
class LanguageFigures:
    """What a model knows of both languages."""

    matching: Mapping[str, Mapping[str, float]]
    """Share of translations that are found, both ways, by set."""
    sts: Sequence[BothLanguages]
    """A row a pair of files."""

    def beside(self, teacher: "LanguageFigures") -> Self:
        """Return them with what is kept of the teacher's."""
        return replace(self, sts=[own.beside(its) for own, its in zip(self.sts, teacher.sts, strict=True)])

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it."""
        matching = {title: dict(found) for title, found in self.matching.items()}
        return {"matching": matching, "sts": [row.as_dict() for row in self.sts]}

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote."""
        return cls(stated["matching"], [BothLanguages.read(row) for row in stated["sts"]])


class Languages(Config):
    """Measure each language on its own, both together, and translations found by their vectors."""

    def run(self, models: Mapping[str, Path], translations: Translations, draft: Draft) -> None:
        """Write ``languages.json`` into ``draft``: figures by model; STS as Spearman x 100, matching 0 to 1."""
        sets, files = read_tests(translations)
        measured: dict[str, LanguageFigures] = {}
        with track("languages", len(models), "models") as advance:
            for name, folder in models.items():
                encoder = System(name, name, kind_of(folder), str(folder)).encoder()
                found = {title: matching(encoder, p.sources, p.translations) for title, p in sets}
                measured[name] = LanguageFigures(found, [BothLanguages.of(file, encoder) for file in files])
                advance(1)
        teacher = measured[next(iter(models))]
        figures = {name: own.beside(teacher).as_dict() for name, own in measured.items()}
        write_json(draft.folder / "languages.json", figures)


def read_tests(translations: Translations) -> tuple[list[tuple[str, ParallelTexts]], list[CrossLingualSts]]:
    """Read what the languages are measured on; TextError for a file that cannot be read."""
    return translations.read_matching(), [CrossLingualSts.read(*pair) for pair in translations.sts_files()]
