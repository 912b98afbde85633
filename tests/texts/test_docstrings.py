"""Docstrings become English prose; other people's code is never run, and never stops the work."""

import time
import warnings
from pathlib import Path

import pytest

from compressor.texts import docstrings


def write(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


MODULE = '''"""Read the settings of a program from a file.

A setting is a line, e.g. a name, and its value.  Lines that
are empty are skipped. See :class:`~pkg.Reader` for the details!

Parameters
----------
path : str
    The file that holds the settings.
size (int): The size of the buffer
    in which lines are kept.

- Bullets are sentences of their own.
- x = 1 is code and it is not one.

.. note:: Directives are left out of the texts.

>>> print("This is the output of an example.")
This is the output of an example.

```python
This stands in a fence and it is code.
```

| a table | of two |
Visit https://example.org for the whole of it.
no capital stands at the beginning of this.
Der Hund bellt laut und schläft dann.
"""
raise SystemExit("imported")


def f(x):
    r"""Return the ``size`` of *x* in bytes."""
'''


def test_docstrings_are_cut_to_prose_without_importing(tmp_path: Path) -> None:
    write(tmp_path / "pkg/__init__.py", [MODULE])
    assert docstrings.sentences(roots=[tmp_path]) == [
        "Read the settings of a program from a file.",
        "A setting is a line, e.g. a name, and its value.",
        "Lines that are empty are skipped.",
        "See Reader for the details!",
        "The file that holds the settings.",
        "The size of the buffer in which lines are kept.",
        "Bullets are sentences of their own.",
        "Return the size of x in bytes.",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Too short it.",
        "The list goes on " + "and on " * 30 + "for ever.",
        "The bracket is (never closed in this one.",
        'The quote is "never closed in this one.',
        "The call of read_lines is in here.",
        "The call of readLines is in here.",
        "The name of os.path is in here.",
        "Der Hund bellt laut vor seinem Haus.",
        "The TABLE ROW HAS 1 2 3 4 5.",
        "If the value is none of these.",
        "The sentence has no end",
        "the sentence has no beginning.",
        "Il a été vu à la gare de Lyon.",
    ],
)
def test_what_is_no_english_sentence_is_left_out(tmp_path: Path, text: str) -> None:
    write(tmp_path / "pkg/one.py", [f"'''{text}'''", "def f():", "    '''This one is a sentence.'''"])
    assert docstrings.sentences(roots=[tmp_path]) == ["This one is a sentence."]


def test_packages_take_turns_and_tests_are_left_out(tmp_path: Path) -> None:
    for name in ("aa/one.py", "aa/two.py", "bb/one.py", "aa/tests/one.py", "pip/_vendor/one.py"):
        write(tmp_path / name, [f'"""The text of the file is {name[:2]} {name.split("/")[-1][:3]}."""'])
    found = docstrings.sentences(roots=[tmp_path / "missing", tmp_path])
    assert [text[-7:-1] for text in found] == ["aa one", "bb one", "aa two"]
    assert docstrings.sentences(2, roots=[tmp_path]) == found[:2]


def test_a_large_package_is_read_at_even_distances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docstrings, "FILES_PER_PACKAGE", 3)
    for letter in "abcdef":
        write(tmp_path / f"pkg/{letter}.py", [f'"""This is the file of the letter {letter}."""'])
    assert [text[-2] for text in docstrings.sentences(roots=[tmp_path])] == ["a", "c", "e"]


@pytest.mark.parametrize(
    "content",
    [
        b"def broken(:",
        b"\xff\xfe\0\0",
        b"x = '\0'",
        b"x = " + b"-" * 100000 + b"1",
        b'"""Too long to be read, as it is."""\n' * 20000,
    ],
)
def test_files_that_do_not_parse_are_passed_over(tmp_path: Path, content: bytes) -> None:
    write(tmp_path / "pkg/a.py", ['x = "\\d"\nx is 1\ndef f():\n    """This is the only one of them."""'])
    (tmp_path / "pkg/b.py").write_bytes(content)
    (tmp_path / "pkg/c.py").symlink_to(tmp_path / "nowhere.py")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert docstrings.sentences(roots=[tmp_path]) == ["This is the only one of them."]


@pytest.mark.slow
def test_this_environment_gives_thirty_thousand_sentences() -> None:
    start = time.process_time()
    assert len(docstrings.sentences()) >= 30_000
    assert time.process_time() - start < 30
