"""Races that are lost each time: what AMQP lets come late comes late, and the rest is as it was.

Code: rmqspec/tools/wire/late.py, rmqspec/tools/plugin/late.py
"""

import socket
from contextlib import ExitStack

import pytest
from pika import BasicProperties
from pika.exceptions import ChannelClosedByBroker, StreamLostError

from rmqspec.client import connect as open_connection
from rmqspec.tools.wire import Proxy
from rmqspec.tools.wire.late import Late


@pytest.fixture
def proxy(broker):
    with Proxy(broker.endpoint.host, broker.endpoint.port) as proxy:
        yield proxy


@pytest.fixture
def late(proxy, url):
    """Opens a connection on which everything comes late that may, and no later than the seconds: `late(600)`."""
    with ExitStack() as stack:

        def connection(seconds):
            Late(seconds).stand_in(proxy)
            return stack.enter_context(open_connection(proxy.url(url), "late"))

        yield connection


@pytest.fixture
def work(channel):
    """A queue with two orders."""
    channel.queue_declare("work", durable=True)
    for body in (b"first", b"second"):
        channel.basic_publish("", "work", body)


@pytest.fixture
def depth(channel):
    """What another client sees: how many messages wait."""
    return lambda queue="work": channel.queue_declare(queue, passive=True).method.message_count


class TestLate:
    """A connection with `Late` on its way, and a broker behind it."""

    def test_lets_a_message_come_behind_a_later_question(self, late, depth, work):
        """Two channels: which of them the broker hears first nobody has promised, not even within one connection."""
        connection = late(600)
        one, other = connection.channel(), connection.channel()

        one.basic_publish("", "work", b"third")

        assert other.queue_declare("work", passive=True).method.message_count == depth() == 2
        assert one.basic_get("work", auto_ack=True)[0].message_count == 2  # an answer: the broker has heard both

    def test_keeps_nothing_for_longer_than_it_is_told(self, late, depth, work, eventually):
        """Late is not lost: nobody has to ask for it."""
        late(0.05).channel().basic_publish("", "work", b"third")

        eventually(depth, 3)

    def test_keeps_the_order_of_a_channel(self, late, channel):
        """That one is promised, and whoever counts on it is right: an answer shows that all before it was heard."""
        channel.queue_declare("work", durable=True)
        publishing = late(600).channel()
        publishing.basic_publish("", "work", b"first")
        publishing.basic_publish("", "work", b"second")

        assert [publishing.basic_get("work", auto_ack=True)[2] for _ in range(2)] == [b"first", b"second"]

    def test_loses_and_changes_nothing(self, late, channel, drain, eventually, depth):
        """A message may be larger than a frame, and a dozen may wait at once."""
        channel.queue_declare("work", durable=True)
        bodies = [bytes([number]) * 300_000 for number in range(12)]
        publishing = late(0.05).channel()
        for body in bodies:
            publishing.basic_publish("", "work", body, BasicProperties(headers={"size": len(body)}))

        eventually(depth, 12)
        assert drain("work") == bodies

    def test_tells_of_the_end_of_a_channel_before_it_has_come(self, late, depth, work):
        """RabbitMQ answers before what was fetched is back: on a busy machine the next client finds it missing."""
        fetching = late(600).channel()
        fetching.basic_get("work")
        fetching.close()

        assert (fetching.is_closed, depth()) == (True, 1)

    def test_frees_a_channel_after_its_end(self, late, depth, work, eventually):
        """The client thinks that the number is free, and uses it again at once; so it has to wait."""
        connection = late(0.05)
        fetching = connection.channel()
        fetching.basic_get("work")
        fetching.close()

        again = connection.channel()
        assert (again.channel_number, again.is_open) == (fetching.channel_number, True)
        eventually(depth, 2)

    def test_hides_no_error_behind_an_early_end(self, late, work):
        """Whoever acknowledges what he never had is told so, and not that all is well because he has closed."""
        fetching = late(600).channel()
        fetching.basic_get("work")
        fetching.basic_ack(7)

        with pytest.raises(ChannelClosedByBroker, match="unknown delivery tag 7"):
            fetching.close()

    def test_delivers_behind_the_answer_of_another_channel(self, late, depth, work, eventually):
        """A consumer that has been sent its message need not have it when another channel says so."""
        connection, seen = late(600), []
        consumer, other = connection.channel(), connection.channel()
        consumer.basic_consume("work", lambda *delivery: seen.append(delivery[-1]))
        eventually(depth, 0)

        other.queue_declare("work", passive=True)
        connection.process_data_events(0)
        assert seen == []
        consumer.queue_declare("work", passive=True)
        connection.process_data_events(0)
        assert seen == [b"first", b"second"]

    def test_tells_the_end_of_a_connection_late(self, late, proxy, depth, work, eventually):
        """A dead consumer holds its messages until the broker has noticed that it is dead; what it had said counts."""
        connection = late(600)
        connection.channel().basic_get("work")
        connection.channel().basic_publish("", "work", b"third")
        connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)  # pika cannot hang up without a goodbye
        with pytest.raises(StreamLostError):
            connection.process_data_events()

        eventually(depth, 2)
        proxy.heal()
        eventually(depth, 3)

    @pytest.mark.parametrize("seconds", [0, -1, float("nan")])
    def test_refuses_to_be_in_time(self, seconds):
        """It would look as if there were no race."""
        with pytest.raises(ValueError, match="nothing comes late: give more than 0"):
            Late(seconds)


RACE = """
    def test_finds_it_at_once(connection, channel):
        channel.queue_declare("work", durable=True)
        connection.channel().basic_publish("", "work", b"an order")
        assert channel.basic_get("work")[2] == {expected}

    def test_waits_for_it(connection, channel, receive):
        channel.queue_declare("work", durable=True)
        connection.channel().basic_publish("", "work", b"an order")
        assert [order.body for order in receive("work")] == [b"an order"]
"""


@pytest.fixture
def suite(pytester, broker, monkeypatch):
    """Runs specs in a process of its own, on the broker of this run: `suite(source, "--late=0.2")`."""
    pytester.makeconftest('pytest_plugins = ["rmqspec.tools.plugin"]')
    monkeypatch.setenv("RABBITMQ_URL", broker.endpoint.url())
    monkeypatch.setenv("RABBITMQ_MANAGEMENT_URL", broker.endpoint.management_url)
    monkeypatch.setenv("RABBITMQ_BROKER", "")

    def run(source, *arguments):
        pytester.makepyfile(source)
        return pytester.runpytest_subprocess("-p", "no:randomly", *arguments)

    return run


class TestOption:
    """`pytest --late SECONDS`."""

    @pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "two_workers"])
    def test_turns_a_race_red_and_nothing_else(self, suite, workers):
        """Who publishes on one channel and looks on another may be lucky a thousand times."""
        result = suite(RACE.format(expected=b"an order"), "--late=0.2", *workers)

        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["FAILED *::test_finds_it_at_once*"])

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--late=0",), "*--late: in 0 s nothing comes late: give more than 0, such as 0.05"),
            (("--late=1", "--record=r.jsonl"), "*--late and --record both want to stand in the wire: leave one*"),
        ],
        ids=["no_time", "recorded"],
    )
    def test_refuses_what_makes_no_sense(self, suite, arguments, words):
        """One sentence, before a broker is looked for."""
        result = suite(RACE.format(expected=None), *arguments)

        assert result.ret == 4
        result.stderr.fnmatch_lines([words])
