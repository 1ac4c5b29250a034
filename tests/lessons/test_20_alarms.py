"""Flow control and alarms: when the broker asks producers to wait.

A broker whose memory or disk runs out cannot take more in, and it must not stop handing out: what is taken away
makes room. So it stops reading from connections that publish, and from those alone. They hear `connection.blocked`,
wait, and go on where they stood when the alarm is over: nothing is lost, it is all late. Whatever else such a
connection sends stays unread as well, acknowledgements too, so producers and consumers have connections of their own.
In the order system a producer slows down, and never fills its memory.

Spec: https://www.rabbitmq.com/docs/alarms
Code: rmqspec/client/publisher.py, rmqspec/client/window.py, rmqspec/client/settings.py
"""

import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest
from pika import URLParameters, exceptions

from rmqspec.client import Connection, Publisher
from rmqspec.client.errors import OutcomeUnknown, WindowFull

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
pytestmark = pytest.mark.timeout(180)  # a broker of its own is started; it takes half a second to raise an alarm

# How rabbitmqctl makes the broker believe that it has run out, and that it has enough again.
MEMORY = ("set_vm_memory_high_watermark", "0", "0.4")
DISK = ("set_disk_free_limit", "100000GB", "50MB")


@pytest.fixture(scope="module")
def alarm(disposable_broker):
    """Raises an alarm for the length of a block: `with alarm("disk"):`."""

    @contextmanager
    def raised(resource="memory"):
        command, out, enough = {"memory": MEMORY, "disk": DISK}[resource]
        disposable_broker.control(command, out)
        try:
            yield
        finally:
            disposable_broker.control(command, enough)

    return raised


@pytest.fixture
def url(disposable_url):
    return disposable_url


@pytest.fixture
def sender(connect):
    return Sender(connect())


@pytest.fixture(autouse=True)
def work(channel):
    channel.queue_delete("work")
    channel.queue_declare("work", durable=True)


class Sender:
    """A connection that publishes, and notes what it is told of alarms."""

    def __init__(self, connection):
        self.connection, self.channel, self.told = connection, connection.channel(), []
        connection.add_on_connection_blocked_callback(lambda _, frame: self.told.append(frame.method.reason))
        connection.add_on_connection_unblocked_callback(lambda _, __: self.told.append("go on"))

    def publish(self, body):
        self.channel.basic_publish("", "work", body)

    def after(self, count):
        """What it was told, once it was so often; the wait ends with the news."""
        deadline = time.monotonic() + (self.connection.patience or 10)
        while len(self.told) < count and time.monotonic() < deadline:
            self.connection.process_data_events(time_limit=1)  # returns with the first event
        return list(self.told)

    def now(self):
        """What it was told until now: the answer to a question comes behind all that was said before."""
        self.channel.queue_declare("work", passive=True)
        self.connection.process_data_events(time_limit=0)
        return self.told


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @behaviour("ALARM-01", "ALARM-03")
    @pytest.mark.parametrize("resource", ["memory", "disk"])
    @lie("unblock-swallowed")
    def test_stops_publishers_and_no_others(self, alarm, channel, sender, drain, receive, resource):
        """What consumers take away ends the alarm; and it is no error: what waits outside is late and not lost."""
        channel.basic_publish("", "work", b"before")

        with alarm(resource):
            sender.publish(b"late")
            told, served = sender.wait_for(1), drain("work")

        assert (told, served) == ([f"low on {resource}"], [b"before"])
        assert sender.wait_for(2) == [f"low on {resource}", "go on"]
        assert [delivery.body for delivery in receive("work")] == [b"late"]

    @behaviour("ALARM-03")
    @lie("unblock-swallowed")
    def test_tells_at_the_first_publish(self, alarm, connect, sender):
        """Who has nothing to publish is not bothered; a producer learns it only when it has sent something already."""
        early = Sender(connect())
        early.publish(b"before")

        with alarm():
            late = Sender(connect())
            quiet = [list(s.now()) for s in (early, late, sender)]
            for s in (early, late):
                s.publish(b"during")
            told = [s.wait_for(1) for s in (early, late)]

        assert (quiet, told) == ([[], [], []], [["low on memory"], ["low on memory"]])
        assert [early.wait_for(2), late.wait_for(2), sender.now()] == [["low on memory", "go on"]] * 2 + [[]]

    @behaviour("ALARM-03")
    @lie("unblock-swallowed")
    def test_tells_only_who_can_hear_of_it(self, alarm, url, sender):
        """A library that never heard of alarms just stands still; it looks like a network that is down."""
        parameters = URLParameters(url)
        parameters.client_properties = {"capabilities": {}}  # pika's own name "connection.blocked" among others

        with closing(Connection(parameters)) as connection:
            deaf = Sender(connection)
            with alarm():
                for each in (deaf, sender):
                    each.publish(b"late")
                sender.wait_for(1)

            assert (deaf.now(), sender.wait_for(2)) == ([], ["low on memory", "go on"])

    @behaviour("ALARM-01")
    @lie("prefetch-ignored")
    def test_leaves_a_publishers_acks_unread(self, alarm, channel, sender, subscribe_without_ack):
        """On one connection with a producer, a consumer stands still too, and the queue does not get shorter."""
        for body in (b"1", b"2"):
            channel.basic_publish("", "work", body)
        sender.channel.basic_qos(prefetch_count=1)
        consumer = subscribe_without_ack(sender.channel, "work")
        consumer.wait_for(1)

        with alarm():
            sender.publish(b"3")
            sender.wait_for(1)
            sender.channel.basic_ack(consumer.tags[0])
            # A hundred round trips later the second has still not been handed out.
            ready = {channel.queue_declare("work", passive=True).method.message_count for _ in range(100)}

        assert ready == {1}
        assert consumer.wait_for(2) == [b"1", b"2"]

    @behaviour("ALARM-04")
    @lie("unblock-swallowed")
    def test_waits_until_every_alarm_ends(self, alarm, connect, sender, drain):
        """With the disk free again the memory may still be short: one all-clear must not open the gates."""
        with alarm("memory"):
            with alarm("disk"):
                sender.publish(b"late")
                sender.wait_for(1)
            other = Sender(connect())
            other.publish(b"later")
            told, meanwhile = other.wait_for(1)[:1], drain("work")

        assert (told, meanwhile) == (["low on memory"], [])
        assert sender.wait_for(2) == ["low on disk & memory", "go on"]

    @behaviour("ALARM-05")
    @lie("consumer-tag-lost")
    def test_reads_on_from_a_dead_publisher(self, alarm, sender, cut, drain, receive):
        """It had left the publisher: a crash meanwhile takes nothing back, and who sends it again has it twice."""
        with alarm():
            sender.publish(b"sent")
            sender.wait_for(1)
            cut(sender.connection)
            assert drain("work") == []

        assert [delivery.body for delivery in receive("work")] == [b"sent"]

    @behaviour("ALARM-06")
    @pytest.mark.rabbitmq(before="4.0")
    @lie(
        None,
        because="rabbitmqctl asks the node itself: nothing of that passes the proxy.",
    )
    def test_warns_at_four_tenths_of_memory(self, disposable_broker):
        """Two such brokers on one machine, and each believes that more than half of it is the other's."""
        assert disposable_broker.control("eval", "application:get_env(rabbit, vm_memory_high_watermark).") == "{ok,0.4}"

    @behaviour("ALARM-06")
    @pytest.mark.rabbitmq(since="4.0")
    @lie(
        None,
        because="rabbitmqctl asks the node itself: nothing of that passes the proxy.",
    )
    def test_warns_at_six_tenths_of_memory(self, disposable_broker):
        """Half as much again as before: whoever set it by hand for that reason may drop the line."""
        assert disposable_broker.control("eval", "application:get_env(rabbit, vm_memory_high_watermark).") == "{ok,0.6}"


