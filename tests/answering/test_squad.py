"""SQuAD files are read as they are meant, and what is wrong in one is said with the question's id."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import SHARED

from compressor.answering.questions.squad import Answer, Question, Questions, read_squad
from compressor.core.errors import TextError

CONTEXT = "Die Ergänzungsschule is a 🏫 in Köln."


def entry(name: str = "q1", **changes: Any) -> dict[str, Any]:
    return {"id": name, "question": "What is it?", "answers": [{"text": "a 🏫", "answer_start": 24}]} | changes


def written(path: Path, *entries: Any, version: Any = "1.1", context: Any = CONTEXT) -> Path:
    stated = {"version": version, "data": [{"title": "t", "paragraphs": [{"context": context, "qas": entries}]}]}
    path.write_text(json.dumps(stated), "utf-8")
    return path


def fault(path: Path) -> str:
    with pytest.raises(TextError) as caught:
        read_squad(path)
    return str(caught.value).removeprefix(f"{path}: ")


def test_questions_in_their_order(tmp_path: Path) -> None:
    made = read_squad(written(tmp_path / "q.json", entry(), entry("q2", question=" Where? ")))
    assert [one.id for one in made] == ["q1", "q2"]
    assert made[0].answers == (Answer("a 🏫", 24),)
    assert made.version == "1.1"
    assert made.contexts == [CONTEXT]
    assert len(made[:1]) == 1
    assert made[:1].questions == (made[0],)


def test_equal_answers_of_several_people_count_once(tmp_path: Path) -> None:
    answers = [{"text": "Köln", "answer_start": 31}, {"text": "in Köln", "answer_start": 28}] * 2
    (one,) = read_squad(written(tmp_path / "q.json", entry(answers=answers)))
    assert one.answers == (Answer("Köln", 31), Answer("in Köln", 28))


@pytest.mark.parametrize("version", ["v2.0", "2.0"])
def test_questions_without_an_answer(tmp_path: Path, version: str) -> None:
    path = written(tmp_path / "q.json", entry(answers=[], is_impossible=True), entry("q2"), version=version)
    made = read_squad(path)
    assert [len(one.answers) for one in made] == [0, 1]
    assert made.version == "2.0"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"answers": [{"text": "a 🏫", "answer_start": 25}]},
            'answer "a 🏫" does not stand at 25, where " 🏫 " stands',
        ),
        ({"answers": [{"text": "Köln", "answer_start": 99}]}, 'answer "Köln" does not stand at 99, where "" stands'),
        (
            {"answers": [{"text": "Köln", "answer_start": -5}]},
            'answer "Köln" does not stand at -5, where "Die " stands',
        ),
        ({"answers": [{"text": "", "answer_start": 3}]}, "an answer is no text with an answer_start"),
        ({"answers": [{"text": "Die"}]}, "an answer is no text with an answer_start"),
        ({"answers": [{"text": "Die", "answer_start": True}]}, "an answer is no text with an answer_start"),
        ({"answers": ["Die"]}, "an answer is no text with an answer_start"),
        ({"answers": "Die"}, "its answers are no list"),
        ({"answers": []}, "it has no answer, which version 1.1 must have; 2.0 has such questions"),
        (
            {"answers": [], "is_impossible": True},
            "it has no answer, which version 1.1 must have; 2.0 has such questions",
        ),
        ({"is_impossible": "false"}, 'is_impossible = "false": must be true or false'),
        ({"is_impossible": True}, "it is_impossible and has an answer"),
        ({"question": " \n"}, "it is empty"),
        ({"question": None}, "it is empty"),
    ],
)
def test_a_wrong_question_is_named(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    assert fault(written(tmp_path / "q.json", entry("q0"), entry(**changes))) == f'question "q1": {reason}'


def test_an_id_that_comes_twice(tmp_path: Path) -> None:
    assert fault(written(tmp_path / "q.json", entry(), entry())) == 'question "q1": its id comes twice'


@pytest.mark.parametrize("context", ["", "  \n", None, 7])
def test_an_empty_context(tmp_path: Path, context: Any) -> None:
    assert fault(written(tmp_path / "q.json", entry(), context=context)) == 'question "q1": its context is empty'


def test_version_2_says_what_is_impossible(tmp_path: Path) -> None:
    path = written(tmp_path / "q.json", entry(answers=[]), version="v2.0")
    assert fault(path) == 'question "q1": it has no answer, and is not is_impossible'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not readable as JSON: "),
        ("[" * 100_000, "not readable as JSON: "),
        ("[]", 'version = "": no SQuAD file; versions 1.1 and 2.0 are read'),
        ('{"version": "3", "data": []}', 'version = "3": no SQuAD file; versions 1.1 and 2.0 are read'),
        ('{"version": "1.1"}', "the file has no list data, as SQuAD's format has it"),
        ('{"data": []}', "no questions"),
        ('{"data": [1]}', "data 1 has no list paragraphs, as SQuAD's format has it"),
        ('{"data": [{"paragraphs": [{"context": "a"}]}]}', "a paragraph of data 1 has no list qas, as SQuAD's format"),
        ('{"data": [{"paragraphs": [{"context": "a", "qas": [1]}]}]}', "a question has no id"),
    ],
)
def test_a_file_of_another_build(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "q.json"
    path.write_text(text, "utf-8")
    assert fault(path).startswith(reason)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert fault(tmp_path / "none.json") == "no such file of questions"
    assert fault(tmp_path).startswith("cannot be read")
    (tmp_path / "q.json").write_bytes(b'{"version": "1.1", "data": "\xff"}')
    assert fault(tmp_path / "q.json").startswith("not readable as JSON")


def test_the_key_follows_the_content(tmp_path: Path) -> None:
    one = read_squad(written(tmp_path / "q.json", entry()))
    same = read_squad(written(tmp_path / "r.json", entry()))
    others = [entry(question="Who?"), entry("q2"), entry(answers=[{"text": "Köln", "answer_start": 31}])]
    keys = {read_squad(written(tmp_path / "q.json", other)).key for other in others}
    assert one.key == same.key
    assert len({one.key, *keys}) == 4


def test_written_and_read_again_they_are_the_same(tmp_path: Path) -> None:
    paths = [
        written(tmp_path / "1.json", entry(), entry("q2", question="Where?")),
        written(tmp_path / "2.json", entry(answers=[], is_impossible=True), entry("q2"), version="v2.0"),
    ]
    for path in paths:
        made = read_squad(path)
        path.write_text(json.dumps(made.as_squad()), "utf-8")
        assert read_squad(path).key == made.key


def test_a_split_parts_contexts_and_stays(tmp_path: Path) -> None:
    many = [read_squad(written(tmp_path / "q.json", entry(f"{i}"), context=f"{CONTEXT} {i // 3}")) for i in range(300)]
    questions = Questions([made[0] for made in many])
    train, judged = questions.split(0.2, 0, "test")
    assert len(train) + len(judged) == 300
    assert 0.1 < len(judged) / 300 < 0.3
    assert not set(train.contexts) & set(judged.contexts)
    again = Questions(questions.questions[:150]).split(0.2, 0, "test")[1]
    assert [one.id for one in again] == [one.id for one in judged if int(one.id) < 150]
    assert [one.id for one in questions.split(0.2, 1, "test")[1]] != [one.id for one in judged]


def many(contexts: int, unanswered: int = 0) -> Questions:
    """Return two questions a context, of which every so manieth context's second has no answer."""
    return Questions(
        [
            Question(
                f"{i}-{j}", "What?", f"{i} is a", () if unanswered and j and i % unanswered == 0 else (Answer("a", 5),)
            )
            for i in range(contexts)
            for j in range(2)
        ],
        "2.0" if unanswered else "1.1",
    )


