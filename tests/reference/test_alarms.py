"""Alarms: clients without the capability, several alarms, dead publishers, and pika's timeout.

Spec: https://www.rabbitmq.com/docs/alarms, https://www.rabbitmq.com/docs/connection-blocked
Reference: ALARM-02…05
"""

import pika
import pytest
from pika import exceptions, frame, spec

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
pytestmark = pytest.mark.timeout(180)  # a broker of its own is started; it takes half a second to raise an alarm


@pytest.fixture
def url(disposable_url):
    return disposable_url


@pytest.fixture
def listener(connect, alarm_listener):
    return alarm_listener(connect())


@pytest.fixture
def impatient_connection(url):
    """A connection of pika that may be blocked for 50 ms."""
    connection = pika.BlockingConnection(pika.URLParameters(f"{url}?blocked_connection_timeout=0.05"))
    yield connection
    if connection.is_open:
        connection.close()


@pytest.fixture(autouse=True)
def work(channel):
    """An empty queue."""
    channel.queue_delete("work")
    channel.queue_declare("work", durable=True)


class TestAlarm:
    """RabbitMQ: an alarm of memory or disk space."""

    @behaviour("ALARM-02")
    @lie("blocked-connection-closed")
    def test_stops_reading_from_a_publisher_and_expects_no_heartbeats_from_it(self, alarm, raw_client, drain, receive):
        """However long the alarm lasts, the publisher keeps its connection; what it sends meanwhile waits in TCP."""

        def publish(body):
            method = frame.Method(1, spec.Basic.Publish(exchange="", routing_key="work"))
            return method, frame.Header(1, len(body), pika.BasicProperties()), frame.Body(1, body)

        with alarm("memory"):
            publisher = raw_client().open(1, capabilities=["connection.blocked"], heartbeat=1)
            publisher.send(*publish(b"first"))
            publisher.hears("connection.blocked")
            publisher.send(*publish(b"second"), frame.Method(2, spec.Channel.Open()))
            silent = raw_client().open(heartbeat=1)
            silent.hears_the_end(within=20)  # for its missed heartbeats; the publisher has missed more
            arrived = drain("work")

        assert b"second" not in arrived
        publisher.hears("connection.unblocked")
        publisher.hears("channel.open-ok")
        assert arrived + [delivery.body for delivery in receive("work", 2 - len(arrived))] == [b"first", b"second"]

    @behaviour("ALARM-03")
    @lie("blocked-capability-assumed")
    def test_sends_connection_blocked_only_with_the_capability(self, alarm, url, alarm_listener, listener):
        """A library without it just stands still, and its user suspects the network."""
        parameters = pika.URLParameters(url)
        parameters.client_properties = {"capabilities": {}}  # instead of pika's own, "connection.blocked" among them

        with pika.BlockingConnection(parameters) as connection:
            without = alarm_listener(connection)
            with alarm("memory"):
                without.publish(b"late")
                listener.publish(b"late")
                listener.wait_for(1)

            assert listener.wait_for(2) == ["low on memory", "unblocked"]
            assert without.notifications_so_far() == []

    @behaviour("ALARM-04")
    @lie("unblock-swallowed")
    def test_sends_connection_unblocked_only_when_all_alarms_have_cleared(
        self, alarm, connect, alarm_listener, listener, drain
    ):
        """Disk space is free again and memory is still short: the broker must not accept messages yet."""
        with alarm("memory"):
            with alarm("disk"):
                listener.publish(b"late")
                listener.wait_for(1)
            later = alarm_listener(connect())
            later.publish(b"later")
            first_notification = later.wait_for(1)[0]
            arrived = drain("work")

        assert first_notification == "low on memory"
        assert arrived == []
        assert listener.wait_for(2) == ["low on disk & memory", "unblocked"]

    @behaviour("ALARM-05")
    @lie("queue-exclusivity-lost")
    def test_notices_the_end_of_a_blocked_publisher_only_by_its_own_heartbeats(
        self, alarm, url, alarm_listener, cut, refusal, eventually
    ):
        """Nothing is read from its connection: its exclusive queues stay until the broker's own writes to it fail."""

        def ask_for_the_queue():
            return refusal(lambda channel: channel.queue_declare("its own", passive=True)).code

        with alarm("memory"):
            publisher = pika.BlockingConnection(pika.URLParameters(f"{url}?heartbeat=1"))
            publisher.channel().queue_declare("its own", exclusive=True)
            blocked = alarm_listener(publisher)
            blocked.publish(b"first")
            blocked.wait_for(1)
            cut(publisher)
            after_its_end = ask_for_the_queue()
            eventually(ask_for_the_queue, 404)

        assert after_its_end == 405


class TestPikaBlockedTimeout:
    """pika: the parameter `blocked_connection_timeout`."""

    @behaviour("ALARM-03")
    @lie("block-swallowed")
    def test_closes_a_connection_that_is_blocked_too_long(self, alarm, impatient_connection, alarm_listener):
        """A thread that waits for the broker without end does not answer its own callers either."""
        impatient = alarm_listener(impatient_connection)

        with alarm("memory"):
            impatient.publish(b"late")
            with pytest.raises(exceptions.ConnectionBlockedTimeout):
                impatient.wait_for(2)

        assert impatient.notifications == ["low on memory"]
        assert impatient_connection.is_closed
