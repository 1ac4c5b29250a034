"""`pytest --lies` and `rmqspec lies`: what proves that a spec can fail, and what does not.

Code: rmqspec/tools/plugin/lies.py, rmqspec/tools/plugin/suggest.py, rmqspec/cli/lies.py
"""

import sys
from textwrap import dedent

import pytest

HEAD = '''
"""A chapter."""
import pytest
from pika.exceptions import AMQPError

lie = pytest.mark.lie

@pytest.fixture
def queue(channel):
    channel.queue_declare("q", durable=True)
    channel.basic_publish("", "q", b"kept")
    assert channel.queue_declare("q", passive=True).method.message_count == 1
    return "q"
'''


@pytest.fixture
def suite(pytester, broker, monkeypatch):
    """Runs pytest on a spec: `suite(source, "--lies")`; in a process of its own, as a run of lies changes much."""
    monkeypatch.delenv("RABBITMQ_BROKER", raising=False)  # else each starts one of its own
    monkeypatch.setenv("RABBITMQ_URL", broker.endpoint.url())
    monkeypatch.setenv("RABBITMQ_MANAGEMENT_URL", broker.endpoint.management_url)
    monkeypatch.setenv("COLUMNS", "200")
    pytester.makeconftest('pytest_plugins = ["rmqspec.tools.plugin"]')
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider --import-mode=importlib -rfE")

    def run(source, *options, command=("pytest", "-q")):
        pytester.makepyfile(test_q=HEAD + dedent(source))
        return pytester.run(sys.executable, "-m", *command, *options, "test_q.py")

    return run


NO_PROOFS = {
    "the spec passed": """
        @lie("body-falsified")
        def test_it(queue, drain):
            assert len(drain(queue)) == 1
        """,
    "the lie was never told": """
        @lie("commit-lost")
        def test_it(queue, drain):
            assert drain(queue) == []
        """,
    "it ended by an exception, not by an assertion": """
        @lie("body-falsified")
        def test_it(queue, drain):
            ["kept"].index(drain(queue)[0].decode())
        """,
    "an answer never came, which the spec does not assert": """
        @lie("confirm-swallowed")
        def test_it(channel):
            channel.queue_declare("q")
            channel.basic_publish("", "q", b"kept")
        """,
    "its setup failed, and the spec was not run": """
        @lie("message-lost")
        def test_it(queue, drain):
            assert drain(queue) == [b"kept"]
        """,
    "what failed is not an assertion of the spec, but of spec.py": """
        @lie("body-falsified")
        def test_it(queue, drain):
            from pika import spec
            if drain(queue) != [b"kept"]:
                spec.Basic.Publish(exchange=1).encode()
        """,
    "it names no lie that breaks its promise": """
        def test_it(queue, drain):
            assert drain(queue) == [b"kept"]
        """,
}


class TestLies:
    """`pytest --lies`."""

    def test_proves_a_spec_whose_own_assertion_fails(self, suite):
        """This is what a proof is: the broker breaks the promise, and the spec says so."""
        result = suite(
            """
            @lie("body-falsified")
            def test_it(queue, drain):
                assert drain(queue) == [b"kept"]
            """,
            "--lies",
        )

        assert result.ret == 0
        result.stdout.fnmatch_lines(["lies: 1 proved, 0 not proved, 0 not asked"])

    def test_proves_by_a_wait_that_the_spec_called(self, suite):
        """`receive` fails for the spec: that nothing came is what the spec says."""
        result = suite(
            """
            @lie("delivery-lost")
            def test_it(queue, receive):
                receive(queue)
            """,
            "--lies",
        )

        assert result.ret == 0
        result.stdout.fnmatch_lines(["lies: 1 proved, 0 not proved, 0 not asked"])

    @pytest.mark.parametrize("reason", NO_PROOFS)
    def test_does_not_count_as_a_proof(self, suite, reason):
        """Each of these may come from anywhere: it does not show that the spec asserts its promise."""
        result = suite(NO_PROOFS[reason], "--lies")

        assert result.ret == 1
        result.stdout.fnmatch_lines([f"*{reason}*", "lies: 0 proved, 1 not proved, 0 not asked"])

    def test_does_not_ask_where_no_lie_can_be_told(self, suite):
        """The reason stands beside the spec, and in the summary of a run."""
        result = suite(
            """
            @lie(None, because="nothing passes the proxy")
            def test_it():
                assert True
            """,
            "--lies",
            "-rs",
        )

        assert result.ret == 0
        result.stdout.fnmatch_lines(
            ["lies: 0 proved, 0 not proved, 1 not asked", "*not asked: nothing passes the proxy*"]
        )

    def test_asks_each_case_for_its_own_lie(self, suite):
        """Where the cases of a spec differ, so do their lies; a case that was forgotten is found."""
        result = suite(
            """
            @lie("body-falsified", cases="body")
            @lie("message-count-wrong", cases=("count",))
            @pytest.mark.parametrize("case", ["body", "count", "forgotten"])
            def test_it(channel, drain, case):
                channel.queue_declare("q")
                channel.basic_publish("", "q", b"kept")
                if case == "count":
                    assert channel.queue_declare("q", passive=True).method.message_count == 1
                assert drain("q") == [b"kept"]
            """,
            "--lies",
        )

        assert result.ret == 1
        result.stdout.fnmatch_lines(
            ["lies: 2 proved, 1 not proved, 0 not asked", "ERROR*test_it?forgotten*names no lie*"]
        )

    def test_asks_the_other_cases_where_no_lie_can_be_told_for_one(self, suite):
        """A reason excuses its own case; one that excused all of them would hide a spec that asserts nothing."""
        result = suite(
            """
            @lie("body-falsified", cases="body")
            @lie(None, cases="local", because="nothing passes the proxy")
            @pytest.mark.parametrize("case", ["body", "local"])
            def test_it(queue, drain, case):
                assert drain(queue) == [b"kept"]
            """,
            "--lies",
        )

        assert result.ret == 0
        result.stdout.fnmatch_lines(["lies: 1 proved, 0 not proved, 1 not asked"])

    def test_adds_up_what_several_processes_have_proved(self, suite):
        """CI runs it with workers: what counts is the sum."""
        result = suite(
            """
            @lie("body-falsified")
            @pytest.mark.parametrize("case", range(4))
            def test_it(queue, drain, case):
                assert drain(queue) == [b"kept"]
            """,
            "--lies",
            "-n2",
        )

        result.stdout.fnmatch_lines(["lies: 4 proved, 0 not proved, 0 not asked"])

    def test_cannot_be_recorded(self, suite):
        """A record keeps what brokers do."""
        result = suite("", "--lies", "--record", "run.jsonl")

        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*--record and --lies both stand in the wire: leave one of the options out*"])


