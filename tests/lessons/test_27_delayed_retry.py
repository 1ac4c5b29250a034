"""Delayed retry: a failed message waits in another queue before it is processed again.

Some failures pass: a database restarts, a rate limit ends. A message that is requeued is redelivered at once, before
all others, and a consumer that cannot process it now does nothing else. A retry ladder delays it with old and simple
means: a queue without consumers, whose messages expire, and whose dead-letter exchange brings them back to the queue
that they came from. There is one such queue for each delay. A message that still fails after the last one is a poison
message: it goes to a queue where a person looks at it. A loop in which a consumer never rejects the message is a cycle,
which the broker ends by dropping the message.

Since 4.3 a quorum queue can delay retries by itself.

Spec: https://www.rabbitmq.com/docs/dlx
Code: rmqspec/client/retry.py, rmqspec/orders/worker.py, rmqspec/orders/dead_letters.py
Reference: NACK-03, ORDER-01, TTL-06, DLX-04, DLX-06, DLX-07, DLX-09, XDEATH-02, XDEATH-11…16, DELAYRETRY-01…04
"""

import time

import pytest
from pika import BasicProperties

from rmqspec.client import Outcome
from rmqspec.orders import Completed, Failures, Worker, parse, retry_ladder, sample_orders
from rmqspec.orders.dead_letters import look

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

LONG = 60_000  # milliseconds: a message that waits so long does not return during a test
FIRST_ORDER_FAILS_ONCE = Failures(rate=0.5, seed=1)


@pytest.fixture
def work(channel):
    """The queue `work`, which consumers read."""
    channel.queue_declare("work", durable=True)
    return "work"


@pytest.fixture
def waiting_queue(channel):
    """Declares a queue whose messages go to `work` when they expire: `waiting_queue("30ms", ttl=30)`."""

    def declare(name, to="work", ttl=None):
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": to}
        if ttl is not None:
            arguments["x-message-ttl"] = ttl
        channel.queue_declare(name, durable=True, arguments=arguments)
        return name

    return declare


class TestRequeue:
    """RabbitMQ: `basic.nack` and `basic.reject` with requeue."""

    @behaviour("NACK-03", "ORDER-01")
    @lie("requeue-discards")
    def test_redelivers_the_message_at_once_before_all_others(self, channel, work, new_consumer):
        """A consumer that cannot process a message now gets nothing else, and runs in a loop without a pause."""
        channel.basic_publish("", work, b"poison")
        channel.basic_publish("", work, b"healthy")
        consumer = new_consumer(work, prefetch=1)

        for attempt in range(1, 51):
            assert consumer.wait_for(attempt) == [b"poison"] * attempt
            consumer.channel.basic_nack(consumer.tags[-1], requeue=True)


class TestWaitingQueue:
    """RabbitMQ: a queue without consumers, with a message TTL and a dead-letter exchange, which delays messages."""

    @behaviour("DLX-07", "DLX-04", "XDEATH-15")
    @lie("message-ttl-longer")
    def test_returns_messages_with_their_headers_after_its_message_ttl(self, channel, work, receive):
        """The TTL is the delay, and dead-lettering is the way back: no plugin and no timer in a client is needed."""
        channel.queue_declare(
            "30ms",
            durable=True,
            arguments={
                "x-message-ttl": 30,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": "work",
            },
        )
        began = time.monotonic()
        channel.basic_publish("", "30ms", b"an order", BasicProperties(headers={"attempts": 1}))

        (returned,) = receive(work)

        assert time.monotonic() - began > 0.025
        assert returned.body == b"an order"
        assert returned.headers["attempts"] == 1

    @behaviour("TTL-06")
    @lie("expiration-shorter")
    def test_delays_a_message_beyond_its_deadline_behind_one_with_a_later_deadline(
        self, channel, work, waiting_queue, receive, message_count, drain
    ):
        """Only the head of a queue expires: this is why a ladder has one queue for each delay."""
        mixed = waiting_queue("mixed")
        long = waiting_queue("long", ttl=LONG)
        short = waiting_queue("short", ttl=30)

        channel.basic_publish("", mixed, b"mixed long", BasicProperties(expiration=str(LONG)))
        channel.basic_publish("", mixed, b"mixed short", BasicProperties(expiration="20"))
        channel.basic_publish("", long, b"long")
        channel.basic_publish("", short, b"short")

        (returned,) = receive(work)
        assert returned.body == b"short"
        assert drain(work) == []
        assert message_count(mixed) == 2
        assert message_count(long) == 1
        assert message_count(short) == 0


