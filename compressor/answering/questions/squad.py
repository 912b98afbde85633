"""Questions, contexts and answers in the format of SQuAD 1.1 and 2.0."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from compressor.core.encodings import encoding_fault
from compressor.core.errors import TextError
from compressor.texts.mixing import folded

_VERSION = re.compile(r"[12](\.\d+)*")
_COPY = re.compile(r"~\d+~*$")  # what augment puts behind the id of a copy

TEST, THRESHOLD, SETTINGS = "test", "threshold", "settings"
"""What questions are held out for; each has a hash of its own."""


@dataclass(frozen=True)
class Answer:
    """A piece of the context: ``context[start : start + len(text)] == text``, ``start`` counted in characters."""

    text: str
    start: int


@dataclass(frozen=True)
class Question:
    """A question, the context that it is asked about, and the answers that people gave; without any, it has none."""

    id: str
    text: str
    context: str
    answers: tuple[Answer, ...] = ()


class Questions(Sequence[Question]):
    """Questions in their order, ids distinct. ``version`` is the format's: 2.0 has questions without an answer.

    ``stated``: whether it was stated, or follows from the questions.
    """

    def __init__(self, questions: Sequence[Question], version: str = "1.1", stated: bool = True) -> None:
        self.questions, self.version, self.stated = tuple(questions), version, stated

    @property
    def key(self) -> str:
        """Hash of the questions, contexts and answers."""
        digest = hashlib.sha256(self.version.encode())
        for question in self.questions:
            answers = [[answer.text, answer.start] for answer in question.answers]
            digest.update(json.dumps([question.id, question.text, question.context, answers]).encode())
        return digest.hexdigest()

    @property
    def silent(self) -> bool:
        """Tell whether some have an answer and some have none, so that a reader must choose between the two."""
        return len({bool(question.answers) for question in self.questions}) == 2

    @property
    def contexts(self) -> list[str]:
        """Return the distinct contexts, in the order in which they come."""
        return list(dict.fromkeys(question.context for question in self.questions))

    def split(self, heldout: float, seed: int, purpose: str) -> tuple["Questions", "Questions"]:
        """Part into those to train on and about the share ``heldout`` for ``purpose``; no context is on both sides,
        nor one like it but for case and punctuation.

        The hash of ``purpose`` and context decides, so that questions added later do not reshuffle the others, and
        a part that is parted again for another purpose loses the same share again. A copy that ``augment`` made
        stays with its original. Where there are questions with and without an answer, some of each are held out.
        Raises TextError where a side would be left without a question.
        """
        groups = _groups(self.questions)
        ranks = {group: _rank(f"{purpose} {seed} {group}") for group in groups.values()}
        order = sorted(ranks, key=lambda group: ranks[group])
        kinds: dict[str, set[bool]] = {}
        for question in self.questions:
            kinds.setdefault(groups[question.context], set()).add(bool(question.answers))
        least, missing = 0, set[bool]().union(*kinds.values())
        while missing:
            missing -= kinds[order[least]]
            least += 1
        count = max(least, sum(rank < heldout * (1 << 64) for rank in ranks.values()))
        if count >= len(order):
            count = least  # as few as there may be
        if not 0 < count < len(order):
            few = "1 context is" if len(order) == 1 else f"{len(order)} contexts are"
            raise TextError(f"heldout = {heldout:g}: {few} too few to hold some out for the {purpose}")
        aside = set(order[:count])
        parts = (
            [question for question in self.questions if (groups[question.context] in aside) is side]
            for side in (False, True)
        )
        train, held = (Questions(part, self.version, self.stated) for part in parts)
        return train, held

    def as_squad(self) -> dict[str, Any]:
        """Return what a SQuAD file of the questions holds; those of one context stand together."""
        entries: dict[str, list[dict[str, Any]]] = {context: [] for context in self.contexts}
        for question in self.questions:
            answers = [{"text": answer.text, "answer_start": answer.start} for answer in question.answers]
            entry = {"id": question.id, "question": question.text, "answers": answers}
            entries[question.context].append(entry | ({"is_impossible": not answers} if self.version[0] == "2" else {}))
        paragraphs = [{"context": context, "qas": qas} for context, qas in entries.items()]
        return {"version": self.version, "data": [{"title": "", "paragraphs": paragraphs}]}

    def __len__(self) -> int:
        return len(self.questions)

    @overload
    def __getitem__(self, index: int) -> Question: ...
    @overload
    def __getitem__(self, index: slice) -> "Questions": ...
    def __getitem__(self, index: int | slice) -> "Question | Questions":
        if isinstance(index, slice):
            return Questions(self.questions[index], self.version, self.stated)
        return self.questions[index]


def read_squad(path: Path) -> Questions:
    """Read a SQuAD file, version 1.1 or 2.0; one that states no version is 2.0 where a question has no answer.

    Raises TextError, with the id of the first question and how many there are, for an empty question or context, an
    answer that does not stand where it says, an id that comes twice, a question of version 1.1 without an answer and
    one of 2.0 that is ``is_impossible`` and has one; and for a file that cannot be read or is built otherwise.
    """
    content = _parsed(path)
    version = _version(path, content)
    questions: dict[str, Question] = {}
    faults: list[str] = []
    entries = list(_entries(path, content))
    for entry, context in entries:
        try:
            question = _question(entry, context, version)
            if question.id in questions:
                raise TextError(f'question "{question.id}": its id comes twice')
            questions[question.id] = question
        except TextError as error:
            faults.append(str(error))
    if faults:
        count = f"; {len(faults):,} of {len(entries):,} questions are wrong" if len(faults) > 1 else ""
        raise TextError(f"{path}: {faults[0]}{count}")
    if not questions:
        raise TextError(f"{path}: no questions")
    found = "1.1" if all(question.answers for question in questions.values()) else "2.0"
    return Questions(list(questions.values()), version or found, version is not None)


def _parsed(path: Path) -> Any:
    try:
        content = path.read_bytes()
        if reason := encoding_fault(content[:64]):
            raise TextError(f"{path}: {reason}")
        return json.loads(content.decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise TextError(f"{path}: no such file of questions") from error
    except OSError as error:
        raise TextError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError, MemoryError) as error:  # JSON or UTF-8
        raise TextError(f"{path}: not readable as JSON: {error}") from error


def _version(path: Path, content: Any) -> str | None:
    """Return the version that the file states, as 1.1 or 2.0 are written, or None."""
    version = content.get("version") if isinstance(content, dict) else ""
    if version is None:
        return None
    number = str(version).strip().lower().removeprefix("v")
    if isinstance(version, bool) or not _VERSION.fullmatch(number):
        raise TextError(f'{path}: version = "{version}": no SQuAD file; versions 1.1 and 2.0 are read')
    return number if "." in number else {"1": "1.1", "2": "2.0"}[number]


def _entries(path: Path, content: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what stands for each question, and its context."""
    for number, article in enumerate(_list(path, content, "data", "the file"), start=1):
        for paragraph in _list(path, article, "paragraphs", f"data {number}"):
            for entry in _list(path, paragraph, "qas", f"a paragraph of data {number}"):
                yield entry, paragraph.get("context")


