"""`rmqspec catalogue`, and the catalogue itself: each behaviour has a spec or is open.

Code: rmqspec/tools/catalogue/, rmqspec/cli/catalogue.py
"""

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner

from rmqspec.cli.main import cli
from rmqspec.tools.catalogue import Catalogue, collect, concept_of, concepts, unheld
from rmqspec.tools.catalogue.collected import Case, Spec
from rmqspec.tools.upgrade import differences

ROOT = Path(__file__).parents[2]
OPEN = "rmqspec/tools/catalogue/open.toml"
ID = re.compile(r"[A-Z][A-Z0-9]*-\d\d")

CHAPTER = '''
"""Chapter: of a small suite.

Spec: https://www.rabbitmq.com/docs/queues
"""
import pytest

class TestQueueTtl:
    """RabbitMQ: how long a queue lives."""

    @pytest.mark.behaviour("QAUTO-05")
    @pytest.mark.parametrize("kind", ["classic", pytest.param("quorum", marks=pytest.mark.rabbitmq(since="4.0"))])
    def test_ends_with_x_expires(self, channel, kind):
        """Else unused queues stay."""

    @pytest.mark.behaviour("QDECL-17", "QAUTO-05")
    @pytest.mark.rabbitmq(before="4.3")
    def test_is_renewed_before_4_3(self, channel):
        """A second reason."""
'''


def make_checkout(root, source=CHAPTER):
    """A checkout with a small suite."""
    for folder in ("lessons", "reference"):
        (root / "tests" / folder).mkdir(parents=True)
    (root / "conftest.py").write_text('pytest_plugins = ["rmqspec.tools.plugin"]\n')
    (root / "pytest.ini").write_text("[pytest]\nstrict = true\naddopts = --import-mode=importlib\n")
    (root / "tests" / "lessons" / "test_01_small.py").write_text(source)
    return root


@pytest.fixture(scope="module")
def small_suite(tmp_path_factory):
    """The specs of a small suite, which pytest has collected once."""
    return collect(make_checkout(tmp_path_factory.mktemp("checkout")))


@pytest.fixture
def ask(small_suite, monkeypatch):
    """Asks the catalogue of the small suite: `ask("QAUTO-05", "--json")`."""
    monkeypatch.setattr("rmqspec.cli.catalogue.collect", lambda root: small_suite)
    return lambda *arguments: CliRunner().invoke(cli, ["catalogue", "--suite", str(ROOT), *arguments])


@cache
def suite():
    """The specs of chapters and shelf."""
    return collect(ROOT)


def held():
    """The ids of all markers of chapters and shelf, each with the files that carry it."""
    ids = {}
    for spec in suite():
        for name in spec.behaviours:
            ids.setdefault(name, set()).add(spec.path)
    return ids


