"""The contents page cannot lie: README, chapters and rooms are held against each other, and style.md against all."""

import ast
import json
import re
from itertools import chain, pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LESSONS = sorted((ROOT / "tests" / "lessons").glob("test_*.py"))
TEST_FILES = sorted((ROOT / "tests").rglob("test_*.py"))
README = (ROOT / "README.md").read_text()

VAGUE = re.compile(r"_(should|must|works|work_correctly|correctly|basic|simple|test_that)(_|$)")
SPEC = re.compile(r"^Spec: https://www\.rabbitmq\.com/\S+$", re.M)
CODE = re.compile(r"^Code: (.+)$", re.M)
IDS = re.compile(r"^[A-Z0-9]+-\d\d$")

named = pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def tree(path):
    return ast.parse(path.read_text())


def specs_of(path):
    """Each test of a file as (class or None, function)."""
    for node in tree(path).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        owner = node if isinstance(node, ast.ClassDef) else None
        for function in inner:
            if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
                yield owner, function


def prose(path):
    """A chapter's title and its docstring."""
    text = ast.get_docstring(tree(path))
    return text.splitlines()[0].rstrip("."), text


class TestReadme:
    """The page that a stranger reads first."""

    def test_lists_the_chapters_in_lesson_order(self):
        """A chapter that the table forgets is never read; one that it invents is looked for in vain."""
        rows = re.findall(r"^\| \d* *\| \[(.+?)\]\((tests/lessons/\S+?)\) \|", README, re.M)

        assert rows == [(prose(path)[0], str(path.relative_to(ROOT))) for path in LESSONS]

    def test_names_only_commands_that_exist(self):
        """A command that was renamed lives on in the text, where nobody runs it."""
        from click import Context, Group

        from rmqspec.cli.main import cli

        commands = re.findall(r"`(?:pdm run|rmqspec) ([a-z- ]+?)(?: [-\[A-Z#].*)?`", README)
        assert len(commands) > 10
        for words in commands:
            node = cli
            for word in words.split():
                if word in {"fmt", "chk", "typechk", "lint", "fint"}:
                    assert f"\n{word} =" in (ROOT / "pyproject.toml").read_text()
                    break
                if not isinstance(node, Group):  # the rest are arguments
                    break
                node = node.get_command(Context(node), word)
                assert node is not None, words


class TestChapter:
    """A file of tests/lessons."""

    @lesson
    def test_opens_with_title_prose_spec_and_code(self, path):
        """The prose is printed under -v: without it the lesson is a list of names."""
        title, text = prose(path)

        body = [line for line in text.splitlines()[1:] if line and not line.startswith(("Spec:", "Code:"))]
        assert ":" in title
        assert 3 <= len(body) <= 8
        assert SPEC.search(text)

    @lesson
    def test_names_code_that_exists(self, path):
        """A chapter teaches the code that it names; a file that has moved teaches nothing."""
        files = CODE.search(prose(path)[1])[1].split(", ")

        assert [name for name in files if not (ROOT / name).is_file()] == []

    @lesson
    def test_keeps_the_number_of_its_place(self, path):
        """Order is part of the lesson, and the file's name is the order."""
        numbers = [re.match(r"test_(\d\d)_", file.name) for file in LESSONS]

        counted = [int(number[1]) for number in numbers if number]
        assert all(later > earlier for earlier, later in pairwise(counted))
        assert path.stem == "test_exercises" or re.match(r"test_\d\d_", path.name)

    @named
    def test_has_at_most_250_lines(self, path):
        """A second concept may live in a file that is longer."""
        assert len(path.read_text().splitlines()) <= 250


class TestSentence:
    """A test: its name is a fact, its docstring the reason."""

    @named
    def test_has_a_class_and_a_reason(self, path):
        """Class and name read as a sentence; why it matters stands below."""
        for owner, function in specs_of(path):
            assert owner is not None, function.name
            assert ast.get_docstring(owner) or path.parent.name != "lessons", owner.name
            assert ast.get_docstring(function), function.name

    @named
    def test_says_more_than_its_name(self, path):
        """A docstring that repeats the name tells a reader nothing."""
        for _, function in specs_of(path):
            words = set(function.name.removeprefix("test_").split("_"))
            reason = set(re.findall(r"[a-z]+", ast.get_docstring(function).lower()))
            assert len(reason - words) >= 4, function.name

    @named
    def test_avoids_words_that_claim_nothing(self, path):
        """Should, must, works and basic fit every test, so they tell of none."""
        assert [function.name for _, function in specs_of(path) if VAGUE.search(function.name)] == []

    def test_is_unique_in_the_suite(self):
        """A name is an address: it is asked for by `-k`, and a report is read by it."""
        names = [function.name for path in TEST_FILES for _, function in specs_of(path)]

        assert sorted({name for name in names if names.count(name) > 1}) == []

    @named
    def test_fits_into_100_columns(self, path):
        """A node id that wraps is read by nobody."""
        ids = [f"{path.relative_to(ROOT)}::{owner.name}::{function.name}" for owner, function in specs_of(path)]

        assert [node_id for node_id in ids if len(node_id) > 100] == []

    @named
    def test_takes_at_most_20_lines(self, path):
        """Given, when, then: what needs more proves more than one thing."""
        lengths = {function.name: function.end_lineno - function.lineno + 1 for _, function in specs_of(path)}

        assert {name: length for name, length in lengths.items() if length > 20} == {}

    @named
    def test_never_sleeps(self, path):
        """A pause is too short on a busy machine and too long on every other."""
        calls = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
        names = chain.from_iterable((getattr(call.func, "attr", ""), getattr(call.func, "id", "")) for call in calls)

        assert "sleep" not in set(names)

    @lesson
    def test_marks_behaviours_by_catalogue_ids(self, path):
        """An id survives a renaming; a comparison of two brokers is made by it."""
        markers = [
            decorator
            for _, function in specs_of(path)
            for decorator in function.decorator_list
            if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "behaviour"
        ]
        assert [a.value for marker in markers for a in marker.args if not IDS.match(a.value)] == []
        assert markers or path.stem == "test_exercises"


KEPT = sorted((ROOT / "tests" / "lies").glob("[0-9]*.json"))


class TestKeptLies:
    """What is kept of `rmqspec lies`."""

    @pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
    def test_speaks_of_what_is_there(self, path):
        """A pair of a spec that was renamed would be told to nobody, and nobody would miss it."""
        from rmqspec.tools.wire.lies import LIES

        kept = json.loads(path.read_text())["specs"]
        there = {f"{p.relative_to(ROOT)}::{o.name}::{f.name}" for p in LESSONS for o, f in specs_of(p)}

        assert {spec.partition("[")[0] for spec in kept} - there == set()
        assert {name for kinds in kept.values() for names in kinds.values() for name in names.split()} - {
            *LIES
        } == set()

    def test_has_a_spec_of_its_chapter_for_every_lie(self):
        """A lie that only a stranger notices shows that the chapter which makes the promise does not test it."""
        from rmqspec.tools.book.matrix import chapter_of
        from rmqspec.tools.wire.lies import LIES

        noticed = {
            (chapter_of(spec), name)
            for path in KEPT
            for spec, kinds in json.loads(path.read_text())["specs"].items()
            for name in kinds.get("assertion", "").split()
        }

        assert [lie.name for lie in LIES.values() if (lie.chapter, lie.name) not in noticed] == []
