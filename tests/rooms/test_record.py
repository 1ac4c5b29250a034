"""The run record: what `pytest --record FILE` leaves behind.

Code: rmqspec/tools/plugin/record.py, rmqspec/tools/plugin/words.py
"""

import pytest

from rmqspec.tools.book import read

CHAPTER = '''
"""A chapter: with a title.

And a line of prose.

Spec: https://www.rabbitmq.com/docs/queues
Code: rmqspec/client/link.py, rmqspec/client/acks.py
"""
import pytest

class TestQueue:
    """What a queue promises."""

    @pytest.mark.behaviour("QUEUE-01")
    @pytest.mark.parametrize("body", [pytest.param(b"kept", id="text"), pytest.param(b"", id="nothing")])
    def test_keeps_a_message(self, channel, drain, body):
        """Else nobody would need it."""
        channel.queue_declare("q", durable=True)
        channel.basic_publish("", "q", body)

        assert drain("q") == [body]
'''

DEAD = """
def test_dies(channel, eventually):
    channel.queue_declare("dead")
    channel.queue_declare("q", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    channel.basic_publish("", "q", b"1")
    channel.basic_reject(channel.basic_get("q")[0].delivery_tag, requeue=False)
    eventually(lambda: channel.queue_declare("dead", passive=True).method.message_count, 1)
    assert channel.basic_get("dead")[1].headers["x-death"]
"""

OUTCOMES = """
import pytest

def test_writes_x_death(): pass
def test_fails(url): assert url == "else"
def test_fails_before(unknown): pass
@pytest.fixture
def broken(): yield; raise RuntimeError("too late")
def test_fails_behind(broken): pass
@pytest.mark.rabbitmq(since="99.0")
def test_of_the_future(): pass
@pytest.mark.rabbitmq(before="4.10")
@pytest.mark.rabbitmq(since="3.0", before="4.1")
def test_of_the_past_since_3_0(): pass
def test_kills(disposable_broker): pass
def test_skips(): pytest.skip("no reason")
@pytest.mark.xfail(reason="known")
def test_is_known(): assert False
def test_is_cut_off(broker, monkeypatch):
    from dataclasses import replace
    broker.endpoint = replace(broker.endpoint, port=1)  # as if it had died: no later test may need it
    raise ConnectionError("nobody listens")
"""


@pytest.fixture
def suite(pytester, broker, monkeypatch):
    """Runs pytest with --record in a process of its own, and reads what it left: `suite(source, *arguments)`."""
    pytester.makeconftest('pytest_plugins = ["rmqspec.tools.plugin"]')
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider -p no:randomly -p no:random_order")
    monkeypatch.setenv("RABBITMQ_URL", broker.endpoint.url())
    monkeypatch.setenv("RABBITMQ_MANAGEMENT_URL", broker.endpoint.management_url)
    monkeypatch.setenv("RABBITMQ_BROKER", "")

    def run(source, *arguments):
        pytester.makepyfile(test_07_chapter=source)
        result = pytester.runpytest_subprocess("--record=run.jsonl", *arguments)
        return result, pytester.path / "run.jsonl"

    return run


