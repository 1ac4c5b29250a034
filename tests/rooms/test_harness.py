"""The harness: what pytest shows, what a run starts, and how it fails."""

import importlib
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "conftest.py"  # of course and shelf
ROOMS = [ROOT / "tests" / room for room in ("", "lessons", "reference", "rooms")]
HELPERS = [path for room in ROOMS for path in room.glob("*.py") if not re.match("test_|conftest", path.name)]

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

    @pytest.mark.parametrize("where", ["command-line", "environment"])
    def test_refuses_an_unknown_source_without_repeating_it(self, suite, where):
        """In one sentence, with pytest's exit code for a usage error."""
        slip = "amqp://guy:secret@host"

        result = (
            suite(SPEC, RABBITMQ_BROKER=slip) if where == "environment" else suite(SPEC, f"--rabbitmq-broker={slip}")
        )

        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert "is none of auto, url, container, node, package: correct it" in result.stderr.str()
        assert "secret" not in result.stdout.str() + result.stderr.str()


COURSE = '''
"""A chapter: with a title.

And a line of prose that is so long that it does not fit into the eighty columns of a
terminal and has to be wrapped there.

Spec: https://www.rabbitmq.com/docs/queues
"""
import pytest

class TestQueue:
    """RabbitMQ: what a queue keeps."""

    def test_keeps_a_message(self, channel, drain):
        """Nobody has to be there when a message comes."""
        channel.queue_declare("q", durable=True)
        channel.basic_publish("", "q", b"kept")

        assert drain("q") == [b"kept"]

    @pytest.mark.rabbitmq(since="99.0")
    def test_of_the_future(self):
        """It is not there yet."""
'''


class TestCourse:
    """Under -v."""

    def test_reads_as_chapter_subject_spec_and_reason(self, suite):
        """The names are the catalogue, and the reasons are what one learns."""
        result = suite(COURSE, "-v")

        result.stdout.fnmatch_lines(
            [
                "7. A chapter: with a title",
                "   And a line of prose that is so long that it does not fit into the eighty",
                "   columns of a terminal and has to be wrapped there.",
                "   Spec: https://www.rabbitmq.com/docs/queues",
                "   RabbitMQ: what a queue keeps.",
                "*::TestQueue::test_keeps_a_message PASSED*",
                "      Nobody has to be there when a message comes.",
                "   1 spec, * s; of other versions: 1 since RabbitMQ 99.0",
            ]
        )

    def test_opens_each_part(self, suite, pytester):
        """Thirty chapters without parts are a heap."""
        ini = pytester.path / "tox.ini"
        ini.write_text(ini.read_text() + "\nrmqspec_parts =\n    1 I. The first part\n    8 II. Another\n")

        result = suite(COURSE, "-v")

        result.stdout.fnmatch_lines(["I. THE FIRST PART", "7. A chapter: with a title"])
        assert "ANOTHER" not in result.stdout.str()

    def test_names_the_next_chapter(self, suite, pytester):
        """So one knows how far one has come."""
        pytester.makepyfile(test_08_next='"""The next: a chapter."""\ndef test_it(): pass')

        result = suite(COURSE, "-v")

        result.stdout.fnmatch_lines(
            ["   1 spec, * s; of other versions: 1 since RabbitMQ 99.0; next: 8. The next:", "   a chapter"]
        )

    @pytest.mark.parametrize("options", [[], ["-v", "-n", "2"]], ids=["dots", "workers"])
    def test_is_not_told_to_whoever_reads_something_else(self, suite, options):
        """Who asks for dots gets dots; with several processes the chapters come mixed."""
        assert "prose" not in suite(COURSE, *options).stdout.str()

    def test_says_beneath_a_spec_why_it_is_not_run(self, suite):
        """pytest completes the line of a result after its reports: whoever writes earlier makes it begin again."""
        source = '''
            """A chapter: with a title."""
            import pytest
            class TestBroker:
                def test_is_killed(self, disposable_broker):
                    """Its messages stay."""
                @pytest.mark.parametrize("case", ["one", "two"])
                def test_is_asked(self, case):
                    """It answers."""
                    pytest.skip("not run: nobody answers")
        '''

        result = suite(source, "-v")

        result.stdout.fnmatch_lines(
            [
                "*::TestBroker::test_is_killed SKIPPED *",
                "      not run: the broker was named by its URL: specs that restart or kill one",
                "*::TestBroker::test_is_asked[[]one[]] SKIPPED *",
                "      not run: nobody answers",
                "*::TestBroker::test_is_asked[[]two[]] SKIPPED *",
                "   0 specs, * s; not run: 2",
            ]
        )
        assert len([line for line in result.outlines if "::" in line]) == 3
        assert result.outlines.count("      not run: nobody answers") == 1

    def test_counts_a_spec_whose_set_up_fails_and_gives_its_reason(self, suite):
        """Eight names above `7 specs` are one riddle more for whoever looks for the fault."""
        source = '''
            """A chapter: with a title."""
            import pytest
            class TestQueue:
                @pytest.fixture
                def queue(self): assert False
                def test_keeps_a_message(self, queue):
                    """Nobody has to be there when a message comes."""
        '''

        result = suite(source, "-v")

        result.stdout.fnmatch_lines(
            [
                "*::TestQueue::test_keeps_a_message ERROR*",
                "      Nobody has to be there when a message comes.",
                "   1 spec, * s",
            ]
        )

    def test_is_not_told_where_another_reporter_writes(self, suite, pytester):
        """pytest-sugar redraws its lines in a terminal: prose between them would be torn apart."""
        conftest = """
            import pytest
            pytest_plugins = ["rmqspec.tools.plugin"]
            class Another(pytest.TerminalReporter): pass
            @pytest.hookimpl(trylast=True)
            def pytest_configure(config):
                config.pluginmanager.unregister(name="terminalreporter")
                config.pluginmanager.register(Another(config), "terminalreporter")
        """
        pytester.makeconftest(conftest)

        result = suite(COURSE, "-v")

        result.assert_outcomes(passed=1, skipped=1)
        assert "prose" not in result.stdout.str()

    def test_reads_its_lists_to_their_end(self, suite):
        """Ids in a second line are no prose."""
        source = COURSE.replace(
            "/queues\n", "/queues,\nhttps://www.rabbitmq.com/docs/ttl\nReference: QDECL-01,\nTTL-01\n"
        )

        result = suite(source, "-v", COLUMNS="120")

        result.stdout.fnmatch_lines(
            [
                "   Spec: https://www.rabbitmq.com/docs/queues, https://www.rabbitmq.com/docs/ttl",
                "   Reference: QDECL-01, TTL-01",
            ]
        )