def test_a_part_is_parted_again_by_the_same_share() -> None:
    train, test = many(2000).split(0.1, 0, "test")
    rest, tune = train.split(0.1, 0, "threshold")
    assert 0.07 < len(tune) / len(train) < 0.13
    for other in ("settings", "threshold"):
        assert 0.07 < len(rest.split(0.1, 0, "settings")[1]) / len(rest) < 0.13, other
    assert not set(tune.contexts) & set(test.contexts)


@pytest.mark.parametrize("contexts", [3, 7, 12])
def test_few_contexts_are_parted_too(contexts: int) -> None:
    for seed in range(20):
        train, held = many(contexts, unanswered=2).split(0.1, seed, "test")
        assert train
        assert held.silent
    with pytest.raises(TextError, match=r"^heldout = 0\.1: 1 context is too few to hold some out for the test$"):
        many(1).split(0.1, 0, "test")


def test_a_copy_stays_with_its_original() -> None:
    plain = many(200)
    copies = [Question(f"{one.id}~{n}", one.text, f"{one.context} {n}") for one in plain for n in (1, 2)]
    again = [Question(f"{one.id}~1", one.text, f"{one.context}!") for one in copies]
    train, held = Questions([*plain, *copies, *again]).split(0.2, 0, "test")
    assert held
    assert not {one.id.split("~")[0] for one in train} & {one.id.split("~")[0] for one in held}


