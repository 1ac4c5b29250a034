"""Alarms: a broker that is short of memory or disk space blocks publishers.

A broker above its memory watermark, or below its limit of free disk space, raises an alarm. It then stops reading from
connections that publish. It goes on delivering to all others, since consumers that take messages away make room.
Blocked publishers are sent `connection.blocked`, and `connection.unblocked` when all alarms have cleared; their
messages arrive late, but none is lost. The broker reads nothing from such a connection, not even acks, so publishers
and consumers need separate connections.

Flow control is another mechanism: it slows down publishers that are faster than their queues, for moments and without a
notification. It is not treated here.

Spec: https://www.rabbitmq.com/docs/alarms
Code: rmqspec/client/publisher.py, rmqspec/client/window.py, rmqspec/client/settings.py
Reference: ALARM-01…06
"""

import threading
from dataclasses import replace

import pytest

from rmqspec.client import Publisher
from rmqspec.client.errors import OutcomeUnknown, WindowFull

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq
pytestmark = pytest.mark.timeout(180)  # a broker of its own is started; it takes half a second to raise an alarm


@pytest.fixture
def url(disposable_url):
    return disposable_url


@pytest.fixture(autouse=True)
def work(channel):
    """An empty queue."""
    channel.queue_delete("work")
    channel.queue_declare("work", durable=True)


class TestAlarm:
    """RabbitMQ: an alarm of memory or disk space."""

    @behaviour("ALARM-01", "ALARM-03")
    @lie("unblock-swallowed")
    @pytest.mark.parametrize("resource", ["memory", "disk"])
    def test_blocks_connections_that_publish_and_no_others_until_it_clears(
        self, alarm, connect, channel, served, drain, receive, resource
    ):
        """Consumers go on and end the alarm by making room; a blocked message is late and not lost."""
        channel.basic_publish("", "work", b"before")
        publisher = connect()
        notifications = []
        publisher.add_on_connection_blocked_callback(lambda _, frame: notifications.append(frame.method.reason))
        publisher.add_on_connection_unblocked_callback(lambda *_: notifications.append("unblocked"))
        publisher_channel = publisher.channel()

        with alarm(resource):
            publisher_channel.basic_publish("", "work", b"late")
            served(publisher, lambda: notifications, [f"low on {resource}"])
            arrived_during_the_alarm = drain("work")

        assert arrived_during_the_alarm == [b"before"]
        served(publisher, lambda: notifications, [f"low on {resource}", "unblocked"])
        assert [delivery.body for delivery in receive("work")] == [b"late"]

    @behaviour("ALARM-03")
    @lie("block-swallowed")
    def test_sends_connection_blocked_at_the_first_publish_during_a_memory_alarm(self, alarm, connect, alarm_listener):
        """A connection that publishes nothing is not notified; a publisher learns it after it has sent a message."""
        opened_before = alarm_listener(connect())
        idle = alarm_listener(connect())
        opened_before.publish(b"before")

        with alarm("memory"):
            opened_during = alarm_listener(connect())
            before_they_publish = [list(one.notifications_so_far()) for one in (opened_before, opened_during, idle)]
            opened_before.publish(b"during")
            opened_during.publish(b"during")

            assert before_they_publish == [[], [], []]
            assert opened_before.wait_for(1) == ["low on memory"]
            assert opened_during.wait_for(1) == ["low on memory"]

        assert opened_before.wait_for(2) == ["low on memory", "unblocked"]
        assert opened_during.wait_for(2) == ["low on memory", "unblocked"]
        assert idle.notifications_so_far() == []

    @behaviour("ALARM-01")
    @lie("prefetch-ignored")
    def test_leaves_acks_of_a_blocked_connection_unread(
        self, alarm, alarm_listener, connect, channel, subscribe_without_ack
    ):
        """A consumer on the connection of a blocked publisher stands still too, and the queue does not get shorter."""
        for body in (b"1", b"2"):
            channel.basic_publish("", "work", body)
        shared = alarm_listener(connect())
        shared.channel.basic_qos(prefetch_count=1)
        consumer = subscribe_without_ack(shared.channel, "work")
        consumer.wait_for(1)

        with alarm("memory"):
            shared.publish(b"3")
            shared.wait_for(1)
            shared.channel.basic_ack(consumer.tags[0])
            # A hundred round trips later the second message has still not been delivered.
            ready = {channel.queue_declare("work", passive=True).method.message_count for _ in range(100)}

        assert ready == {1}
        assert consumer.wait_for(2) == [b"1", b"2"]

    @behaviour("ALARM-06")
    @rabbitmq(before="4.0")
    @lie(None, because="rabbitmqctl asks the node itself: nothing of that passes the proxy.")
    def test_memory_watermark_is_40_percent_before_4_0(self, disposable_broker):
        """Publishers are blocked when the broker uses more than 40 % of the memory."""
        watermark = disposable_broker.control("eval", "application:get_env(rabbit, vm_memory_high_watermark).")

        assert watermark == "{ok,0.4}"

    @behaviour("ALARM-06")
    @rabbitmq(since="4.0")
    @lie(None, because="rabbitmqctl asks the node itself: nothing of that passes the proxy.")
    def test_memory_watermark_is_60_percent_since_4_0(self, disposable_broker):
        """Half as much again as before: two brokers on one machine may now use more memory than it has."""
        watermark = disposable_broker.control("eval", "application:get_env(rabbit, vm_memory_high_watermark).")

        assert watermark == "{ok,0.6}"