class TestKeywords:
    """What `-k` looks at."""

    @pytest.mark.parametrize("words", ["max_length", "MAXLEN-01", "drops_the_oldest"])
    def test_find_a_spec_by(self, suite, words):
        """A class is written without underscores, and a learner searches the field's own word."""
        source = """
            import pytest
            class TestMaxLength:
                @pytest.mark.behaviour("MAXLEN-01")
                def test_drops_the_oldest_message(self): pass
            class TestOther:
                def test_it(self): pass
        """

        suite(source, "-k", words).assert_outcomes(passed=1, deselected=1)


class TestFailure:
    """A spec that fails."""

    def test_says_what_broke_why_it_matters_and_where_to_read(self, suite):
        """A red line in CI is read by somebody who has not written the spec."""
        result = suite(COURSE.replace('== [b"kept"]', '== [b"lost"]'))

        result.stdout.fnmatch_lines(
            [
                '>*assert drain("q") == [[]b"lost"[]]*',
                "E*assert [[]b'kept'[]] == [[]b'lost'[]]*",
                "*What this spec says*",
                "7. A chapter: with a title",
                "   Queue keeps a message",
                "   Nobody has to be there when a message comes.",
                "   Spec: https://www.rabbitmq.com/docs/queues",
            ]
        )

    def test_shows_the_line_of_the_spec_that_waited_in_vain(self, suite):
        """What a helper looks like inside is of no interest."""
        source = """
            def test_waits(channel, receive):
                channel.queue_declare("q")
                receive("q", within=0.05)
        """

        result = suite(source)

        result.stdout.fnmatch_lines([">*receive(*within=0.05)*", "E*'q': 1 message(s) expected within 0.05 s, came: *"])
        assert "inactivity_timeout" not in result.stdout.str()

    def test_names_the_message_whose_confirm_did_not_come(self, suite, pytester):
        """Frames of `concurrent/futures` and the word `TimeoutError` do not say what was awaited, nor what came."""
        pytester.makeconftest(f"{FIXTURES.read_text()}\npytest_plugins = ['rmqspec.tools.plugin']")
        source = """
            from concurrent.futures import Future
            def publish(body, *confirms):
                future = Future()
                future.message = body
                for confirm in confirms: future.set_result(confirm)
                return future
            def test_waits(settled):
                settled(publish("the first", "ack"))
                settled(publish("the second"))
        """

        result = suite(source, "--patience", "0.05", PYTHONPATH=str(FIXTURES.parents[1]))

        result.stdout.fnmatch_lines(
            [
                '>*settled(publish("the second"))',
                "E*no confirm within 0.05 s for the second; confirmed so far: 1",
            ]
        )
        assert "concurrent/futures" not in result.stdout.str()

    def test_shortens_the_waits_of_its_chapter(self, suite):
        """What is missing once is mostly missing again: thirteen waits of ten seconds teach nothing more."""
        source = """
            def test_fails(): assert False
            def test_waits(wait_limit): assert wait_limit == 2.0
        """

        suite(source).assert_outcomes(passed=1, failed=1)