def _list(path: Path, holder: Any, name: str, where: str) -> list[Any]:
    found = holder.get(name) if isinstance(holder, dict) else None
    if not isinstance(found, list):
        raise TextError(f"{path}: {where} has no list {name}, as SQuAD's format has it")
    return found


def _question(entry: Any, context: Any, version: str | None) -> Question:
    """Check and return one question; TextError, with its id, for a wrong one."""
    name = _id(entry)

    def refused(reason: str) -> TextError:
        return TextError(f'question "{name}": {reason}')

    text = entry.get("question")
    if not isinstance(context, str) or not context.strip():
        raise refused("its context is empty")
    if not isinstance(text, str) or not text.strip():
        raise refused("it is empty")
    if not _is_text(name, text, context):
        raise refused("half of a surrogate pair is no character")
    given = entry.get("answers", [])
    if not isinstance(given, list):
        raise refused("its answers are no list")
    if reason := _contradiction(entry.get("is_impossible"), bool(given), version):
        raise refused(reason)
    answers = []
    for answer in given:
        words, start = (answer.get("text"), answer.get("answer_start")) if isinstance(answer, dict) else (None, None)
        if not isinstance(words, str) or not words or not isinstance(start, int) or isinstance(start, bool):
            raise refused("an answer is no text with an answer_start")
        if start < 0 or context[start : start + len(words)] != words:
            stands = context[max(start, 0) : max(start, 0) + len(words)]
            raise refused(f"answer {_quoted(words)} does not stand at {start}, where {_quoted(stands)} stands")
        answers.append(Answer(words, start))
    return Question(name, text, context, tuple(dict.fromkeys(answers)))


def _id(entry: Any) -> str:
    name = entry.get("id") if isinstance(entry, dict) else None
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        raise TextError("a question has no id, a text or a whole number")
    return str(name)


def _contradiction(stated: Any, answered: bool, version: str | None) -> str | None:
    """Say what is wrong between a question's ``is_impossible``, its answers and the file's version."""
    if stated not in (None, False, True):
        return f"is_impossible = {json.dumps(stated)}: must be true or false"
    if stated and answered:
        return "it is_impossible and has an answer"
    if answered:
        return None
    if version is not None and version.startswith("1."):
        return f"it has no answer, which version {version} must have; 2.0 has such questions"
    # Without a version, a question that does not say so is taken by its answers.
    return None if stated or (stated is None and version is None) else "it has no answer, and is not is_impossible"


def _groups(questions: Sequence[Question]) -> dict[str, str]:
    """Return for each context the first of its group: of those alike but for case and punctuation, and of the copies of
    one original, known by the ids that ``augment`` gives."""
    known = {question.id: question.context for question in questions}
    alike: dict[bytes, str] = {}
    groups: dict[str, str] = {}
    for question in questions:
        name = question.id
        while (origin := _COPY.sub("", name)) != name and origin in known:
            name = origin
        if question.context not in groups:
            first = alike.setdefault(folded(known[name].encode()), known[name])
            groups[question.context] = alike.setdefault(folded(question.context.encode()), first)
    return groups


def _rank(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def _is_text(*parts: str) -> bool:
    try:
        "".join(parts).encode()
    except UnicodeEncodeError:
        return False
    return True


def _quoted(text: str, most: int = 40) -> str:
    cut = text if len(text) <= most else f"{text[: most - 1]}…"
    return json.dumps(cut, ensure_ascii=not _is_text(cut))
