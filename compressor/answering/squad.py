"""Questions, contexts and answers in the format of SQuAD 1.1 and 2.0."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from compressor.errors import TextError


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
    """Questions in their order, ids distinct. ``version`` is the format's: 2.0 has questions without an answer."""

    def __init__(self, questions: Sequence[Question], version: str = "1.1") -> None:
        self.questions, self.version = tuple(questions), version

    @property
    def key(self) -> str:
        """Hash of the questions, contexts and answers."""
        digest = hashlib.sha256(self.version.encode())
        for one in self.questions:
            answers = [[answer.text, answer.start] for answer in one.answers]
            digest.update(json.dumps([one.id, one.text, one.context, answers]).encode())
        return digest.hexdigest()

    @property
    def contexts(self) -> list[str]:
        """Return the distinct contexts, in the order in which they come."""
        return list(dict.fromkeys(one.context for one in self.questions))

    def split(self, heldout: float, seed: int = 0) -> tuple["Questions", "Questions"]:
        """Part into those to train on and about the share ``heldout`` to judge by; no context stands on both sides.

        The hash of the context decides, so that questions added later do not reshuffle the others.
        """
        limit = int(heldout * (1 << 64))
        ranks = [hashlib.blake2b(f"{seed} {one.context}".encode(), digest_size=8).digest() for one in self.questions]
        aside = [int.from_bytes(rank, "big") < limit for rank in ranks]
        parts = ([one for one, out in zip(self.questions, aside, strict=True) if out is side] for side in (False, True))
        train, judged = (Questions(part, self.version) for part in parts)
        return train, judged

    def as_squad(self) -> dict[str, Any]:
        """Return what a SQuAD file of the questions holds; those of one context stand together."""
        entries: dict[str, list[dict[str, Any]]] = {context: [] for context in self.contexts}
        for one in self.questions:
            answers = [{"text": answer.text, "answer_start": answer.start} for answer in one.answers]
            entry = {"id": one.id, "question": one.text, "answers": answers}
            entries[one.context].append(entry | ({"is_impossible": not answers} if self.version[0] == "2" else {}))
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
            return Questions(self.questions[index], self.version)
        return self.questions[index]


def read_squad(path: Path) -> Questions:
    """Read a SQuAD file, version 1.1 or 2.0.

    Raises TextError, with the id of the question, for an empty question or context, an answer that does not stand
    where it says, an id that comes twice, a question of version 1.1 without an answer and one of 2.0 that is
    ``is_impossible`` and has one; and for a file that cannot be read or is built otherwise.
    """
    stated = _parsed(path)
    version = _version(path, stated)
    questions: dict[str, Question] = {}
    for one in _entries(path, stated, version):
        if one.id in questions:
            raise TextError(f'{path}: question "{one.id}": its id comes twice')
        questions[one.id] = one
    if not questions:
        raise TextError(f"{path}: no questions")
    return Questions(list(questions.values()), version)


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TextError(f"{path}: no such file of questions") from error
    except OSError as error:
        raise TextError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError, MemoryError) as error:  # JSON or UTF-8
        raise TextError(f"{path}: not readable as JSON: {error}") from error


def _version(path: Path, stated: Any) -> str:
    version = str(stated.get("version", "1.1")) if isinstance(stated, dict) else ""
    number = version.removeprefix("v")
    if not number.startswith(("1.", "2.")):
        raise TextError(f'{path}: version = "{version}": no SQuAD file; versions 1.1 and 2.0 are read')
    return number


def _entries(path: Path, stated: Any, version: str) -> Iterator[Question]:
    for number, article in enumerate(_list(path, stated, "data", "the file"), start=1):
        for paragraph in _list(path, article, "paragraphs", f"data {number}"):
            entries = _list(path, paragraph, "qas", f"a paragraph of data {number}")
            for entry in entries:
                yield _question(path, entry, paragraph.get("context"), version)


def _list(path: Path, holder: Any, name: str, where: str) -> list[Any]:
    found = holder.get(name) if isinstance(holder, dict) else None
    if not isinstance(found, list):
        raise TextError(f"{path}: {where} has no list {name}, as SQuAD's format has it")
    return found


def _question(path: Path, entry: Any, context: Any, version: str) -> Question:
    name = entry.get("id") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name:
        raise TextError(f"{path}: a question has no id")

    def refused(reason: str) -> TextError:
        return TextError(f'{path}: question "{name}": {reason}')

    text = entry.get("question")
    if not isinstance(context, str) or not context.strip():
        raise refused("its context is empty")
    if not isinstance(text, str) or not text.strip():
        raise refused("it is empty")
    given = entry.get("answers", [])
    if not isinstance(given, list):
        raise refused("its answers are no list")
    impossible = bool(entry.get("is_impossible", False))
    if impossible and given:
        raise refused("it is_impossible and has an answer")
    if not impossible and not given:
        raise refused("it has no answer" + ("" if version.startswith("1.") else ", and is not is_impossible"))
    if not _is_text(name, text, context):
        raise refused("half of a surrogate pair is no character")
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


def _is_text(*parts: str) -> bool:
    try:
        "".join(parts).encode()
    except UnicodeEncodeError:
        return False
    return True


def _quoted(text: str, most: int = 40) -> str:
    cut = text if len(text) <= most else f"{text[: most - 1]}…"
    return json.dumps(cut, ensure_ascii=not _is_text(cut))