class TestSettings:
    """pyproject.toml: how pytest shows course and shelf."""

    def test_show_both_keys_that_differ_and_no_reason_of_a_skip_twice(self, suite, monkeypatch):
        """The one line that would have named the key was cut off; 38 reasons stood between it and the end."""
        for name in ("CI", "BUILD_NUMBER"):  # where pytest cuts nothing off
            monkeypatch.delenv(name, raising=False)
        source = """
            import pytest
            def test_of_a_key(): assert [b"this key"] == [b"that key"]
            def test_of_a_broker(): pytest.skip("not run: nobody answers")
        """

        result = suite(source, "-v", "-c", str(ROOT / "pyproject.toml"), "--rootdir", ".", "test_07_chapter.py")

        result.stdout.fnmatch_lines(["E *-* b'that key',", "E *+* b'this key',"])
        assert "SKIPPED [1]" not in result.stdout.str()


class TestHelpers:
    """Modules of tests/ that are no tests: what specs import."""

    @pytest.mark.parametrize("path", HELPERS, ids=lambda path: str(path.relative_to(ROOT / "tests")))
    def test_explain_their_asserts(self, path):
        """An assert in a module that pytest has not rewritten says `AssertionError`, and not what came."""
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)

        helper = importlib.import_module(name)

        assert type(helper.__spec__.loader) is type(__spec__.loader)  # this test's, which is rewritten


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

    @pytest.mark.parametrize(
        ("opening", "name"),
        [
            ("pika.BlockingConnection(pika.URLParameters(url))", "one of pika's to 127.0.0.1:*, without a name"),
            ("pika.BlockingConnection([pika.URLParameters(url + NAMED)])", "mine"),
            ("connect(url, 'mine')", "mine"),
            ("Connection(pika.URLParameters(url))", "one of pika's to 127.0.0.1:*, without a name"),
        ],
        ids=["pika", "with_a_name", "ours", "of_our_class"],
    )
    def test_is_failure_for_a_connection_of_pika_left_open(self, suite, opening, name):
        """Whose class it is does not matter: production code that uses pika alone forgets connections too."""
        source = f"""
            import pika
            from rmqspec.client import Connection, connect
            NAMED = '?client_properties={{"connection_name": "mine"}}'
            left = []
            def test_forgets(url): left.append({opening})
            def test_closes(url): {opening}.close()
            def test_drops(url): {opening}
            def test_is_innocent(channel): assert channel.is_open
        """

        result = suite(source, "-v", "-W", "error")

        result.assert_outcomes(passed=4, errors=2)
        result.stdout.fnmatch_lines(["*::test_forgets ERROR*", "*::test_drops ERROR*"])
        said = [line for line in result.outlines if line.startswith("this test left ")]
        assert len(said) == 2
        assert all(fnmatch(line, f"this test left 1 connection(s) open: {name}") for line in said)

    def test_is_not_changed_by_a_connection_to_somewhere_else(self, suite):
        """What is opened once for a module, or in another vhost, is none of this test's."""
        source = """
            import pika, pytest
            @pytest.fixture(scope="module")
            def elsewhere(broker):
                with pika.BlockingConnection(pika.URLParameters(broker.endpoint.url())) as connection:
                    yield connection
            def test_uses_both(channel, elsewhere): assert channel.is_open
            def test_uses_both_again(channel, elsewhere): assert elsewhere.is_open
        """

        suite(source).assert_outcomes(passed=2)

    def test_is_a_failure_of_that_test_alone(self, suite):
        """Ten innocent tests after it would hide which of them has forgotten it."""
        source = """
            from rmqspec.client import Publisher
            left = []
            def test_forgets(url): left.append(Publisher(url))
            def test_is_innocent(channel): assert channel.is_open
            def test_is_innocent_too(channel): assert channel.is_open
        """

        suite(source).assert_outcomes(passed=3, errors=1)

    def test_is_quiet_after_ctrl_c(self, suite):
        """Who ends a run has not asked for fifty lines about connections that could not be closed."""
        source = """
            import os, signal
            from rmqspec.client import connect
            def test_is_interrupted(url):
                left = connect(url, "open")
                os.kill(os.getpid(), signal.SIGINT)
                left.process_data_events(5)
        """

        result = suite(source)

        assert result.ret == pytest.ExitCode.INTERRUPTED
        assert "left 1 connection" not in result.stdout.str() + result.stderr.str()
        assert len(result.outlines) < 20, result.outlines
        assert result.stderr.str() == ""

    def test_is_quiet_after_ctrl_c_in_the_set_up_of_a_command(self, suite, pytester):
        """pytest cannot tear down its own `tmp_path` of a spec that was never called: 80 lines, and exit code 1."""
        pytester.makeconftest(f"{FIXTURES.read_text()}\npytest_plugins = ['rmqspec.tools.plugin']")
        source = """
            import os, pytest, signal
            @pytest.fixture
            def interrupted(run): os.kill(os.getpid(), signal.SIGINT)
            def test_is_never_called(interrupted): pass
        """

        result = suite(source, PYTHONPATH=str(FIXTURES.parents[1]))

        assert result.ret == pytest.ExitCode.INTERRUPTED
        assert "Traceback" not in result.stdout.str() + result.stderr.str()
        assert len(result.outlines) < 20, result.outlines

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
