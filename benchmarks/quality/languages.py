"""Measure what a multilingual student learnt of the new language, and what the first one lost."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.quality.translation import CrossLingualSts, matching
from benchmarks.systems import System
from compressor.artifact.folder import Draft, write_json
from compressor.core.config import Config
from compressor.core.progress import track
from compressor.distil.language.multilingual import Translations
from compressor.texts.parallel import ParallelTexts
from exporters.loading import kind_of


class Languages(Config):
    """Measure each language on its own, both together, and translations found by their vectors."""

    def run(self, models: Mapping[str, Path], translations: Translations, draft: Draft) -> None:
        """Write ``languages.json`` into ``draft``: figures by model; STS as Spearman x 100, matching 0 to 1."""
        sets, files = read_tests(translations)
        measured: dict[str, Any] = {}
        with track("languages", len(models), "models") as advance:
            for name, folder in models.items():
                encoder = System(name, name, kind_of(folder), str(folder)).encoder()
                measured[name] = {
                    "matching": {title: matching(encoder, p.sources, p.translations) for title, p in sets},
                    "sts": [
                        {
                            "first": file.left.spearman(encoder),
                            "new": file.right.spearman(encoder),
                            "across": file.spearman(encoder),
                            "files": file.name,
                        }
                        for file in files
                    ],
                }
                advance(1)
        first = measured[next(iter(models))]
        for figures in measured.values():
            for own, teacher in zip(figures["sts"], first["sts"], strict=True):
                own["first_kept"] = own["first"] / teacher["first"] if teacher["first"] else None
        write_json(draft.folder / "languages.json", measured)


def read_tests(translations: Translations) -> tuple[list[tuple[str, ParallelTexts]], list[CrossLingualSts]]:
    """Read what the languages are measured on; TextError for a file that cannot be read."""
    return translations.read_matching(), [CrossLingualSts.read(*pair) for pair in translations.sts_files()]
