"""`rmqspec compare OLD NEW`: two runs, recorded by pytest in this test.

Code: rmqspec/tools/compare/, rmqspec/cli/compare.py
"""

import json

import pytest
from click.testing import CliRunner

from rmqspec.cli.main import cli
from rmqspec.tools.upgrade import differences

# One broker of this run, which says of itself what version a test wants: markers and records follow that.
CONFTEST = """
import os
from dataclasses import replace
from rmqspec.tools.plugin import broker

pytest_plugins = ["rmqspec.tools.plugin"]
find = broker.find

def find_as_if(*arguments):
    found = find(*arguments)
    found.identity = replace(found.identity, version=os.environ["AS_IF"])
    return found

broker.find = find_as_if
"""

SUITE = '''
"""A small suite: of two versions."""
import os
import pytest

behaviour, rabbitmq = pytest.mark.behaviour, pytest.mark.rabbitmq
BROKEN = os.environ.get("BROKEN", "")

class TestQueue:
    """What is the same everywhere."""

    @behaviour("QDECL-01")
    def test_is_declared(self, channel):
        """The first thing."""
        assert channel.queue_declare("q").method.queue == "q" and "same" not in BROKEN

    @behaviour("QDECL-02")
    @pytest.mark.parametrize("kind", ["classic", "quorum", "stream"])
    def test_keeps_its_type(self, kind):
        """By type."""
        assert kind not in BROKEN, f"{kind} is another"

class TestLimit:
    """What changed."""

    @behaviour("POISON-02", "CHAN-03")
    @rabbitmq(before="4.0")
    def test_is_none_before_4_0(self):
        """There."""

    @behaviour("POISON-02", "CHAN-03")
    @rabbitmq(since="4.0")
    def test_is_20_since_4_0(self):
        """Here."""
        assert "other side" not in BROKEN

    @behaviour("CHAN-03")
    @rabbitmq(since="4.0")
    def test_closes_the_channel_since_4_0(self):
        """Of another id that many have."""

    @behaviour("STREAM-13")
    @rabbitmq(since="4.0")
    def test_is_new_since_4_0(self):
        """Of one side."""

    @behaviour("TX-01")
    @rabbitmq(before="4.0")
    def test_is_gone_before_4_0(self):
        """Of the other."""

    @rabbitmq(since="3.12", before="4.0")
    def test_is_between(self):
        """In neither."""

class TestBroker:
    """What needs one of its own."""

    @behaviour("QDUR-01")
    def test_survives_a_restart(self, disposable_broker):
        """Nobody restarts a broker that was named by its URL."""
'''


ROW = '''
"""Two sides: with ids that differ."""
import pytest

class {owner}:
    """RabbitMQ."""

    @pytest.mark.behaviour("GLOBALQOS-01")
    @pytest.mark.rabbitmq(before="4.3")
    def {before}(self):
        """There."""

    @pytest.mark.behaviour("GLOBALQOS-04")
    @pytest.mark.rabbitmq(since="4.3")
    def {after}(self):
        """Here."""
'''


@pytest.fixture(scope="module")
def records():
    """What was recorded in this file already: a run takes seconds, and several tests read the same two."""
    return {}


@pytest.fixture
def record(records, tmp_path_factory, pytester, broker, monkeypatch):
    """Records a suite, once: `record("4.3.6", broken="quorum")` is the file of the record."""

    def run(version, broken="", suite=SUITE, path="test_small.py", selection=()):
        key = version, broken, suite, selection
        if key in records:
            return records[key]
        directory = tmp_path_factory.mktemp("suite")
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(suite)
        (directory / "conftest.py").write_text(CONFTEST)
        (directory / "pytest.ini").write_text(
            "[pytest]\naddopts = -p no:cacheprovider -p no:randomly --import-mode=importlib\n"
        )
        surroundings = {
            "RABBITMQ_URL": broker.endpoint.url(), "RABBITMQ_MANAGEMENT_URL": broker.endpoint.management_url,
            "RABBITMQ_BROKER": "", "AS_IF": version, "BROKEN": broken,
        }  # fmt: skip
        for name, value in surroundings.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(directory)
        pytester.runpytest_subprocess(f"--rootdir={directory}", "--record=run.jsonl", *selection, str(directory))
        records[key] = directory / "run.jsonl"
        return records[key]

    return run


