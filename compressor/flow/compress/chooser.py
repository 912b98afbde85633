"""The recipe for a model and what is wanted of it, chosen by looking at both, at the texts and at the machine."""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sentence_transformers import SentenceTransformer

from compressor.answering.readers.source import ReaderTeacher
from compressor.artifact.folder import key_of, writing
from compressor.artifact.prompts import Prompts
from compressor.core.config import overridden
from compressor.core.encoder import Vectors
from compressor.core.errors import TextError
from compressor.core.progress import say
from compressor.core.strict_json import JsonObject
from compressor.flow.compress.bars import bars_of
from compressor.flow.compress.choice import Machine, check_dim, depths, heldout_of, is_planned, layers_of, sections
from compressor.flow.compress.notes import notes_of
from compressor.flow.compress.outlook import Outlook
from compressor.flow.compress.places import model_place, name_of, place_of
from compressor.flow.compress.readers import is_question_answering, reader_values
from compressor.flow.compress.sized.choose import Planned, plan
from compressor.flow.compress.sized.words import usage_of
from compressor.flow.compress.wish import Wish
from compressor.models.bulk import BulkEncoder
from compressor.models.sentence_model import open_model
from compressor.models.source import Source, find
from compressor.texts.corpus import TextSource
from compressor.texts.reading import is_file
from compressor.texts.roles import RoleTexts
from exporters.graph.export import Export
from exporters.verify.embedding import Verify

_TEXTS, _SECONDS, _CALL = 512, 8.0, 64  # that the teacher's speed is measured on, for so long, in calls of so many


@dataclass(frozen=True)
class Choice:
    """A recipe's values, what speaks for them, and the depths that a target is still to be met by, if any."""

    values: JsonObject
    notes: Sequence[str]
    depths: tuple[int, ...] = ()


@dataclass(frozen=True)
class Chooser:
    """What a recipe is chosen by."""

    model: str
    texts: TextSource | None
    out: Path
    wish: Wish
    questions: Path | None = None
    changes: tuple[str, ...] = ()

    @property
    def answers(self) -> bool:
        """Whether a reader is wanted."""
        return self.questions is not None or is_question_answering(self.model)

    @cached_property
    def source(self) -> Source:
        """Find the model."""
        return ReaderTeacher(model=self.model).find() if self.answers else find(self.model, pooling=self.wish.pooling)

    @property
    def wanted(self) -> str:
        """Hash what the recipe is chosen for."""
        texts = None if self.texts is None else asdict(self.texts)
        return key_of(self.source.key, self.wish.model_dump(mode="json"), texts, str(self.questions), self.changes)

    def choose(self) -> Choice:
        """Choose, and say what was found and why."""
        made = self._reader() if self.answers else self._encoder()
        for note in made.notes:
            _tell(note)
        return Choice(overridden(made.values, self.changes), made.notes, made.depths)

    def _reader(self) -> Choice:
        values = reader_values(self.model, self.source.folder, self.questions, self.texts, self.out, self.wish)
        return Choice(values, [f"plan: one step to {values['distil'][0]['layers']} layers, then int8"])

    def _encoder(self) -> Choice:
        wish, opened = self.wish, open_model(self.source.folder)
        outlook = Outlook.of(self.source, opened)
        for line in outlook.lines():
            _tell(line)
        check_dim(wish, outlook)
        sized = is_planned(wish, outlook)
        tried = depths(wish, outlook) if wish.targets and not sized else ()
        corpus = RoleTexts.read(self._texts()).load_roles(Path(), Prompts.load(self.source.folder), None)
        planned = plan(wish, outlook, usage_of(opened, outlook, corpus.train)) if sized else None
        layers = self._layers(outlook, tried, planned)
        if layers is not None and not outlook.fuses:
            self._try_graph()
        vectors, rate = measured(opened, corpus.train)
        machine, texts = Machine.here(rate), len(corpus.train) + len(corpus.dev) + len(corpus.heldout)
        tokens = 0 if layers is None else nearly_all(opened, corpus.train)
        shape = None if planned is None else planned.shape
        chosen = sections(wish, outlook, machine, texts, layers, tokens, shape)
        trained = None if layers is None else float(chosen["distil"]["time_budget"].removesuffix("s"))
        bars = bars_of(vectors, wish.dim, trained, heldout_of(wish, machine, texts))
        notes = notes_of(wish, outlook, machine, texts, layers, tried, chosen, planned)
        return Choice(self._recipe(chosen, bars), notes, tried)

    def _layers(self, outlook: Outlook, tried: Sequence[int], planned: Planned | None) -> int | None:
        """Return how many layers a student has, of several the most; None where nothing is distilled."""
        if planned is not None:
            return planned.shape.layers
        return next((n for n in tried if n < outlook.depth), None) if tried else layers_of(self.wish, outlook)

    def _recipe(self, chosen: JsonObject, bars: dict[str, float]) -> JsonObject:
        """Return the values of a recipe in the folder ``out``."""
        given = {"sts": self.wish.sts, "retrieval": self.wish.retrieval}
        measured_on = {name: [place_of(one, self.out) for one in files] for name, files in given.items() if files}
        pooling = {} if self.wish.pooling is None else {"pooling": self.wish.pooling}
        return {
            "name": name_of(self.out),
            "teacher": {"model": model_place(self.model, self.out), **pooling},
            **chosen,
            "texts": self._texts(self.out) | chosen["texts"],
            "verify": {"fused": "auto", "int8_cosine_mean": Verify().int8_cosine_mean, **bars},
            "bench": chosen["bench"] | measured_on,
        }

    def _texts(self, seen_from: Path | None = None) -> JsonObject:
        """Return where the texts are, as they were given or as a folder sees it; TextError for a split of a file."""
        given = self.texts
        if given is None:
            return {}
        file = is_file(given.source, Path(os.path.expanduser(given.source)))
        if given.split is not None and file:
            raise TextError(f"{given.source}: split = {given.split}: only data sets have splits")
        place = place_of(given.source, seen_from) if file and seen_from is not None else given.source
        stated = {"source": place, "column": given.column, "split": given.split}
        return {name: value for name, value in stated.items() if value is not None}

    def _try_graph(self) -> None:
        """Export the model itself, of a family whose layers are not known to fuse: its student's graph is like it."""
        _tell("graph: tried on the model itself, before its student is trained")
        with TemporaryDirectory() as folder, writing(Path(folder) / "export", "export", "") as draft:
            Export().run(self.source.folder, draft)


def measured(model: SentenceTransformer, texts: Sequence[str]) -> tuple[Vectors, float]:
    """Return a model's vectors of some of the texts, float32 [n, dim], and how many texts a second that was."""
    encoder, sample = BulkEncoder(model), list(texts[:_TEXTS])
    encoder.encode(sample[:8])
    found, start, lasted = list[Vectors](), time.perf_counter(), 0.0
    while sample and lasted < _SECONDS:
        found.append(encoder.encode(sample[:_CALL]))
        sample, lasted = sample[_CALL:], time.perf_counter() - start
    vectors = np.concatenate(found)
    return vectors, len(vectors) / lasted


def nearly_all(model: SentenceTransformer, texts: Sequence[str]) -> int:
    """Return how many tokens 95 of 100 of the first texts have at most, special ones included."""
    tokens = model.tokenizer(list(texts[:_TEXTS]), verbose=False)["input_ids"]
    return int(np.percentile([len(ids) for ids in tokens], 95, method="lower"))


def _tell(line: str) -> None:
    head, _, rest = line.partition(": ")
    say((head, "bold"), f": {rest}")
