"""The contents page cannot lie: README, chapters and rooms are held against each other.

Each message says what to do. How names and sentences read is in tests/README.md.
"""

import ast
import functools
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from rmqspec.tools.plugin.headings import LISTS
from rmqspec.tools.plugin.keywords import in_words

ROOT = Path(__file__).parents[2]
LESSONS = sorted((ROOT / "tests" / "lessons").glob("test_*.py"))
SHELF = sorted((ROOT / "tests" / "reference").glob("test_*.py"))
SUITE = sorted([ROOT / "tests" / "conftest.py", *ROOT.glob("tests/lessons/*.py"), *ROOT.glob("tests/reference/*.py")])
TEST_FILES = sorted((ROOT / "tests").rglob("test_*.py"))
README = (ROOT / "README.md").read_text()

VAGUE = re.compile(r"_(should|must|works|work_correctly|correctly|basic|simple|test_that)(_|$)")
OF_THE_FIELD = re.compile(r"_?basic_(qos|get|ack|nack|reject|recover|cancel|consume|publish|return|deliver)(?=_|$)")
PAGE = r"https://www\.rabbitmq\.com/[^\s,]+"
SPEC = re.compile(rf"^Spec: {PAGE}(, {PAGE})*$", re.M)
CODE = re.compile(r"^Code: (.+)$", re.M)
REFERENCE = re.compile(r"^Reference: [A-Z0-9]+-\d\d", re.M)
IDS = re.compile(r"^[A-Z0-9]+-\d\d$")

named = pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
chapter = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
suite_file = pytest.mark.parametrize("path", SUITE, ids=lambda path: str(path.relative_to(ROOT / "tests")))
spec_file = pytest.mark.parametrize("path", LESSONS + SHELF, ids=lambda path: f"{path.parent.name}-{path.stem}")


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
    """The docstring of a file, and its first line without the dot."""
    text = ast.get_docstring(tree(path)) or ""
    return text.partition("\n")[0].rstrip("."), text


def decorations(function, name):
    """The calls of a decorator, such as `@lie(…)`, on a function."""
    calls = [node for node in function.decorator_list if isinstance(node, ast.Call)]
    return [call for call in calls if getattr(call.func, "id", getattr(call.func, "attr", "")) == name]


class TestReadme:
    """The page that a stranger reads first."""

    def test_lists_the_chapters_in_lesson_order(self):
        """A chapter that the table forgets is never read; one that it invents is looked for in vain."""
        rows = re.findall(r"^\| \d* *\| \[(.+?)\]\((tests/lessons/\S+?)\) \|", README, re.M)

        assert rows == [(prose(path)[0], str(path.relative_to(ROOT))) for path in LESSONS], (
            "write the chapters' titles into the table of README.md, in order"
        )

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
                assert node is not None, f"README.md names `{words}`, which is no command: correct it there"

    def test_refers_only_to_files_that_exist(self):
        """A link that leads nowhere is the first thing that a newcomer tries."""
        links = re.findall(r"\]\((?!https?:|#)([^)#]+)", README)

        assert [link for link in links if not (ROOT / link).exists()] == []


class TestWorkflow:
    """The workflow in tests/README.md, for whoever has all releases at hand."""

    def test_names_each_known_release_and_files_that_exist(self):
        """It is copied a year later: a release that it leaves out is never compared."""
        from rmqspec.tools.upgrade.releases import KNOWN

        (workflow,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "tests" / "README.md").read_text(), re.S)

        (matrix,) = re.findall(r"rabbitmq: \[(.+)\]", workflow)
        (loop,) = re.findall(r"for new in (.+); do", workflow)
        assert matrix == ", ".join(f'"{release}"' for release in KNOWN), "name all releases in the matrix"
        assert loop == " ".join(KNOWN), "compare all releases, in order"
        assert [path for path in re.findall(r"tests/\w+", workflow) if not (ROOT / path).is_dir()] == []


