"""`rmqspec lies`: which spec notices which lie, and what is said where none does.

Code: rmqspec/cli/lies.py, rmqspec/tools/plugin/lies.py, rmqspec/tools/book/matrix.py
"""

import json
import sys

import pytest

from rmqspec.tools.book.matrix import Ending, Matrix

SUITE = '''
"""A chapter."""
import pytest

def test_keeps_a_message(channel, drain):
    channel.queue_declare("q", durable=True)
    channel.basic_publish("", "q", b"kept")
    assert drain("q") == [b"kept"]

def test_says_nothing(channel):
    channel.queue_declare("q", durable=True)

@pytest.mark.parametrize("case", ["one", "two"])
def test_counts(channel, case):
    assert channel.queue_declare(case).method.message_count == 0

def test_needs_no_broker():
    assert True
'''
WAITS_FOR_EVER = """
import threading
import pytest
from pika.exceptions import AMQPError
from rmqspec.tools.plugin import lies as pytest_lies

pytest_lies.SET_UP = 3.0

@pytest.fixture
def waiting(channel):
    channel.queue_declare("q")
    try:
        channel.queue_declare("q", passive=True)
    except AMQPError:
        never = threading.Event()
        try:
            never.wait()
        finally:
            never.wait()  # as an executor waits for its threads, whatever has happened

def test_waits(waiting, channel):
    assert channel.queue_declare("q").method.message_count == 0
"""
KEEPS, NOTHING = "tests/lessons/test_07_x.py::test_keeps_a_message", "tests/lessons/test_07_x.py::test_says_nothing"


@pytest.fixture
def lies(pytester, broker, monkeypatch):
    """Runs `rmqspec lies` on a suite: `lies("--sample", "3")`."""
    monkeypatch.setenv("RABBITMQ_URL", broker.endpoint.url())
    monkeypatch.setenv("RABBITMQ_MANAGEMENT_URL", broker.endpoint.management_url)
    monkeypatch.setenv("COLUMNS", "200")
    pytester.makeconftest('pytest_plugins = ["rmqspec.tools.plugin"]')
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider -p no:random_order --import-mode=importlib")
    (folder := pytester.path / "tests" / "lessons").mkdir(parents=True)

    def run(*arguments, suite=SUITE):
        (folder / "test_07_x.py").write_text(suite)
        return pytester.run(sys.executable, "-m", "rmqspec", "lies", "--workers", "2", *arguments)

    return run


class TestCommand:
    """In a folder with a suite."""

    @pytest.mark.timeout(300)  # four runs of pytest
    def test_finds_what_asserts_nothing(self, lies, pytester, broker):
        """The whole of it: told, complained of, kept, and a sample of what was kept told again."""
        result = lies("--keep")

        assert result.ret == 1
        said = str(result.stderr) + str(result.stdout)
        assert f"no lie turns it red: {NOTHING}" in said
        assert f"no lie turns it red: {KEEPS}" not in said
        assert "nobody notices 'heartbeat-refused'" in said
        (kept,) = (pytester.path / "tests" / "lies").glob("*.json")
        specs = json.loads(kept.read_text())["specs"]
        assert kept.stem == ".".join(broker.identity.version.split(".")[:2])
        assert {"body-falsified", "message-lost"} <= set(specs[KEEPS]["assertion"].split())
        assert "message-count-wrong" in specs["tests/lessons/test_07_x.py::test_counts[two]"]["assertion"]
        assert "tests/lessons/test_07_x.py::test_needs_no_broker" not in specs

        assert lies("--sample", "4").ret == 0
        blind = lies("--sample", "40", suite=SUITE.replace('assert drain("q") == [b"kept"]', "assert drain"))
        assert blind.ret == 1
        assert f"{KEEPS} does not notice 'body-falsified' any more" in str(blind.stderr) + str(blind.stdout)

    @pytest.mark.timeout(120)  # two runs of pytest
    def test_asks_new_specs_alone(self, lies, pytester):
        """Who has written one spec need not tell a thousand others."""
        known = [NOTHING, *(f"tests/lessons/test_07_x.py::test_counts[{case}]" for case in ("one", "two"))]
        (pytester.path / "tests" / "lies").mkdir()
        kept = json.dumps({"specs": {spec: {"error": "queue-not-made"} for spec in known}})
        (pytester.path / "tests" / "lies" / "4.3.json").write_text(kept)

        told = str(lies("--new").stdout)

        assert "told to 1 specs" in told

    def test_shows_what_it_can_tell(self, lies):
        """A reader wants to know what a lie is before he believes a matrix."""
        result = lies("--list")

        result.stdout.fnmatch_lines(["*body-falsified*A bit of the body is another.*"])

    def test_ends_a_set_up_that_waits_for_ever(self, lies, pytester, broker):
        """The lie was noticed, but only because time was up: the run goes on, and complains of it."""
        pytester.makepyfile(test_07_x=WAITS_FOR_EVER)
        told = {"test_07_x.py::test_waits": {"assertion": "queue-not-made message-count-wrong"}}
        pytester.makefile(".json", told=json.dumps({"broker": str(broker.identity), "specs": told}))

        command = (sys.executable, "-m", "pytest", "-q", "test_07_x.py")
        assert pytester.run(*command, "--tell-lies", "told.json", "--lies-result", "ended.json").ret == 0

        matrix = Matrix.read(pytester.path / "ended.json")
        assert {ending.lie: ending.kind for ending in matrix.endings} == {
            "queue-not-made": "timeout in setup",
            "message-count-wrong": "assertion",
        }
        assert [ending.words for ending in matrix.late()] == ["Failed: Timeout (>3s) in the set-up of 'waiting'"]

    def test_says_what_is_missing(self, lies, pytester):
        """A sample is of what was kept; without that there is nothing to try again."""
        (pytester.path / "tests").rename(pytester.path / "elsewhere")
        (pytester.path / "tests" / "lessons").mkdir(parents=True)

        assert "no kept" in (words := str(lies("--sample", "3").stderr)) or "cannot be read" in words

    def test_needs_a_suite(self, pytester):
        """Installed from a package index, there are no lessons around."""
        result = pytester.run(sys.executable, "-m", "rmqspec", "lies")

        assert result.ret == 1
        result.stderr.fnmatch_lines(["*there is no tests/lessons here: run it where the project's tests are*"])