class TestXDeath:
    """RabbitMQ: the header `x-death` of a message that goes round a retry loop."""

    @behaviour("XDEATH-02", "XDEATH-12", "XDEATH-13")
    @lie("x-death-count-wrong")
    def test_counts_rejects_and_expiries_per_queue(self, channel, waiting_queue, subscribe_without_ack):
        """It is right as long as no client republishes the message. The consumer has to stop the loop by this count."""
        waiting_queue("loop", to="pause")
        waiting_queue("pause", to="loop", ttl=1)
        channel.basic_publish("", "loop", b"poison")
        consumer = subscribe_without_ack(channel, "loop")

        for attempt in (1, 2, 3):
            consumer.wait_for(attempt)
            channel.basic_reject(consumer.tags[-1], requeue=False)
        consumer.wait_for(4)

        last_death, first_death = consumer.headers[-1]["x-death"]
        assert last_death["queue"] == "pause"
        assert last_death["reason"] == "expired"
        assert last_death["count"] == 3
        assert first_death["queue"] == "loop"
        assert first_death["reason"] == "rejected"
        assert first_death["count"] == 3


class TestDeadLetterCycle:
    """RabbitMQ: a message that is dead-lettered again and again to a queue in which it was before."""

    @behaviour("XDEATH-11")
    @lie("message-ttl-longer")
    def test_drops_a_message_that_was_never_rejected_when_it_returns_to_a_queue(
        self, channel, work, waiting_queue, receive, drain
    ):
        """The broker takes it for a mistake: the message is gone, and only a line in the broker's log says so, once."""
        waiting_queue("first", to="second")
        channel.queue_declare(
            "second", durable=True, arguments={"x-message-ttl": 1, "x-dead-letter-exchange": "amq.fanout"}
        )
        channel.queue_bind("first", "amq.fanout")
        channel.queue_bind(work, "amq.fanout")

        channel.basic_publish("", "first", b"in a cycle", BasicProperties(expiration="1"))

        (seen,) = receive(work)
        assert seen.body == b"in a cycle"
        assert drain("first") == []


class TestWorker:
    """Our worker with a retry ladder."""

    @lie("message-ttl-longer")
    def test_completes_an_order_that_failed_once_when_its_retry_delay_has_passed(self, orders, receive):
        """When a database is away for a second, nobody should have to look at a thousand failed orders."""
        orders.producer.publish(*sample_orders(1))

        worker = orders.start(lambda source: Worker(source, failures=FIRST_ORDER_FAILS_ONCE, retry=retry_ladder(0.02)))
        (event,) = receive("notifications")
        orders.halt(worker)

        assert parse(Completed, event.body).order_id == "00-0001"
        assert worker.consumer.outcomes == {Outcome.RETRY: 1, Outcome.ACK: 1}

    @lie("ack-swallowed")
    def test_processes_other_orders_while_a_failed_one_waits_for_its_retry(self, orders, receive):
        """The waiting order is in another queue: it delays no other order, and the broker keeps it safe."""
        for order in sample_orders(2):
            orders.producer.publish(order)

        orders.start(lambda source: Worker(source, failures=FIRST_ORDER_FAILS_ONCE, retry=retry_ladder(LONG / 1000)))

        (event,) = receive("notifications")
        assert parse(Completed, event.body).order_id == "00-0002"
        assert orders.depth("orders.retry.60s") == 1

    @lie("delivered-headers-lost")
    def test_dead_letters_a_poison_order_with_attempts_and_reason_after_the_last_retry(self, url, orders, eventually):
        """It counts attempts in a header of its own, because `x-death` starts anew when a client republishes."""
        orders.producer.publish(*sample_orders(1))

        orders.start(lambda source: Worker(source, failures=Failures(rate=1), retry=retry_ladder(0.02, 0.03)))
        eventually(lambda: orders.depth("orders.failed"), 1)

        (letter,) = look(url)
        assert letter.order_id == "00-0001"
        assert letter.attempts == 3
        assert letter.reason == "simulated failure (x3)"
