"""The harness: what pytest shows, what a run starts, and how it fails."""

import re

import pytest

SPEC = '''
"""A chapter: with a title.

And a line of prose.
"""
import pytest

class TestQueue:
    def test_keeps_a_message(self, channel, drain):
        channel.queue_declare("q", durable=True)
        channel.basic_publish("", "q", b"kept")

        assert drain("q") == [b"kept"]
'''


@pytest.fixture
def suite(pytester, broker):
    """Runs pytest in a process of its own on this run's broker: `suite(source, *arguments)`."""
    pytester.makeconftest('pytest_plugins = ["rmqspec.tools.plugin"]')
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider -p no:randomly -p no:random_order")

    def run(source, *arguments, **environment):
        pytester.makepyfile(test_07_chapter=source)
        # A password in an argument would be seen by all; as in real life it stands in the environment.
        settings = {
            "RABBITMQ_URL": broker.endpoint.url(),
            "RABBITMQ_MANAGEMENT_URL": broker.endpoint.management_url,
            "RABBITMQ_BROKER": "",
            **environment,
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(name, value)
            return pytester.runpytest_subprocess(*arguments)

    return run


class TestHeader:
    """The first lines of a run."""

    def test_names_product_version_address_and_who_chose(self, suite, broker):
        """A green run says little as long as nobody knows on what."""
        result = suite(SPEC)

        at = f"{broker.endpoint.host}:{broker.endpoint.port}"
        line = f"broker: {broker.identity} at {at}, a broker that was named by its URL (url, from the environment)"
        assert line in result.outlines
        result.assert_outcomes(passed=1)

    def test_never_shows_the_password(self, suite, broker):
        """A CI log is read by more people than may enter the broker."""
        result = suite(SPEC.replace('b"kept"]', 'b"lost"]'), "-vv", "--showlocals", "-l")

        result.assert_outcomes(failed=1)
        assert broker.endpoint.password not in result.stdout.str() + result.stderr.str()


class TestChapterHeading:
    """Under -v."""

    def test_opens_a_chapter_with_title_and_prose(self, suite):
        """The module's docstring is the lesson; the tests below are its proofs."""
        result = suite(SPEC, "-v")

        result.stdout.fnmatch_lines(
            ["7. A chapter: with a title.", "   And a line of prose.", "*::TestQueue::test_keeps_a_message PASSED*"]
        )

    def test_is_left_out_without_v(self, suite):
        """Who asks for dots gets dots."""
        assert "with a title" not in suite(SPEC).stdout.str()


class TestRun:
    """What a run starts, and what it ends with."""

    @pytest.mark.parametrize("option", ["--help", "--version", "--collect-only", "--fixtures", "--markers"])
    def test_starts_nothing_for(self, suite, option):
        """Whoever only asks a question does not wait for a broker; here the broker could not even be reached."""
        result = suite(SPEC, option, RABBITMQ_URL="amqp://127.0.0.1:1")

        assert result.ret == 0
        assert "broker: RabbitMQ" not in result.stdout.str()

    def test_ends_with_one_screen_and_exit_code_4_without_a_broker(self, suite):
        """A usage error, not a failed test: nothing was proved either way. And no traceback."""
        result = suite(SPEC, RABBITMQ_URL="amqp://127.0.0.1:1")

        assert result.ret == 4
        screen = result.stderr.str() + result.stdout.str()
        assert "no broker speaks AMQP 0-9-1 at 127.0.0.1:1" in screen
        assert "→ start it, or correct --rabbitmq-url or RABBITMQ_URL." in screen
        assert "Traceback" not in screen

    def test_shares_one_broker_between_the_workers_of_xdist(self, suite):
        """Four brokers on two cores would be slower than one worker."""
        source = SPEC + "\n    def test_again(self, channel):\n        assert channel.is_open\n"

        result = suite(source, "-n", "2")

        result.assert_outcomes(passed=2)
        assert result.stdout.str().count("broker: ") == 1

    def test_removes_its_vhosts(self, suite, broker):
        """Somebody else's broker is left as it was found."""
        source = "    def test_tells_its_vhost(channel, vhost):\n        print('in', vhost, end=' ')\n"

        result = suite(source, "-s")

        result.assert_outcomes(passed=1)
        (name,) = re.findall(r"in (rmqspec-\S+)-\d+ ", result.stdout.str())
        assert [left for left in broker.management.vhosts() if left.startswith(name)] == []  # others come and go


class TestSpecOutcome:
    """How a spec ends that does not simply pass."""

    def test_is_failure_for_a_connection_left_open(self, suite):
        """What a test forgets to close, production code forgets too."""
        source = """
            from rmqspec.client import connect
            left = []
            def test_forgets(url):
                left.append(connect(url, "forgotten"))
        """

        result = suite(source)

        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines(["this test left 1 connection(s) open: forgotten"])

    def test_is_not_in_this_version_outside_its_range(self, suite):
        """Each side of a change has its own spec; on the other side it is reported, not passed over."""
        source = """
            import pytest
            @pytest.mark.rabbitmq(since="99.0")
            def test_of_the_future(): assert False
            @pytest.mark.rabbitmq(before="3.0")
            def test_of_the_past(): assert False
            @pytest.mark.rabbitmq(since="3.0", before="99.0")
            def test_of_today(): assert True
        """

        result = suite(source, "-rs")

        result.assert_outcomes(passed=1, skipped=2)
        result.stdout.fnmatch_lines(["*not in this version: since RabbitMQ 99.0, this is *"])

    def test_is_not_run_for_a_restart_of_somebody_elses_broker(self, suite):
        """Nobody wants a test suite to kill the broker that it was pointed at."""
        result = suite("def test_kills(disposable_broker): disposable_broker.kill()", "-rs")

        result.assert_outcomes(skipped=1)
        result.stdout.fnmatch_lines(["*not run: the broker was named by its URL*"])

    def test_shows_what_was_last_seen_when_a_wait_is_over(self, suite):
        """A timeout that says only that time is over sends everybody to the debugger."""
        source = "def test_waits(eventually): eventually(lambda: 'something else', 'this', within=0.05)"

        result = suite(source)

        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*expected 'this' within 0.05 s, last seen: 'something else'*"])