class TestPika:
    """What pika adds: patience with an end."""

    @behaviour("ALARM-03")
    @lie("block-reason-lost")
    def test_gives_up_on_a_blocked_connection(self, alarm, url, patience):
        """A thread that waits for the broker without end does not answer its own callers either."""
        impatient = Sender(Connection(URLParameters(f"{url}?blocked_connection_timeout=0.05")))
        impatient.connection.patience = patience

        with alarm():
            impatient.publish(b"late")
            with pytest.raises(exceptions.ConnectionBlockedTimeout):
                impatient.wait_for(2)

        assert (impatient.told, impatient.connection.is_open) == (["low on memory"], False)


class TestPublisher:
    """What our publisher adds: callers that are slowed down, and told why."""

    @behaviour("ALARM-01")
    @pytest.mark.parametrize("window", [{"window": 2}, {"window_bytes": 2}], ids=["messages", "bytes"])
    @lie("block-reason-lost")
    def test_tells_its_callers_of_an_alarm(self, alarm, source, receive, window):
        """The window is all that it keeps: a caller may drop, store or refuse work, and memory stays what it is."""
        with Publisher(source, patience=0.5, **window) as publisher:
            with alarm():
                taken = [publisher.publish("", "work", body) for body in (b"1", b"2")]
                with pytest.raises(WindowFull, match=r"blocks publishers \(low on memory\)"):
                    publisher.publish("", "work", b"3")
                assert [future.done() for future in taken] == [False, False]
            assert [future.result(10).message.body for future in taken] == [b"1", b"2"]
        assert [delivery.body for delivery in receive("work", 2)] == [b"1", b"2"]

    @behaviour("ALARM-01")
    @lie("unblock-swallowed")
    def test_loses_nothing_to_an_alarm(self, alarm, open_publisher, source, receive, patience):
        """A caller that waits need not know of the alarm: all arrives, once and in order, only later."""
        bodies = [b"%d" % number for number in range(100)]
        publisher = open_publisher(source, window=10)
        caller = threading.Thread(target=lambda: [publisher.publish("", "work", body) for body in bodies])
        with alarm():
            caller.start()
            caller.join(0.1)
            assert caller.is_alive()
        caller.join(patience)

        assert [delivery.body for delivery in receive("work", 100)] == bodies

    @behaviour("ALARM-03")
    def test_gives_up_a_blocked_connection(self, alarm, source):
        """Of what was sent nobody knows whether it will be read; what comes after goes through a new connection."""
        with Publisher(replace(source, blocked_timeout=0.05)) as publisher:
            with alarm():
                lost = publisher.publish("", "work", b"unknown")
                with pytest.raises(OutcomeUnknown, match="unknown whether it has"):
                    lost.result(10)

            assert publisher.publish("", "work", b"next").result(10)