def ending(spec, lie, kind, seconds=0.1):
    return Ending(spec, lie, kind, "", seconds, True)


class TestMatrix:
    """What is made of the endings."""

    def test_asks_for_an_assertion_by_each_spec(self):
        """An exception may come from anywhere; only an assertion names the promise."""
        endings = (
            ending("a", "one", "assertion"),
            ending("a", "two", "error"),
            ending("a", "three", "timeout"),
            ending("b", "one", "error in setup"),
            ending("c", "one", "timeout", 20),
            ending("d", "one", "error"),
            ending("e", "one", "unnoticed"),
            ending("f", "four", "unanswered"),
        )
        matrix = Matrix("RabbitMQ 4.3.6", endings)

        assert matrix.unnoticed_lies() == ["three"]
        assert matrix.unmoved_specs({"e"}) == ["b", "c", "d", "f"]
        assert [one.spec for one in matrix.late()] == ["a", "c"]
        assert [one.spec for one in matrix.missed()] == ["e"]
        assert matrix.kept({}, whole=True)["specs"]["a"] == {"assertion": "one", "error": "two"}

    def test_sets_aside_what_a_race_decides(self):
        """What is noticed one time and not another cannot be asked for in CI, and is not forgotten either."""
        before = {"a": {"assertion": "gone noticed raced", "at times": "wavers"}, "b": {"assertion": "one"}}
        endings = ending("a", "noticed", "assertion"), ending("a", "raced", "unnoticed")

        part, whole = (Matrix("", endings).kept(before, whole=whole)["specs"] for whole in (False, True))

        assert part == {"a": {"assertion": "gone noticed", "at times": "raced wavers"}, "b": {"assertion": "one"}}
        assert whole == {"a": {"assertion": "noticed", "at times": "raced"}, "b": {"assertion": "one"}}

    def test_lets_a_mended_spec_rise(self):
        """What was an error before may be an assertion now; what once wavered stays doubtful."""
        before = {"a": {"error": "one", "at times": "two"}}
        endings = ending("a", "one", "assertion"), ending("a", "two", "assertion")

        assert Matrix("", endings).kept(before, whole=True)["specs"]["a"] == {"assertion": "one", "at times": "two"}

    def test_keeps_what_a_set_up_asserts(self):
        """What is set up once for many may say it before any of them can; that is no exception, and nothing wavers."""
        before = {"a": {"assertion": "one", "assertion in setup": "two", "unanswered": "three"}}
        endings = [ending("a", "one", "assertion in setup")]
        endings += [ending("a", "two", "unnoticed"), ending("a", "three", "unanswered in setup")]

        kept = Matrix("", tuple(endings)).kept(before, whole=True)["specs"]["a"]

        assert kept == {"assertion in setup": "one", "unanswered in setup": "three", "at times": "two"}

    def test_counts_a_late_assertion_as_late(self):
        """Whoever waits for ten seconds has not asserted, he has given up."""
        late, slow = ending("a", "one", "assertion", 10.5), ending("a", "two", "unnoticed", 12.0)

        assert Matrix("", (late, slow)).late() == [late]

    def test_asks_the_chapter_that_makes_the_promise(self):
        """Another may notice it by chance; an exception there is no answer, and who was told nothing is not asked."""
        one, two = "tests/lessons/test_01_x.py::test_a", "tests/lessons/test_02_y.py::test_b"
        endings = (
            ending(one, "known at home", "assertion"),
            ending(one, "known to a stranger", "unnoticed"),
            ending(two, "known to a stranger", "assertion"),
            ending(one, "an exception at home", "error"),
            ending(one, "of a chapter that was not run", "assertion"),
            ending(one, "known to nobody", "unnoticed"),
        )
        chapters = {each.lie: 3 if "not run" in each.lie else 1 for each in endings}

        assert Matrix("", endings).unnoticed_at_home(chapters) == ["an exception at home", "known to a stranger"]

    def test_gives_a_broker_time_to_start(self):
        """In a set-up a broker may start, and start again; nobody waits there for what does not come."""
        assert not Matrix("", (ending("a", "one", "error in setup", 17.0),)).late()