class TestLie:
    """`pytest --lie NAME`."""

    def test_shows_how_a_spec_fails(self, suite):
        """So one sees what a user would see on such a broker."""
        result = suite(
            """
            def test_it(queue, drain):
                assert drain(queue) == [b"kept"]
            """,
            "--lie",
            "body-falsified",
        )

        assert result.ret == 1
        result.stdout.fnmatch_lines(["*assert [[]b'kepu'[]] == [[]b'kept'[]]*"])

    def test_is_refused_if_there_is_none_of_that_name(self, suite):
        """A misspelt one would be told to nobody."""
        result = suite("", "--lie", "body-fasified")

        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*there is no lie 'body-fasified': `rmqspec lies --list` shows them*"])


class TestCommand:
    """`rmqspec lies`."""

    @pytest.mark.timeout(120)
    def test_suggests_the_lies_that_a_spec_notices(self, suite):
        """The second step of adding a spec: which promise does it hold?"""
        result = suite(
            """
            def test_keeps_a_message(queue, drain):
                assert drain(queue) == [b"kept"]

            def test_says_nothing(queue):
                pass
            """,
            command=("rmqspec", "lies"),
        )

        said = result.stdout.str()
        keeps, _, nothing = said.partition("test_q.py::test_says_nothing")
        assert result.ret == 0
        assert "body-falsified: A bit of the body is another." in keeps
        assert "message-lost" not in keeps
        assert "no lie turns it red" in nothing

    def test_is_not_disturbed_by_what_a_spec_leaves_behind(self, suite, pytester):
        """Under a lie it may end anywhere; the list is right, and a script looks at the exit code."""
        pytester.makeini("[pytest]\naddopts = -p no:cacheprovider --import-mode=importlib\nfilterwarnings = error")

        result = suite(
            """
            import socket

            def test_leaves_a_socket(channel):
                channel.queue_declare("q")
                left = [socket.socket()]
                left.append(left)
            """,
            command=("rmqspec", "lies"),
        )

        assert result.ret == 0
        assert "ResourceWarning" not in result.stdout.str() + result.stderr.str()

    def test_tells_one_lie_that_is_named(self, suite):
        """Whoever has an idea need not wait for all the others."""
        result = suite(
            """
            def test_keeps_a_message(queue, drain):
                assert drain(queue) == [b"kept"]
            """,
            command=("rmqspec", "lies", "--lie", "body-falsified"),
        )

        assert result.ret == 1
        result.stdout.fnmatch_lines(["*kepu*"])

    def test_lists_the_lies(self, suite):
        """A reader wants to know what a lie is before he believes in one."""
        result = suite("", "--list", command=("rmqspec", "lies"))

        result.stdout.fnmatch_lines(["*body-falsified*A bit of the body is another.*"])

    def test_wants_a_place(self, pytester):
        """All specs under all lies would take hours, and nobody meant that."""
        result = pytester.run(sys.executable, "-m", "rmqspec", "lies")

        assert result.ret == 2
        result.stderr.fnmatch_lines(["*name a file of specs or a node id, or --list*"])