def written():
    """The ids that stand in markers in the source; those of a table are given to its cases."""
    for path in [*(ROOT / "tests" / "lessons").glob("*.py"), *(ROOT / "tests" / "reference").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "behaviour":
                yield from (argument.value for argument in node.args if isinstance(argument, ast.Constant))


class TestBehaviours:
    """The ids: of specs, of open.toml, of differences.toml."""

    def test_have_a_spec_or_are_open_and_never_both(self):
        """A list that is not cleaned sends somebody to write what is there."""
        both = sorted(held().keys() & unheld().keys())

        assert both == [], "; ".join(f"{name} has a spec now: delete its line from {OPEN}" for name in both)

    def test_of_differences_have_a_spec_or_are_open(self):
        """A row of an upgrade leads to the specs by these ids: one that is nowhere is a slip of the pen."""
        lost = {name: row.id for row in differences() for name in row.behaviours}
        lost = {name: row for name, row in lost.items() if name not in held() and name not in unheld()}

        assert lost == {}, f"correct the id in differences.toml, mark the spec that holds it, or add a line to {OPEN}"

    def test_have_an_id_of_a_concept_that_is_known(self):
        """`XDAETH-01` would be a concept of its own, which nobody looks for."""
        ids = {*held(), *unheld()}
        odd = sorted(name for name in ids if not ID.fullmatch(name))
        strange = sorted({concept_of(name) for name in ids} - concepts().keys())

        assert odd == [], "an id reads DLX-01: capitals, a hyphen, two digits"
        assert strange == [], f"correct the id, or say under [concepts] in {OPEN} what it stands for"

    def test_have_concepts_that_are_used(self):
        """A title without behaviours is what a merge has left."""
        used = {concept_of(name) for name in (*held(), *unheld())}

        assert sorted(concepts().keys() - used) == [], f"delete it from [concepts] in {OPEN}"

    def test_that_are_open_are_sentences_in_order(self):
        """They are read alone, and a line is found by its place."""
        odd = [name for name, words in unheld().items() if len(words) < 15 or not words.endswith(".")]

        assert odd == [], "an open behaviour is a sentence, and ends with a dot"
        assert list(unheld()) == sorted(unheld()), f"sort the lines of {OPEN}"
        assert list(concepts()) == sorted(concepts()), f"sort the concepts of {OPEN}"


class TestCollection:
    """`collect`: what pytest says of the suite."""

    def test_has_each_spec_of_the_suite_and_each_of_its_ids(self):
        """What the markers say in the source is what a reader is shown."""
        specs = suite()

        assert set(written()) <= held().keys()
        assert len({spec.node for spec in specs}) == len(specs) > 400
        assert {spec.path.split("/")[1] for spec in specs} == {"lessons", "reference"}

    def test_has_sentence_reason_ids_and_versions_by_case(self, small_suite):
        """Each is what somebody looks for."""
        first, second = small_suite

        assert first == Spec(
            node="tests/lessons/test_01_small.py::TestQueueTtl::test_ends_with_x_expires",
            title="1. Chapter: of a small suite",
            subject="Queue TTL",
            about="RabbitMQ: how long a queue lives.",
            sentence="Queue TTL ends with x-expires",
            why="Else unused queues stay.",
            cases=(Case("classic", ("QAUTO-05",), "", ""), Case("quorum", ("QAUTO-05",), "4.0", "")),
            terms=("queue_ttl",),
        )
        assert (second.behaviours, second.versions) == (("QDECL-17", "QAUTO-05"), "before 4.3")

    def test_asks_no_broker_and_no_options_of_a_run(self, tmp_path, monkeypatch):
        """Whoever looks something up has no broker, and may have `-n 4` or `-k` in the environment."""
        monkeypatch.setenv("RABBITMQ_URL", "amqp://nobody:here@127.0.0.1:1")
        monkeypatch.setenv("PYTEST_ADDOPTS", "-k nothing_of_this_name")

        assert len(collect(make_checkout(tmp_path))) == 2


class TestLookUp:
    """`rmqspec catalogue [ID|WORD]...`."""

    def test_shows_everything_about_an_id(self, ask):
        """Sentence, reason, versions, cases, node id, and the rows of `rmqspec upgrade`."""
        ended = ask("QDECL-17")

        assert ended.exit_code == 0, ended.output
        assert "QDECL: Queue declare: names, equivalence\n" in ended.output
        assert "QDECL-17  Queue TTL is renewed before 4.3\n" in ended.output
        assert "why       A second reason.\n" in ended.output
        assert "versions  before 4.3\n" in ended.output
        assert "spec      tests/lessons/test_01_small.py::TestQueueTtl::test_is_renewed_before_4_3\n" in ended.output
        assert "\nDifference B23 QDECL-17: Declare a classic queue with x-queue-version 1.\n" in ended.output
        assert "ends with x-expires" not in ended.output

    def test_shows_cases_with_their_versions(self, ask):
        """One sentence may be so for quorum queues since 4.0 only."""
        assert "cases     classic, quorum (since 4.0)\n" in ask("qauto-05").output

    def test_shows_a_concept_with_what_has_no_spec(self, ask):
        """The first part of an id is a chapter of the catalogue."""
        output = ask("QAUTO").output

        assert output.splitlines()[0].endswith(
            f"{sum(concept_of(one) == 'QAUTO' for one in unheld())} without a spec yet"
        )
        assert "QAUTO-05  Queue TTL ends with x-expires\n" in output
        open_one = next(iter(unheld()))
        output = ask(concept_of(open_one)).output
        assert f"{open_one}  " in output
        assert "spec      no spec yet\n" in output

    def test_shows_a_row_of_an_upgrade_with_its_specs(self, ask):
        """`rmqspec upgrade` prints B23: it can be asked for."""
        output = ask("b23").output

        assert "Difference B23 QDECL-17" in output
        assert "test_is_renewed_before_4_3" in output

    @pytest.mark.parametrize(
        "words",
        ["x-expires", "x_expires", "UNUSED ends", "queue_ttl ends", "test_01_small expires"],
        ids=["header", "as in -k", "reason", "class", "file"],
    )
    def test_finds_words_in_sentence_reason_class_and_file(self, ask, words):
        """Nobody knows the ids by heart; what `pytest -k` finds is found here too."""
        output = ask(*words.split()).output

        assert "    ends with x-expires (QAUTO-05; versions by case)\n" in output
        assert "is renewed" not in output

    def test_lists_by_file_and_class_within_80_columns(self, ask):
        """A terminal of 80 columns, without a pager that scrolls sideways."""
        output = ask().output

        assert output.splitlines()[0] == f"2 behaviours in 2 specs (3 cases); {len(unheld())} without a spec yet"
        assert "tests/lessons/test_01_small.py\n1. Chapter: of a small suite\n  Queue TTL\n    ends with" in output
        assert max(map(len, output.splitlines())) <= 80

    def test_is_one_object_with_json(self, ask):
        """A page or an index is made of it."""
        answer = json.loads(ask("QDECL-17", "ACK-99", "--json").stdout)

        (spec,) = answer["specs"]
        assert spec["cases"] == [{"case": "", "behaviours": ["QDECL-17", "QAUTO-05"], "since": "", "before": "4.3"}]
        assert [row["id"] for row in answer["differences"]] == ["B23"]

    @pytest.mark.parametrize(
        ("asked", "words"),
        [("ACK-99", "there is no behaviour ACK-99"), ("hovercraft", "nothing in the catalogue has 'hovercraft'")],
    )
    def test_ends_with_1_and_a_sentence_if_nothing_is_found(self, ask, asked, words):
        """A script sees that an id is gone; a person sees which one."""
        ended = ask(asked)

        assert ended.exit_code == 1
        assert words in ended.output

    def test_names_an_unknown_id_beside_those_that_are_found(self, ask):
        """One of ten ids with a slip must not be lost among nine answers."""
        ended = ask("QDECL-17", "ACK-99")

        assert ended.exit_code == 0
        assert ended.stderr == "rmqspec: there is no behaviour ACK-99; `rmqspec catalogue WORD` looks for words\n"

    def test_finds_nothing_else_for_an_unknown_id(self):
        """No id is no filter: everything would be the worst answer."""
        assert not Catalogue((), unheld(), differences()).look_up(["ACK-99"])


class TestWithoutASuite:
    """Where there is nothing to collect."""

    def test_is_one_sentence_and_exit_code_2(self, tmp_path):
        """A wheel has no tests; that is not an error of whoever asks."""
        ended = CliRunner().invoke(cli, ["catalogue", "--suite", str(tmp_path)])

        assert ended.exit_code == 2
        assert f"Error: the suite is not in {tmp_path}: name a checkout of rmqspec with --suite" in ended.output

    def test_names_what_pytest_says_of_a_broken_suite(self, tmp_path):
        """A half of a catalogue would pass for the whole."""
        root = make_checkout(tmp_path, "import nothing_of_this_name")

        ended = CliRunner().invoke(cli, ["catalogue", "--suite", str(root)])

        assert ended.exit_code == 2
        assert f"Error: pytest cannot collect the suite in {root}: " in ended.output
