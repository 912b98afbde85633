"""A student among several of one recipe: its own flow, on the teacher and the texts that all have."""

from dataclasses import dataclass
from functools import cached_property

from compressor.artifact.workspace import Model
from compressor.flow.embedding import EmbeddingFlow
from compressor.models.agreement import Heldout
from compressor.models.source import Source
from compressor.texts.collections import Collection
from compressor.texts.corpus import Corpus
from compressor.vectors.retrieval import Searches


@dataclass(frozen=True)
class Branch(EmbeddingFlow):
    """The flow of one student, on the teacher and the texts of all."""

    trunk: EmbeddingFlow

    @cached_property
    def source(self) -> Source:
        return self.trunk.source

    @cached_property
    def corpus(self) -> Corpus:
        return self.trunk.corpus

    @cached_property
    def heldout(self) -> Heldout:
        return self.trunk.heldout

    @cached_property
    def dev(self) -> Heldout:
        return self.trunk.dev

    @cached_property
    def collections(self) -> list[Collection]:
        return self.trunk.collections

    @cached_property
    def index(self) -> Model:
        return self.trunk.index

    @cached_property
    def searches(self) -> Searches:
        return self.trunk.searches