class TestChapter:
    """A file of tests/lessons."""

    @chapter
    def test_opens_with_title_prose_spec_code_and_reference(self, path):
        """The prose is printed under -v: without it the lesson is a list of names."""
        title, text = prose(path)
        assert text, f"{path.name} has no docstring: begin it with a title, some lines of prose, Spec: and Code:"
        body = re.split(r"^(?:Spec|Code|Reference):", text, maxsplit=1, flags=re.M)[0].splitlines()[1:]

        assert ":" in title, "the title reads `Subject: what is said of it`"
        assert len([line for line in body if line]) >= 3, "tell in some lines of prose what the chapter is about"
        assert SPEC.search(text), "add a line `Spec: https://www.rabbitmq.com/docs/…`"
        assert CODE.search(text), "add a line `Code:` with the files of rmqspec/ that the chapter proves"
        referring = REFERENCE.search(text) or path.stem == "test_exercises"  # exercises have no ids
        assert referring, "add a line `Reference:` with the ids of the catalogue"

    @chapter
    def test_names_code_that_exists(self, path):
        """A chapter teaches the code that it names; a file that has moved teaches nothing."""
        found = CODE.search(prose(path)[1])
        files = found[1].split(", ") if found else []

        assert [name for name in files if not (ROOT / name).is_file()] == [], "correct the line `Code:`"

    @chapter
    def test_keeps_the_number_of_its_place(self, path):
        """Order is part of the lesson, and the file's name is the order."""
        numbers = [re.match(r"test_(\d\d)_", file.name) for file in LESSONS]

        counted = [int(number[1]) for number in numbers if number]
        assert all(later == earlier + 1 for earlier, later in pairwise(counted)), "number the files without a gap"
        assert path.stem == "test_exercises" or re.match(r"test_\d\d_", path.name)


class TestShelf:
    """A file of tests/reference."""

    @pytest.mark.parametrize("path", SHELF, ids=lambda path: path.stem)
    def test_opens_with_title_spec_and_reference(self, path):
        """It is found by its title and its ids."""
        title, text = prose(path)

        assert ":" in title, "the title reads `Subject: what is said of it`"
        assert SPEC.search(text), "add a line `Spec: https://www.rabbitmq.com/docs/…`"
        assert REFERENCE.search(text), "add a line `Reference:` with the ids of the catalogue"

    @pytest.mark.parametrize("path", SHELF, ids=lambda path: path.stem)
    def test_speaks_of_the_broker_alone(self, path):
        """A spec that goes through our own client could be red for a fault of the client."""
        ours = [name for name in imported(path) if name.startswith(("rmqspec.client", "rmqspec.orders"))]
        assert ours == [], "use pika, or move the spec to the chapter of that client"


class TestLists:
    """`Spec:`, `Code:` and `Reference:` of a file, as `pytest -v` and the book read them."""

    @spec_file
    def test_are_read_to_their_end(self, path):
        """A second line of ids that counts as prose is printed as a paragraph of its own."""
        rest = LISTS.sub("", prose(path)[1])

        assert re.findall(r"^[A-Z0-9]+-\d\d.*|^https://.*|^rmqspec/.*", rest, re.M) == [], (
            "put no empty line into a list"
        )


WAITS = {"exception", "flush", "join", "result", "wait"}


class TestWait:
    """What a spec waits for, in course and shelf; after a failure of its file it waits for two seconds."""

    @suite_file
    def test_is_limited_by_wait_limit_and_not_by_patience(self, path):
        """`patience` is of the run: where a reply is missing, fourteen specs would wait for ten seconds each."""
        functions = [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef)]
        of_one_spec = [node for node in functions if is_fixture_of_a_spec(node) or node.name.startswith("test_")]

        impatient = [node.name for node in of_one_spec if "patience" in [one.arg for one in node.args.args]]
        assert impatient == [], "take wait_limit instead; only what is set up once for a module has patience"

    @suite_file
    def test_has_no_number_of_seconds_of_its_own(self, path):
        """`result(10)` waits for ten seconds in a red chapter too, and then says `TimeoutError`, and nothing more."""
        calls = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
        waits = [call for call in calls if getattr(call.func, "attr", "") in WAITS and call.args]
        numbers = [call.args[0].value for call in waits if isinstance(call.args[0], ast.Constant)]

        assert [seconds for seconds in numbers if seconds >= 1] == [], "use settled(future), or wait_limit"


