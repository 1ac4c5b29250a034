"""Heartbeats: which side decides on the interval, and what a half-open connection means for deliveries.

When a connection is opened, the broker proposes a heartbeat interval and the client answers with the one to be used.
Until a dead connection is noticed, the broker goes on delivering into it.

Spec: https://www.rabbitmq.com/docs/heartbeats
Reference: PROTO-05, TUNE-03, CHAN-10
"""

import pika
import pytest
from pika import exceptions

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


class TestHeartbeatNegotiation:
    """RabbitMQ proposes an interval in `connection.tune`, 60 seconds by default; the client's `tune-ok` decides."""

    @behaviour("PROTO-05")
    @lie("heartbeat-refused")
    def test_ends_with_the_60_seconds_of_the_broker_if_the_client_names_no_interval(self, url, agreed_heartbeat):
        """A dead connection is then noticed within two or three minutes."""
        with pika.BlockingConnection(pika.URLParameters(url)) as connection:
            assert agreed_heartbeat(connection) == 60

    @behaviour("PROTO-05", "TUNE-03")
    @lie(None, because="pika answers with the interval that it was asked for, whatever the broker proposes.")
    @pytest.mark.parametrize("interval", [600, 0])
    def test_of_pika_agrees_on_its_own_interval_even_if_longer_than_that_of_the_broker_or_0(
        self, url, agreed_heartbeat, interval
    ):
        """A client may ask for more than the broker proposes, or for no heartbeats at all."""
        with pika.BlockingConnection(pika.URLParameters(f"{url}?heartbeat={interval}")) as connection:
            assert agreed_heartbeat(connection) == interval


class TestHalfOpenConnection:
    """RabbitMQ: a connection that is lost and not yet noticed."""

    @behaviour("CHAN-10")
    @lie("redelivered-lost")
    def test_requeues_messages_as_redelivered_that_its_client_never_received(
        self, proxied_connection, proxy, channel, subscribe_without_ack, receive, eventually
    ):
        """`redelivered` means that a message was sent to a consumer before, not that any consumer has seen it."""
        channel.queue_declare("work", durable=True)
        consumer = subscribe_without_ack(proxied_connection.channel(), "work")
        proxy.half_open()
        channel.basic_publish("", "work", b"never received")
        eventually(lambda: channel.queue_declare("work", passive=True).method.message_count, 0)
        proxy.cut()

        (delivery,) = receive("work")

        assert delivery.body == b"never received"
        assert delivery.redelivered is True
        with pytest.raises(exceptions.StreamLostError):
            proxied_connection.process_data_events()
        assert consumer.bodies == []
