"""Connections: what happens when one is lost, and how both sides notice.

A cable is pulled, a firewall forgets a connection, a broker loses its power: TCP reports nothing, and each side may
believe for a long time that the other is there. Therefore both sides send heartbeats, and a side that misses them
closes the connection. The broker then requeues the messages that were unacked on it. Messages that were published on
it and not yet confirmed may be in their queues, or not.

Our clients reconnect by themselves. Our publisher reports the outcome of each message; our consumer declares its
topology again and receives some messages twice, but misses none.

Spec: https://www.rabbitmq.com/docs/heartbeats
Code: rmqspec/client/link.py, rmqspec/client/publisher.py, rmqspec/client/consumer.py, rmqspec/tools/wire/proxy.py
Reference: CHAN-10, ORDER-10, TUNE-01…04, PROTO-05, PROTO-16, EXCL-02, EXCL-04
"""

from concurrent.futures import ThreadPoolExecutor

import pytest
from pika import URLParameters, exceptions

from rmqspec.client import Consumer, Outcome, Publisher, Settings
from rmqspec.client.errors import OutcomeUnknown

from .lost_connections import WORK, client, killed_at_work, ready, silent_broker, silent_clients

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
pytestmark = pytest.mark.timeout(180)  # a broker of its own is killed and started again


@pytest.fixture
def proxied_url(proxy, url, channel):
    """The URL of this test's vhost through `proxy`; `url` is the direct one."""
    WORK.declare(channel)
    return proxy.url(url)


@pytest.fixture(scope="module")
def silent_url(broker, vhosts, route, lie):
    vhost = vhosts.take()
    yield route(broker.endpoint.url(vhost))
    vhosts.give_back(vhost)


@pytest.fixture(scope="module")
def pika_and_a_silent_broker(silent_url, patience):
    """It takes up to 12 s, so it runs in the background, and the other specs do not wait for it."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(silent_broker, silent_url, 6 * patience)


@pytest.fixture(scope="module")
def silence(silent_url, pika_and_a_silent_broker, patience):
    """Three clients fall silent: one with heartbeats, one that is too busy for them, one that agreed on none."""
    return silent_clients(silent_url, patience)


@pytest.fixture(scope="module")
def killed(disposable_broker, disposable_url, patience):
    """The broker is killed and started again while two publishers and a consumer are at work."""
    return killed_at_work(disposable_broker, disposable_url, patience)


class TestLostConnection:
    """RabbitMQ: a connection that ends without `connection.close`."""

    @behaviour("CHAN-10", "ORDER-10")
    @lie("redelivered-lost")
    def test_requeues_its_unacked_messages_with_redelivered_set(
        self, proxied_connection, proxy, channel, receive, eventually
    ):
        """Nothing is lost with a consumer; `redelivered` warns the next one that the work may already have begun."""
        WORK.declare(channel)
        for body in (b"acked", b"unacked", b"waiting"):
            channel.basic_publish("", "work", body)
        lost = proxied_connection.channel()
        method, _, _ = lost.basic_get("work")
        lost.basic_ack(method.delivery_tag)
        lost.basic_get("work")  # with this answer the ack, too, has arrived

        proxy.cut()
        eventually(lambda: ready(channel), 2)

        first, second = receive("work", 2)
        assert first.body == b"unacked"
        assert first.redelivered is True
        assert second.body == b"waiting"
        assert second.redelivered is False


class TestMissedHeartbeats:
    """RabbitMQ: a client that has agreed on heartbeats and sends none."""

    @behaviour("TUNE-02", "CHAN-10")
    @lie("heartbeat-refused")
    def test_close_the_clients_connection_and_requeue_its_messages(self, silence):
        """After two or three missed heartbeats another worker receives the message of the one that hangs."""
        assert silence.received == [(b"busy", True)]
        assert isinstance(silence.busy_error, exceptions.AMQPConnectionError)


class TestHeartbeats:
    """RabbitMQ: the heartbeats that client and broker agree on when a connection is opened."""

    @behaviour("TUNE-01", "TUNE-04")
    @lie("heartbeat-longer")
    def test_keep_an_idle_connection_open(self, silence):
        """A consumer may wait for hours without a message; the broker sends heartbeats too, twice per interval."""
        assert silence.idle_error is None
        assert silence.heartbeats >= 2

    @behaviour("TUNE-03")
    @lie("heartbeat-forced")
    def test_of_zero_leave_a_silent_client_connected_with_its_unacked_message(self, silence):
        """Zero switches heartbeats off: a client that hangs, or whose machine is gone, keeps its messages unacked."""
        assert silence.patient_error is None
        assert [body for body, _ in silence.received] == [b"busy"]


class TestConnectionClose:
    """RabbitMQ: a connection that the broker closes."""

    @behaviour("PROTO-16")
    @lie("connection-code-changed")
    def test_by_an_operator_sends_320_with_the_reason(self, disposable_broker, disposable_url, wait_limit):
        """The operator's reason reaches the log of each client; a lost connection gives none."""
        vhost = URLParameters(disposable_url).virtual_host
        with client(disposable_url, patience=wait_limit) as connection:
            disposable_broker.control("close_all_connections", "-p", vhost, "maintenance")

            with pytest.raises(exceptions.ConnectionClosedByBroker) as error:
                connection.process_data_events(wait_limit)

        assert error.value.reply_code == 320
        assert error.value.reply_text == "CONNECTION_FORCED - maintenance"


class TestPikaHeartbeats:
    """pika: the client's side."""

    @behaviour("TUNE-04")
    @lie(None, because="pika gives up: nothing that a broker says before it falls silent changes that.")
    def test_close_the_connection_with_amqp_heartbeat_timeout_if_the_broker_is_silent(self, pika_and_a_silent_broker):
        """By TCP alone a client that only reads waits for ever; pika waits for twice the interval plus 10 s at most."""
        assert isinstance(pika_and_a_silent_broker.result(), exceptions.AMQPHeartbeatTimeout)