def is_fixture_of_a_spec(function):
    """Whether it is a fixture that is set up for each spec anew."""
    return any(
        ast.unparse(node).startswith("pytest.fixture") and "scope=" not in ast.unparse(node)
        for node in function.decorator_list
    )


class TestPikaInternals:
    """tests/pika_internals.py: the private attributes of pika that specs need."""

    @suite_file
    def test_are_named_in_no_other_file_of_course_and_shelf(self, path):
        """Where the next pika changes one of them, one file has to be corrected, and it can be found."""
        assert private_attributes_of_others(path) == [], "give it a name in tests/pika_internals.py"


class TestPlugin:
    """rmqspec/tools/plugin: what pytest loads."""

    @pytest.mark.parametrize("path", sorted(ROOT.glob("rmqspec/tools/plugin/*.py")), ids=lambda path: path.stem)
    def test_uses_no_private_attribute_of_pytest(self, path):
        """Hooks and classes are promised to plugins; what begins with an underscore changes with any release."""
        assert private_attributes_of_others(path) == [], "find a public way, or do without"


def private_attributes_of_others(path):
    """The attributes with an underscore that a file takes from anything but `self`."""
    attributes = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)]
    private = [node for node in attributes if re.match(r"_(?!_)", node.attr)]
    return [node.attr for node in private if getattr(node.value, "id", "") != "self" and node.attr not in OF_A_TUPLE]


OF_A_TUPLE = {"_asdict", "_fields", "_replace"}  # public, and with an underscore lest they clash with a field


class TestSentence:
    """A test: its name is a fact, its docstring the reason."""

    @named
    def test_has_a_class_and_a_reason(self, path):
        """Class and name read as a sentence; why it matters stands below."""
        for owner, function in specs_of(path):
            assert owner is not None, f"put {function.name} into a class that names its subject"
            assert ast.get_docstring(owner) or path not in LESSONS + SHELF, f"say in {owner.name} which side promises"
            assert ast.get_docstring(function), f"say in {function.name} why it matters"

    @named
    def test_says_more_than_its_name(self, path):
        """A docstring that repeats the name tells a reader nothing."""
        for _, function in specs_of(path):
            words = set(function.name.removeprefix("test_").split("_"))
            reason = set(re.findall(r"[a-z]+", (ast.get_docstring(function) or "").lower()))
            assert len(reason - words) >= 4, f"the docstring of {function.name} repeats its name: say why it matters"

    @named
    def test_avoids_words_that_claim_nothing(self, path):
        """Should, must, works and simple fit every test, so they tell of none."""
        names = {function.name: OF_THE_FIELD.sub("", function.name) for _, function in specs_of(path)}

        assert [name for name, rest in names.items() if VAGUE.search(rest)] == [], "say what happens instead"

    @named
    def test_is_unique_in_its_class(self, path):
        """Python keeps the last of two functions of one name, and the first is never run."""
        names = Counter((owner and owner.name, function.name) for owner, function in specs_of(path))

        assert [name for name, count in names.items() if count > 1] == []

    @named
    def test_never_sleeps(self, path):
        """A pause is too short on a busy machine and too long on every other."""
        calls = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
        names = {getattr(call.func, "attr", getattr(call.func, "id", "")) for call in calls}

        assert "sleep" not in names, "wait for an event, or use `eventually`"

    @spec_file
    def test_marks_behaviours_by_catalogue_ids(self, path):
        """An id survives a renaming; a comparison of two brokers is made by it."""
        markers = [call for _, function in specs_of(path) for call in decorations(function, "behaviour")]

        assert [a.value for marker in markers for a in marker.args if not IDS.match(a.value)] == []
        assert markers or path.stem == "test_exercises"