def ask(*arguments):
    return CliRunner().invoke(cli, ["compare", *map(str, arguments)])


def sections(ended):
    """The sentences of an answer in JSON, by section."""
    answer = json.loads(ended.stdout)
    names = ("unexplained", "only_there", "only_here", "not_run")
    found = {name: [one["sentence"] for one in answer[name]] for name in names}
    changes = [
        ([one["sentence"] for one in change["there"]], [one["sentence"] for one in change["here"]])
        for change in answer["changed"]
    ]
    return found, changes


@pytest.fixture
def edited(record, tmp_path):
    """The record of a run, with other values in its lines: `edited("4.3.6", "QDECL-01", outcome="failed")`."""

    def change(version, behaviour, **fields):
        file = tmp_path / f"edited-{version}.jsonl"
        lines = [json.loads(line) for line in record(version).read_text().splitlines()]
        for line in lines:
            if behaviour in line.get("behaviours", ()):
                line |= fields
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return file

    return change


class TestComparison:
    """Two runs of one suite."""

    def test_puts_each_spec_where_it_belongs(self, record):
        """A new release is read from the top: what nobody has expected comes first."""
        ended = ask(record("3.10.8"), record("4.3.6"), "--json")

        found, changes = sections(ended)
        assert ended.exit_code == 0, ended.output
        assert found == {
            "unexplained": [],
            "only_there": ["Limit is gone before 4.0"],
            "only_here": ["Limit is new since 4.0"],
            "not_run": ["Broker survives a restart"],
        }
        assert (["Limit is none before 4.0"], ["Limit is 20 since 4.0"]) in changes
        answer = json.loads(ended.stdout)
        assert (answer["passed_on_both"], answer["in_neither_version"], answer["failed_on_both"]) == (4, 1, 0)
        assert (answer["there"]["version"], answer["here"]["version"]) == ("3.10.8", "4.3.6")

    def test_explains_by_an_id_that_few_have_first(self, record):
        """CHAN-03 stands beside many ids: alone it explains only what no other explains."""
        answer = json.loads(ask(record("3.10.8"), record("4.3.6"), "--json").stdout)

        assert [change["behaviours"] for change in answer["changed"]] == [["POISON-02"], ["CHAN-03"]]

    def test_is_unexplained_if_a_spec_of_this_version_fails(self, record):
        """The one line for which all of this is run; cases of one spec are one line."""
        ended = ask(record("3.10.8"), record("4.3.6", broken="quorum stream"))

        assert ended.exit_code == 1
        part = ended.output.partition("\nCHANGED (")[0].partition("UNEXPLAINED (1)")[2]
        assert "  QDECL-02 Queue keeps its type (quorum, stream)\n" in part
        assert "      there: passed; here: failed: AssertionError: quorum is another\n" in part
        assert "test_small.py::TestQueue::test_keeps_its_type\n" in part

    def test_is_unexplained_if_the_spec_of_the_other_side_fails(self, record):
        """A change that happened otherwise than it was announced."""
        ended = ask(record("3.10.8"), record("4.3.6", broken="other side"), "--json")

        found, changes = sections(ended)
        assert ended.exit_code == 1
        assert found["unexplained"] == ["Limit is 20 since 4.0"]
        assert all("Limit is 20 since 4.0" not in here for _, here in changes)

    def test_is_no_difference_if_a_spec_fails_on_both_sides(self, record):
        """What is broken everywhere is no news of the new release; it is counted."""
        ended = ask(record("3.10.8", broken="same"), record("4.3.6", broken="same"))

        assert ended.exit_code == 0
        assert "3 specs passed on both sides, 1 failed on both, 1 in neither version" in ended.output

    @pytest.mark.parametrize(
        ("there", "here", "code", "where"),
        [
            ("failed", "failed", 0, []),
            ("broker not reached", "failed", 1, ["unexplained"]),
            ("failed", "broker not reached", 1, ["unexplained"]),
            ("passed", "broker not reached", 1, ["unexplained"]),
            ("broker not reached", "broker not reached", 0, ["not_run"]),
        ],
    )
    def test_takes_no_broker_that_was_not_reached_for_one_that_failed(self, edited, there, here, code, where):
        """A broker that dies in the new release would hide behind a spec that has always failed."""
        ended = ask(edited("3.10.8", "QDECL-01", outcome=there), edited("4.3.6", "QDECL-01", outcome=here), "--json")

        found, _ = sections(ended)
        assert ended.exit_code == code
        assert [name for name, sentences in found.items() if "Queue is declared" in sentences] == where

    def test_shows_a_reason_on_one_line(self, record, edited):
        """It is the broker's own text, or an excerpt of a message."""
        words = "closed\u2028UNEXPLAINED (0)\x85UNEXPLAINED (0)\x1b[2J"

        output = ask(record("3.10.8"), edited("4.3.6", "QDECL-01", outcome="failed", reason=words)).output

        assert [line for line in output.splitlines() if line.startswith("UNEXPLAINED")] == [
            "UNEXPLAINED (1)  fails here, did not fail there, and no spec says that it should"
        ]
        assert "\x1b" not in output

    def test_lists_what_failed_there_and_passes_here(self, record):
        """A fault that was mended."""
        found, _ = sections(ask(record("3.10.8", broken="same"), record("4.3.6"), "--json"))

        assert found["only_here"] == ["Limit is new since 4.0", "Queue is declared"]

    def test_says_why_something_was_not_run(self, record):
        """What was not run says nothing of the new release."""
        output = ask(record("3.10.8"), record("4.3.6")).output

        assert "NOT RUN (1)" in output
        assert "here: not run: the broker was named by its URL" in output

    def test_reads_backwards_too(self, record):
        """Whoever goes back wants the same answer."""
        found, changes = sections(ask(record("4.3.6"), record("3.10.8"), "--json"))

        assert found["only_here"] == ["Limit is gone before 4.0"]
        assert (["Limit is 20 since 4.0"], ["Limit is none before 4.0"]) in changes

    def test_has_a_heading_for_each_section_with_markdown(self, record):
        """It is pasted into a ticket."""
        output = ask(record("3.10.8"), record("4.3.6"), "--markdown").output

        headings = [line for line in output.splitlines() if line.startswith("## ")]
        assert headings == [
            "## Unexplained (0)",
            "## Changed (2)",
            "## Only there (1)",
            "## Only here (1)",
            "## Not run (1)",
        ]
        assert "\n- TX-01 Limit is gone before 4.0 (before 4.0)\n" in output