class TestRecordOption:
    """`pytest --record FILE`."""

    def test_records_on_what_the_run_was_made(self, suite, broker):
        """Two records are compared by it: which broker, with which features."""
        _, file = suite(CHAPTER)

        header = read(file).header
        assert (header.schema, header.product, header.version) == (1, "RabbitMQ", broker.identity.version)
        assert (header.source, header.clients.keys()) == ("url", {"rmqspec", "pika", "pytest"})
        assert "rabbitmq_management" in header.plugins
        assert "quorum_queue" in header.features

    def test_records_chapter_and_specs(self, suite):
        """The book has no other source: what is not in here is in no page of it."""
        _, file = suite(CHAPTER)

        record = read(file)
        (chapter,), spec = record.chapters, record.specs[0]
        assert (chapter.number, chapter.title, chapter.prose) == (7, "A chapter: with a title", "And a line of prose.")
        assert chapter.code == ("rmqspec/client/link.py", "rmqspec/client/acks.py")
        assert (spec.id, spec.case) == ("test_07_chapter.TestQueue.test_keeps_a_message[text]", "text")
        assert (spec.sentence, spec.about) == ("Queue keeps a message", "What a queue promises.")
        assert (spec.why, spec.behaviours) == ("Else nobody would need it.", ("QUEUE-01",))
        assert 'drain("q") == [body]' in spec.source
        assert record.footer.outcomes == {"passed": 2}

    @pytest.mark.parametrize("workers", [pytest.param((), id="alone"), pytest.param(("-n", "2"), id="two_workers")])
    def test_records_frames_under_their_spec(self, suite, workers):
        """What one test sent must not be drawn below another, whichever process it ran in."""
        result, file = suite(CHAPTER, *workers)

        result.assert_outcomes(passed=2)
        record = read(file)
        bodies = {
            spec.case: [f.body for f in spec.frames if f.method in ("basic.publish", "basic.get-ok")]
            for spec in record.specs
        }
        assert bodies == {"text": ["kept", "kept"], "nothing": ["", ""]}
        for spec in record.specs:
            assert {frame.connection for frame in spec.frames} == {spec.node}
            assert (spec.frames[0].method, spec.frames[-1].method) == ("connection.start", "connection.close-ok")
        assert (len(record.chapters), record.cut_off) == (1, False)

    @pytest.mark.parametrize("workers", [pytest.param((), id="alone"), pytest.param(("-n", "2"), id="two_workers")])
    def test_records_numbers_that_the_broker_writes_in_another_width(self, suite, workers):
        """The count in x-death has 8 bytes: a kind of int of our own, which ended a run with workers."""
        result, file = suite(DEAD, *workers)

        result.assert_outcomes(passed=1)
        (spec,) = read(file).specs
        *_, dead = [frame for frame in spec.frames if frame.method == "basic.get-ok"]
        assert dead.fields["properties"]["headers"]["x-death"][0]["count"] == 1

    def test_tells_outcomes_apart(self, suite):
        """Red is not red: a promise that is broken, one of another version, and a broker that is gone."""
        _, file = suite(OUTCOMES)

        specs = read(file).specs
        told = {spec.sentence: (spec.outcome, spec.reason.splitlines()[:1]) for spec in specs}
        versions = {spec.sentence: (spec.since, spec.before) for spec in specs}
        assert told["writes x-death"] == ("passed", [])
        assert told["fails"][0] == told["fails before"][0] == "failed"
        assert told["fails behind"] == ("failed", ["RuntimeError: too late"])
        assert told["of the future"][0] == "not in this version"
        assert versions["of the future"] == ("99.0", "")
        assert versions["of the past since 3.0"] == ("3.0", "4.1")
        assert told["kills"][0] == "not run"
        assert told["kills"][1][0].startswith("the broker was named by its URL")
        assert told["skips"] == ("not run", ["no reason"])
        assert told["is known"] == ("failed", ["as expected: known"])
        assert told["is cut off"] == ("broker not reached", ["ConnectionError: nobody listens"])

    def test_never_holds_the_password(self, suite, broker):
        """It is made to be published; the failing assert would print the whole URL."""
        source = (
            CHAPTER + "\n    def test_tells(self, channel, url): channel.basic_publish('', 'q', url); assert not url"
        )

        result, file = suite(source)

        result.assert_outcomes(passed=2, failed=1)
        assert broker.endpoint.password not in file.read_text()
        assert "assert not 'amqp://…@127.0.0.1:" in read(file).specs[-1].reason

    def test_leaves_what_was_seen_at_ctrl_c(self, suite):
        """The hour before it is not lost, and nobody takes the file for the whole run."""
        source = CHAPTER + "\nimport os, signal\ndef test_is_stopped(): os.kill(os.getpid(), signal.SIGINT)\n"

        result, file = suite(source)

        assert result.ret == pytest.ExitCode.INTERRUPTED
        record = read(file)
        assert [spec.outcome for spec in record.specs] == ["passed", "passed"]
        assert record.cut_off

    def test_never_replaces_another_file(self, suite, pytester):
        """`--record tests/test_queue.py`, with the file's name forgotten, would end that file."""
        (pytester.path / "run.jsonl").write_text("a letter")

        result, file = suite(CHAPTER)

        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: --record: *run.jsonl is there, and no run record: name another file*"])
        assert file.read_text() == "a letter"

    def test_leads_to_each_broker_by_a_way_of_its_own(self, suite):
        """A spec with a broker of its own must not talk to another; what is said in TLS nobody could note."""
        source = """
            def test_knows_its_broker(broker, route):
                urls = broker.endpoint.url(), "amqp://a:b@127.0.0.1:1/x"
                ways = {route(url) for url in urls}
                assert len(ways) == 2 and ways.isdisjoint(urls)
                assert ways == {route(url) for url in urls}
                assert route(broker.endpoint.tls_url()) == broker.endpoint.tls_url()
        """

        suite(source)[0].assert_outcomes(passed=1)

    def test_goes_straight_to_the_broker_without_it(self, url, route, request, broker):
        """A proxy between is one more thing to doubt when a spec fails; who asks for none has none."""
        if request.config.getoption("record") or request.config.getoption("late"):
            pytest.skip("not run: in this run a proxy is wanted")

        assert route(url) == url
        assert f"@{broker.endpoint.host}:{broker.endpoint.port}/" in url