# What a learner searches with -k, and the chapter that teaches it.
TERMS = {
    "direct_exchange": "routing_key",
    "fanout_exchange": "fanout",
    "topic_exchange": "star hash",
    "work_queues": "round_robin redelivered",
    "fair_dispatch": "qos prefetch unacked per_consumer",
    "ack_and_nack": "unacked requeue delivery_tag multiple basic_recover basic_nack basic_reject basic_get",
    "dead_letter_exchange": "dead_letter x_death rejected expired overflow delivery_limit",
    "persistence": "durable persistent transient restart",
    "rpc": "reply_to correlation_id timeout",
    "declaring": "passive exclusive durable 406",
    "deleting": "auto_delete if_unused if_empty",
    "headers_exchange": "x_match",
    "alternate_exchange": "alternate",
    "exchange_to_exchange": "exchange",
    "publisher_confirms": "confirm nack",
    "unroutable_messages": "mandatory basic_return unroutable",
    "connections": "heartbeat reconnect",
    "threads_and_channels": "channel delivery_tag thread",
    "consumer_cancellation": "cancel_notification basic_cancel consumer_timeout acknowledgement_timeout",
    "alarms": "connection_blocked memory_alarm watermark",
    "message_ttl": "ttl expire expiration x_expires",
    "length_limits": "max_length drop_head reject_publish overflow",
    "priority_queues": "priority x_max_priority",
    "quorum_queues": "quorum delivery_limit delivery_count poison",
    "streams": "stream offset",
    "single_active_consumer": "single_active consumer_priority",
    "delayed_retry": "retry poison cycle",
    "permissions": "configure write read user_id topic_permission",
    "logins_and_vhosts": "vhost login",
    "tls": "certificate",
    "transactions": "tx_select commit rollback",
}


class TestTerms:
    """The names are the concept catalogue: a term of the field is found by `pytest -k`."""

    @pytest.mark.parametrize("slug", TERMS)
    def test_are_found_in_the_chapter_that_teaches_them(self, slug):
        """A catalogue without the field's own words is searched in vain; -k looks at file, class and name."""
        (path,) = [path for path in LESSONS if path.stem.partition("_")[2].partition("_")[2] == slug]
        names = [f"{path.stem} {in_words(owner.name)} {function.name}".lower() for owner, function in specs_of(path)]

        missing = [term for term in TERMS[slug].split() if not any(term in name for name in names)]
        assert missing == [], f"{path.name}: name a class or a spec by these terms"


@functools.cache
def ids_with_a_spec():
    """The ids that stand in a marker, or in a table of cases, of chapters and shelf."""
    nodes = [node for path in LESSONS + SHELF for node in ast.walk(tree(path)) if isinstance(node, ast.Constant)]
    return {node.value for node in nodes if isinstance(node.value, str) and IDS.match(node.value)}


def ids_listed(path):
    """The ids of the line `Reference:`, where `DLX-01…03` is three of them."""
    listed = re.search(r"^Reference: (.+?)(?:\n\n|\Z)", prose(path)[1], re.M | re.S)
    for concept, first, last in re.findall(r"([A-Z0-9]+)-(\d\d)(?:…(\d\d))?", listed[1] if listed else ""):
        yield from (f"{concept}-{number:02}" for number in range(int(first), int(last or first) + 1))


class TestReference:
    """`Reference:` of a chapter, or of a file of the shelf."""

    @spec_file
    def test_lists_only_ids_that_have_a_spec(self, path):
        """Whoever looks such an id up would find a promise, and nothing that shows it."""
        without = [name for name in ids_listed(path) if name not in ids_with_a_spec()]

        assert without == [], "leave them out until there is a spec"


def lies_named():
    """Each name in an `@lie(…)` of chapters and shelf, with the spec beside it."""
    for path in LESSONS + SHELF:
        for owner, function in specs_of(path):
            for call in decorations(function, "lie"):
                yield from ((argument.value, f"{path.name}::{owner.name}::{function.name}") for argument in call.args)