def test_contexts_alike_but_for_case_and_punctuation_stay_together() -> None:
    plain = many(200)
    alike = [Question(f"x{one.id}", one.text, f"{one.context.upper()} !") for one in plain]
    train, held = Questions([*plain, *alike]).split(0.2, 0, "test")
    assert held
    assert not {one.id.removeprefix("x") for one in train} & {one.id.removeprefix("x") for one in held}
    before = plain.split(0.2, 0, "test")[1]
    assert [one.id for one in held if one.id[0] != "x"] == [one.id for one in before], "no part is another for them"


def test_without_a_version_the_questions_decide(tmp_path: Path) -> None:
    def made(*entries: Any) -> Questions:
        path = written(tmp_path / "q.json", *entries)
        content = json.loads(path.read_text("utf-8"))
        del content["version"]
        path.write_text(json.dumps(content), "utf-8")
        return read_squad(path)

    assert made(entry(), entry("q2", is_impossible=False)).version == "1.1"
    for none in ({"answers": [], "is_impossible": True}, {"answers": []}):
        both = made(entry(), entry("q2", **none))
        assert (both.version, both.silent) == ("2.0", True)
    with pytest.raises(TextError, match="has no answer, and is not is_impossible$"):
        made(entry(answers=[], is_impossible=False))


@pytest.mark.parametrize(
    ("stated", "read"),
    [(2, "2.0"), ("v2", "2.0"), ("2", "2.0"), (2.0, "2.0"), ("V2.0", "2.0"), (1, "1.1"), (1.1, "1.1"), ("v1.1", "1.1")],
)
def test_versions_as_people_write_them(tmp_path: Path, stated: Any, read: str) -> None:
    assert read_squad(written(tmp_path / "q.json", entry(), version=stated)).version == read


@pytest.mark.parametrize("stated", [True, "two", "20", "3.0", "", [2]])
def test_other_versions_are_refused(tmp_path: Path, stated: Any) -> None:
    assert fault(written(tmp_path / "q.json", entry(), version=stated)).startswith(f'version = "{stated}": no SQuAD')


def test_ids_that_are_numbers_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = written(tmp_path / "q.json", entry(7), entry("8"))  # type: ignore[arg-type]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [one.id for one in read_squad(path)] == ["7", "8"]
    assert fault(written(path, entry(7), entry("7"))) == 'question "7": its id comes twice'  # type: ignore[arg-type]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_another_encoding_is_called_by_its_name(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path / "q.json", entry())
    path.write_bytes(path.read_text("utf-8").encode(encoding))
    assert fault(path) == f"{'UTF-32' if '32' in encoding else 'UTF-16'}, not UTF-8; save it as that"


def test_all_wrong_questions_are_counted(tmp_path: Path) -> None:
    wrong = [entry(f"q{i}", answers=[{"text": "Die", "answer_start": 1}]) for i in range(3)]
    assert fault(written(tmp_path / "q.json", entry("fine"), *wrong)) == (
        'question "q0": answer "Die" does not stand at 1, where "ie " stands; 3 of 4 questions are wrong'
    )


@pytest.mark.skipif(not (SHARED / "qa").is_dir(), reason="no shared data beside the project")
def test_real_files_are_read_whole() -> None:
    assert [len(read_squad(SHARED / "qa" / name)) for name in ("train.json", "test.json")] == [4595, 1761]