class TestPublisher:
    """Our publisher: it slows its callers down, and tells them why."""

    @behaviour("ALARM-01")
    @lie("block-reason-lost")
    @pytest.mark.parametrize("window", [{"window": 2}, {"window_bytes": 2}], ids=["messages", "bytes"])
    def test_raises_window_full_with_the_alarms_reason_if_its_window_is_full_while_blocked(
        self, alarm, source, receive, settled, window
    ):
        """It keeps no more than its window: its memory does not grow, and the caller may drop, store or refuse work."""
        with Publisher(source, patience=0.5, **window) as publisher:
            with alarm("memory"):
                futures = [publisher.publish("", "work", body) for body in (b"1", b"2")]
                with pytest.raises(WindowFull, match=r"blocks publishers \(low on memory\)"):
                    publisher.publish("", "work", b"3")
                confirmed_while_blocked = [future.done() for future in futures]
            errors = [settled(future).exception() for future in futures]

        assert confirmed_while_blocked == [False, False]
        assert errors == [None, None]
        assert [delivery.body for delivery in receive("work", 2)] == [b"1", b"2"]

    @behaviour("ALARM-01")
    @lie("second-message-lost")
    def test_waits_during_a_memory_alarm_and_loses_and_repeats_no_message(
        self, alarm, open_publisher, source, receive, wait_limit
    ):
        """A caller that waits need not know of the alarm: all messages arrive, once and in order, only later."""
        bodies = [b"%d" % number for number in range(100)]
        publisher = open_publisher(source, window=10)
        caller = threading.Thread(target=lambda: [publisher.publish("", "work", body) for body in bodies])

        with alarm("memory"):
            caller.start()
            caller.join(0.1)
            waits = caller.is_alive()
        caller.join(wait_limit)

        assert waits is True
        assert [delivery.body for delivery in receive("work", 100)] == bodies

    @behaviour("ALARM-03")
    @lie("first-confirm-swallowed")
    def test_raises_outcome_unknown_and_opens_a_new_connection_if_blocked_for_longer_than_blocked_timeout(
        self, alarm, source, settled
    ):
        """Whether the broker will read what was sent is unknown; the next message does not wait behind it."""
        with Publisher(replace(source, blocked_timeout=0.05)) as publisher:
            with alarm("memory"):
                blocked = publisher.publish("", "work", b"blocked")
                with pytest.raises(OutcomeUnknown, match="unknown whether it has"):
                    settled(blocked).result()

            after = settled(publisher.publish("", "work", b"next")).exception()

        assert after is None