class TestProof:
    """What shows that a spec can fail: `@lie(…)`, proved by `pytest --lies`."""

    @spec_file
    def test_stands_beside_each_spec(self, path):
        """A spec that no broken promise turns red asserts nothing."""
        without = [function.name for _, function in specs_of(path) if not decorations(function, "lie")]

        assert without == [], f"add @lie(…): `rmqspec lies {path.relative_to(ROOT)}` suggests some"

    @spec_file
    def test_has_a_reason_where_no_lie_can_be_told(self, path):
        """An exception without a reason becomes a habit."""
        for _, function in specs_of(path):
            for call in decorations(function, "lie"):
                reasons = [keyword.value.value for keyword in call.keywords if keyword.arg == "because"]
                if any(argument.value is None for argument in call.args):
                    assert reasons, f"{function.name}: write @lie(None, because=…)"
                    assert reasons[0], f"{function.name}: write @lie(None, because=…)"

    def test_names_lies_that_exist(self):
        """A misspelt lie is told to nobody."""
        from rmqspec.tools.wire.lies import LIES

        unknown = [(name, spec) for name, spec in lies_named() if name is not None and name not in LIES]
        assert unknown == [], "`rmqspec lies --list` shows those that there are"

    def test_uses_every_lie(self):
        """A lie that no spec names is told to nobody: it is code without a purpose."""
        from rmqspec.tools.wire.lies import LIES

        assert sorted(set(LIES) - {name for name, _ in lies_named()}) == [], "delete them from rmqspec/tools/wire/lies"


ORDER = ("client", "orders", "tools", "cli")  # each imports those before it
ALLOWED = {"client": {"pika", "tenacity"}, "orders": {"pika", "tenacity", "pydantic"}}


def imported(path):
    """The modules that a file imports, also inside of functions."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


class TestRooms:
    """The folders of rmqspec/."""

    def test_are_four(self):
        """What lies in the hall belongs to nobody."""
        hall = {path.name for path in (ROOT / "rmqspec").iterdir() if path.name != "__pycache__"}

        assert hall == {*ORDER, "__init__.py", "__main__.py", "py.typed"}, "put it into one of the rooms"

    @pytest.mark.parametrize("room", ORDER)
    def test_import_one_way(self, room):
        """Client, orders, tools, cli: what is copied from the first two brings nothing of the others along."""
        later = ORDER[ORDER.index(room) + 1 :]
        found = [
            (str(path.relative_to(ROOT)), name)
            for path in (ROOT / "rmqspec" / room).rglob("*.py")
            for name in imported(path)
            if (name + ".").startswith(tuple(f"rmqspec.{one}." for one in later))
        ]

        assert found == [], f"{room} knows nothing of {', '.join(later)}"

    @pytest.mark.parametrize("room", ["client", "orders"])
    def test_for_copying_need_little(self, room):
        """Production code: whoever copies it installs pika, tenacity and pydantic, and nothing of the workshop."""
        files = (ROOT / "rmqspec" / room).rglob("*.py")
        roots = {name.partition(".")[0] for path in files for name in imported(path)}

        assert roots - sys.stdlib_module_names - {"rmqspec", ""} <= ALLOWED[room]

    @pytest.mark.parametrize("room", ["client", "orders"])
    def test_for_copying_import_where_nothing_else_is_installed(self, room):
        """A module that is imported by another on the way would be missed on the machine of whoever copies."""
        command = [sys.executable, "-c", ALONE.format(room=room, allowed=sorted(ALLOWED[room] | NEEDED))]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

        assert (result.returncode, result.stderr) == (0, "")


NEEDED = {"annotated_types", "pydantic_core", "typing_extensions", "typing_inspection"}  # what pydantic needs
ALONE = """
import importlib
import sys
from importlib.machinery import PathFinder

class Guard(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        spec = super().find_spec(name, path, target)
        installed = spec and "site-packages" in str(spec.origin or list(spec.submodule_search_locations))
        if installed and name.partition(".")[0] not in {allowed}:
            raise ModuleNotFoundError(name + " is not there", name=name)
        return None

sys.meta_path.insert(0, Guard)
importlib.import_module("rmqspec.{room}")
"""