class TestPublisher:
    """Our publisher: it reconnects, and reports the outcome of each message."""

    @lie("message-lost")
    def test_raises_outcome_unknown_for_an_enqueued_message_whose_confirm_was_lost(
        self, open_publisher, proxied_url, proxy, drain, eventually, settled, wait_limit
    ):
        """The message is in its queue: a caller that publishes it again, as after a failure, has it there twice."""
        publisher = open_publisher(proxied_url)
        proxy.accept_no_connections()
        proxy.drop_after(1)  # byte from the broker: its confirm is cut off
        future = publisher.publish("", "work", b"order")
        eventually(lambda: proxy.connections, 0)
        error = settled(future).exception()
        proxy.heal()
        publisher.publish("", "work", b"next")

        assert publisher.flush(wait_limit) is True
        assert isinstance(error, OutcomeUnknown)
        assert drain("work") == [b"order", b"next"]

    @lie("message-lost")
    def test_with_resend_duplicates_an_enqueued_message_whose_confirm_was_lost(
        self, open_publisher, proxied_url, proxy, drain, eventually, wait_limit
    ):
        """The price of `resend`: no message is missing, and the consumer must recognise duplicates."""
        publisher = open_publisher(proxied_url, resend=True)
        proxy.accept_no_connections()
        proxy.drop_after(1)  # byte from the broker: its confirm is cut off
        publisher.publish("", "work", b"order")
        eventually(lambda: proxy.connections, 0)
        proxy.heal()
        publisher.publish("", "work", b"next")

        assert publisher.flush(wait_limit) is True
        assert drain("work") == [b"order", b"order", b"next"]

    @lie("deliveries-swapped")
    def test_keeps_messages_until_it_reconnects_and_sends_them_in_order(
        self, open_publisher, proxied_url, proxy, receive, wait_limit
    ):
        """A shop goes on selling while its broker is away."""
        publisher = open_publisher(proxied_url, resend=True)
        proxy.accept_no_connections()
        proxy.cut()
        futures = [publisher.publish("", "work", b"%d" % number) for number in range(4)]
        done_without_a_connection = [future.done() for future in futures]
        proxy.heal()

        assert done_without_a_connection == [False, False, False, False]
        assert publisher.flush(wait_limit) is True
        assert [delivery.body for delivery in receive("work", 4)] == [b"0", b"1", b"2", b"3"]

    @lie("message-lost")
    def test_reconnects_to_the_next_of_its_urls(self, open_publisher, proxied_url, proxy, url, drain, wait_limit):
        """With the URLs of all nodes of a cluster, one lost node does not stop the publisher."""
        publisher = open_publisher(Settings(urls=(proxied_url, url)), resend=True)
        proxy.accept_no_connections()
        proxy.cut()

        publisher.publish("", "work", b"order")

        assert publisher.flush(wait_limit) is True
        assert drain("work") == [b"order"]

    @lie("persistence-lost")
    def test_loses_no_confirmed_message_when_the_broker_is_killed(self, killed):
        """This is what a confirm is for: after it the publisher may forget the message."""
        confirmed = {body for body, error in killed.unknown.items() if error is type(None)}
        received = {body for body, _ in killed.received}

        assert len(confirmed) > 100
        assert confirmed - received == set()
        assert set(killed.unknown.values()) <= {type(None), OutcomeUnknown}  # by chance all were confirmed just then

    @lie("confirm-nacked")
    def test_with_resend_loses_no_message_when_the_broker_is_killed(self, killed):
        """Nothing is missing. Duplicates are at most the window of the publisher and the prefetch of the consumer."""
        received = [body for body, _ in killed.received if body in killed.resent]
        duplicates = len(received) - len(set(received))

        assert set(killed.resent.values()) == {type(None)}
        assert set(received) == set(killed.resent)
        assert duplicates <= 100 + 100


class TestConsumer:
    """Our consumer: it reconnects, and declares its topology again."""

    @lie("delivery-lost")
    def test_redeclares_its_queue_after_a_reconnect_if_it_was_deleted_meanwhile(
        self, proxied_url, proxy, channel, eventually, settled, wait_limit
    ):
        """Its queue was deleted while it was away; without the declaration it would end with 404."""
        received = []
        source = Settings(urls=(proxied_url,), answer_timeout=wait_limit)

        def handle(delivery):
            received.append(delivery.body)
            return Outcome.ACK

        consumer = Consumer(source, "work", handle, topology=WORK)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(consumer.run)
            try:
                eventually(lambda: channel.queue_declare("work", passive=True).method.consumer_count, 1)
                proxy.accept_no_connections()
                proxy.cut()
                channel.queue_delete("work")
                proxy.heal()
                with Publisher(source) as publisher:
                    eventually(lambda: settled(publisher.publish("", "work", b"order")).exception(), None)
                eventually(lambda: received, [b"order"])
            finally:
                consumer.stop()
            running.result(wait_limit)

    @lie("redelivered-always")
    def test_resumes_consuming_after_a_broker_restart(self, killed):
        """The message was published after the restart and received in the same call of `run`: no operator is needed."""
        body, redelivered = killed.received[-1]

        assert body == b"end"
        assert redelivered is False

    @lie("redelivered-lost")
    def test_receives_an_unacked_message_again_with_redelivered_true_after_a_broker_restart(self, killed):
        """Its ack could not be sent; by `redelivered` a handler knows that this may be a duplicate."""
        unacked, _ = killed.received[99]

        assert [redelivered for body, redelivered in killed.received if body == unacked] == [False, True]
