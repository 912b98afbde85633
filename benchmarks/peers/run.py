"""The teacher, artifacts and peers side by side, in one run: ``compressor bench --peers``."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from tokenizers import Tokenizer

from benchmarks.bench import Bench
from benchmarks.peers import rounds
from benchmarks.peers.catalogue import Peer, chosen
from benchmarks.peers.entry import Entry, open_peer, open_system
from benchmarks.peers.results import BesideFigures, PeerAtLength, PeerFigures
from benchmarks.quality.sts import Sts
from benchmarks.report.markdown import source
from benchmarks.report.peers import markdown, print_peers
from benchmarks.results import MeasuredOn
from benchmarks.systems import System, check_names
from compressor.artifact.folder import write_json
from compressor.core.cores import usable_cores
from compressor.core.errors import PeerError, RecipeError, storage
from compressor.core.files import replace_text
from compressor.core.progress import say, track
from compressor.core.strict_json import JsonObject, json_text
from compressor.machine.describe import describe
from compressor.models.agreement import Heldout, check_vectors
from compressor.models.projection import Projection
from compressor.models.source import Source
from compressor.texts.collections import Collection
from compressor.vectors.retrieval import Found, Searches
from exporters.runtime.providers import CPU
from exporters.tasks.lengths import texts_of_length

AGREEMENT_MIN = 0.9
"""Mean cosine with the teacher below which a peer of its weights is taken for wrongly set up, and not measured."""
SAMPLE = 512
"""Texts that static ranges are calibrated on, as many as ours are by default."""
_AGREEMENT_TEXTS = 256


def chosen_peers(bench: Bench, names: str) -> list[Peer]:
    """Return the peers that ``names`` names; RecipeError for what cannot be measured with them."""
    if bench.providers != (CPU,):
        raise RecipeError(f"bench.providers = {list(bench.providers)}: peers are measured on {CPU} alone")
    return chosen(names)


@dataclass(frozen=True)
class Beside:
    """A run of the benchmark with peers."""

    bench: Bench
    teacher: Source
    systems: Sequence[System]
    """The teacher, to which the ratios are, and the artifacts."""
    peers: Sequence[Peer]
    texts: Sequence[str]
    """What speed is measured on."""
    source: str
    """Where ``texts`` are from."""
    sample: Sequence[str]
    """Texts that peers calibrate static ranges on; the first of them are taken."""
    sts: Sequence[Sts]
    collections: Sequence[Collection] = ()
    """What retrieval is measured on."""

    def run(self, to: Path, command: str, as_json: bool, console: Console) -> None:
        """Measure, write ``peers.json`` and ``peers.md`` into ``to``, and print the table, or all as JSON."""
        check_names([*(system.name for system in self.systems), *(peer.name for peer in self.peers)])
        with storage(to):
            to.mkdir(parents=True, exist_ok=True)
        results = self.measure(command)
        write_json(to / "peers.json", results)
        replace_text(to / "peers.md", markdown(results, source))
        if as_json:
            print(json_text(results))
            return
        print_peers(results, console)
        console.print(f"figures {to / 'peers.json'}   table {to / 'peers.md'}", soft_wrap=True)

    def measure(self, command: str) -> JsonObject:
        """Return the results; a peer that cannot run has a row with its ``reason``."""
        threads = self.bench.threads or usable_cores()
        task = self.systems[0].does
        tokenizer = task.tokenizer(Path(self.systems[0].folder))
        with contextlib.ExitStack() as opened:
            entries = self._open(threads, opened)
            measured = self._figures(entries, tokenizer)
        items = MeasuredOn.of(self.source, task.tokens(tokenizer, self.texts))
        rows = [entry.row(measured.get(entry.name)) for entry in entries]
        found = BesideFigures(items, self.bench.rounds, threads, rows).compared(self._strangers)
        return {
            "name": "peers",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command,
            "environment": describe(),
            "teacher": {
                "name": self.teacher.name,
                "source": self.teacher.origin,
                "weights_sha256": self.teacher.weights_sha256,
            },
            "bench": found.as_dict(),
        }

    @property
    def _strangers(self) -> set[str]:
        """Name the peers that are other models."""
        return {peer.name for peer in self.peers if not peer.same_vectors}

    def _open(self, threads: int, opened: contextlib.ExitStack) -> list[Entry]:
        entries = []
        for place, system in enumerate(self.systems):
            entries.append(open_system(system, "artifact" if place else "teacher", self.teacher, threads))
            opened.callback(entries[-1].close)
        for peer in self.peers:
            entries.append(open_peer(peer, self.teacher, self.sample[:SAMPLE], threads))
            opened.callback(entries[-1].close)
            say(f"  {peer.name}: {entries[-1].reason or 'ready'}")
        return entries

    def _figures(self, entries: Sequence[Entry], tokenizer: Tokenizer) -> dict[str, PeerFigures]:
        """Return what was measured of every entry that ran to the end."""
        bench, texts = self.bench, self.texts
        agreements = _agreements(entries, texts[:_AGREEMENT_TEXTS], self._strangers)
        say(f"  {len(_alive(entries))} systems on {len(texts):,} texts, {bench.rounds} rounds in turns")
        fast = rounds.offline(entries, texts, bench.batch_sizes, bench.rounds)
        scores, found = _scores(entries, self.sts), self._found(entries)
        slow = rounds.single_stream(entries, texts, bench.queries)
        limit = min(entry.max_length for entry in _alive(entries))
        by_length = {}
        for tokens in (n for n in bench.lengths if n <= limit):
            cut = texts_of_length(tokenizer, texts, tokens)
            by_length[tokens] = rounds.offline(entries, cut, bench.batch_sizes, bench.rounds)
        return {
            entry.name: PeerFigures(
                agreements[entry.name],
                scores[entry.name],
                fast[entry.name],
                slow[entry.name],
                [PeerAtLength(tokens, best[entry.name]) for tokens, best in by_length.items()],
                retrieval=found.get(entry.name),
            )
            for entry in _alive(entries)
        }

    def _found(self, entries: Sequence[Entry]) -> dict[str, dict[str, Found]]:
        """Return what each system finds in the collections; nothing where there is none to search."""
        if not self.collections:
            return {}
        projections = {system.name: Projection.load(Path(system.folder)) for system in self.systems}
        searches, alive = Searches(self.collections), _alive(entries)
        found: dict[str, dict[str, Found]] = {}
        with track("retrieval", len(alive), "systems") as advance:
            for entry in alive:  # the teacher first: its vectors are the index
                with entry.turn():
                    found[entry.name] = searches.figures(entry, projections.get(entry.name))
                advance(1)
        return found


def _alive(entries: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.reason is None]


def _agreements(entries: Sequence[Entry], texts: Sequence[str], strangers: set[str]) -> dict[str, dict[str, float]]:
    """Hold every system's vectors against the teacher's; a peer of its weights that disagrees is out of the run."""
    heldout = Heldout(list(texts), entries[0].encode(texts))
    check_vectors(heldout.teacher, entries[0].name)
    agreements: dict[str, dict[str, float]] = {entries[0].name: {}}
    for entry in _alive(entries)[1:]:
        with entry.turn():
            vectors = entry.encode(texts)
            check_vectors(vectors, entry.name)
            agreements[entry.name] = heldout.agreement(vectors)
            if entry.kind != "peer" or entry.name in strangers:
                continue
            cosine = agreements[entry.name].get("cosine_mean")
            if cosine is None:
                raise PeerError(f"gives vectors of {entry.dim} numbers, the teacher of {entries[0].dim}")
            if cosine < AGREEMENT_MIN:
                raise PeerError(
                    f"its vectors are not the teacher's: mean cosine {cosine:.4f}, at least {AGREEMENT_MIN:g} is asked"
                )
    return agreements


def _scores(entries: Sequence[Entry], files: Sequence[Sts]) -> dict[str, dict[str, float]]:
    scores: dict[str, dict[str, float]] = {}
    alive = _alive(entries)
    with track("quality", len(alive), "systems") as advance:
        for entry in alive:
            with entry.turn():
                scores[entry.name] = {sts.name: sts.spearman(entry, entry.batch_size, entry.name) for sts in files}
            advance(1)
    return scores