class TestRefusal:
    """What cannot be compared."""

    def test_of_a_run_that_was_cut_off_is_exit_code_3(self, record, tmp_path):
        """What is missing would pass for a difference."""
        whole = record("3.10.8")
        (tmp_path / "cut.jsonl").write_text("".join(whole.read_text().splitlines(keepends=True)[:-1]))

        ended = ask(whole, tmp_path / "cut.jsonl")

        assert ended.exit_code == 3
        assert ended.stderr.startswith("rmqspec: the newer run was cut off")

    def test_of_another_selection_is_exit_code_3(self, record):
        """With -k in one of two runs everything else would be a loss."""
        ended = ask(record("3.10.8"), record("4.3.6", selection=("-k", "Queue")))

        assert ended.exit_code == 3
        assert "in one of the two runs alone, such as test_small.py::TestBroker::" in ended.stderr
        assert "the same suite and the same selection" in ended.stderr

    def test_of_another_suite_is_exit_code_3(self, record):
        """A spec that was rewritten meanwhile says nothing of the broker."""
        ended = ask(record("3.10.8"), record("4.3.6", suite=SUITE.replace('.queue == "q"', ".message_count == 0")))

        assert ended.exit_code == 3
        assert "1 spec is not the same in both runs, such as test_small.py::TestQueue::test_is_declared" in ended.stderr

    def test_of_what_is_no_record_is_exit_code_2(self, record, tmp_path):
        """The wrong file of a directory is named all too easily."""
        (tmp_path / "letter.txt").write_text("a letter")

        for name in ("letter.txt", "missing.jsonl"):
            ended = ask(record("3.10.8"), tmp_path / name)
            assert ended.exit_code == 2
            assert "name a file that pytest --record wrote" in ended.output

    def test_of_a_run_that_has_a_spec_twice_is_exit_code_3(self, record, tmp_path):
        """A plugin that repeats what fails writes both, and one of them would hide the other."""
        header, *lines = record("4.3.6").read_text().splitlines(keepends=True)
        (tmp_path / "twice.jsonl").write_text("".join([header, *lines[:-1], *lines[:-1], lines[-1]]))

        ended = ask(record("3.10.8"), tmp_path / "twice.jsonl")

        assert ended.exit_code == 3
        assert "the newer run has 11 specs more than once, such as test_small.py::TestQueue" in ended.stderr

    def test_of_several_runs_in_one_file_is_exit_code_2(self, record, tmp_path):
        """Two records that were put together are those of two brokers."""
        file = tmp_path / "both.jsonl"
        file.write_text(record("3.10.8").read_text() + record("4.3.6").read_text())

        ended = ask(record("3.10.8"), file)

        assert ended.exit_code == 2
        assert "both.jsonl holds more than one run" in ended.output

    @pytest.mark.parametrize(
        "fields", [{"outcome": "fine"}, {"outcome": {}}, {"node": 5}, {"behaviours": [["QDECL-01"]]}, {"case": [1]}]
    )
    def test_of_a_line_with_odd_values_is_exit_code_3(self, record, edited, fields):
        """Behind a line that is none nothing is to be relied on; an outcome that is none would pass for no failure."""
        ended = ask(record("3.10.8"), edited("4.3.6", "QDECL-01", **fields))

        assert ended.exit_code == 3
        assert ended.stderr.startswith("rmqspec: the newer run was cut off")

    @pytest.mark.parametrize("schema", ["1", None, 2])
    def test_of_another_schema_is_exit_code_2(self, record, tmp_path, schema):
        """Its lines may mean something else."""
        header, *lines = record("4.3.6").read_text().splitlines(keepends=True)
        (tmp_path / "other.jsonl").write_text(
            "".join([json.dumps(json.loads(header) | {"schema": schema}), "\n", *lines])
        )

        ended = ask(record("3.10.8"), tmp_path / "other.jsonl")

        assert ended.exit_code == 2
        assert ended.output.count("Error:") == 1


class TestRow:
    """A row of `differences.toml`."""

    def test_explains_specs_that_have_no_id_in_common(self, record):
        """The row names both as its proofs, and says more than an id: what to do."""
        (row,) = [one for one in differences() if one.id == "B02"]
        path, owner, before = row.proofs.before[0].split("::")
        after = row.proofs.after[0].split("::")[2]
        suite = ROW.format(owner=owner, before=before, after=after)

        answer = json.loads(
            ask(record("3.10.8", suite=suite, path=path), record("4.3.6", suite=suite, path=path), "--json").stdout
        )

        (change,) = answer["changed"]
        assert change["row"] == "B02"
        assert [one["node"] for one in change["there"] + change["here"]] == [row.proofs.before[0], row.proofs.after[0]]
        assert set(change["there"][0]["behaviours"]).isdisjoint(change["here"][0]["behaviours"])
