"""Delayed retry and poison orders: how a message comes back later, and what ends it.

Some failures pass: a database restarts, a rate limit runs out. A message that is requeued comes back at once, before
all others, and a consumer that cannot handle it now spins. A retry ladder is made of what brokers have had for years:
a queue without consumers, in which a message outlives its time to live, and whose dead letters go back to where it
came from; one such queue for each delay. What fails after the last step is poison: it is put where a person looks.

Spec: https://www.rabbitmq.com/docs/dlx
Code: rmqspec/client/retry.py, rmqspec/orders/worker.py, rmqspec/orders/dead_letters.py
"""

import time

import pytest
from pika import BasicProperties, exceptions

from rmqspec.client import Outcome
from rmqspec.orders import Completed, Failures, Worker, parse, retry_ladder, sample_orders
from rmqspec.orders.dead_letters import look

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

LONG = 60_000  # milliseconds: nothing that waits so long comes back during a test
PASSING = Failures(rate=0.5, seed=1)  # of the first order only, and at its first attempt only


@pytest.fixture
def declare(channel):
    """Declares a queue: `declare("wait", message_ttl=20)` returns its name; arguments are given without the `x-`."""

    def make(name, **arguments):
        named = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
        channel.queue_declare(name, durable=True, arguments=named)
        return name

    return make


@pytest.fixture
def wait(declare):
    """A queue in which messages wait before they go to another: `wait("20ms", message_ttl=20)`."""

    def make(name, to="work", **arguments):
        return declare(name, dead_letter_exchange="", dead_letter_routing_key=to, **arguments)

    return make


@pytest.fixture
def depth(channel):
    return lambda queue: channel.queue_declare(queue, passive=True).method.message_count


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @pytest.fixture(autouse=True)
    def work(self, declare):
        return declare("work")

    @behaviour("NACK-03", "ORDER-01")
    @lie("prefetch-scope-changed")
    def test_redelivers_at_once_what_is_requeued(self, connection, channel, subscribe_without_ack):
        """A consumer that cannot handle a message now does nothing else: no pause, and no turn for those behind it."""
        for body in (b"poison", b"healthy"):
            channel.basic_publish("", "work", body)
        consumer = connection.channel()
        consumer.basic_qos(prefetch_count=1)
        spinning = subscribe_without_ack(consumer, "work")

        for times in range(1, 51):
            assert spinning.wait_for(times) == [b"poison"] * times
            consumer.basic_nack(spinning.tags[-1], requeue=True)

    @behaviour("DLX-07", "DLX-04", "XDEATH-15")
    @lie("message-ttl-longer")
    def test_brings_back_what_has_waited(self, channel, wait, receive):
        """The whole trick: time to live is the delay, the dead-letter exchange is the way back, headers come along."""
        wait("30ms", message_ttl=30)
        began = time.monotonic()
        channel.basic_publish("", "30ms", b"an order", BasicProperties(headers={"attempts": 1}))

        (back,) = receive("work")

        assert time.monotonic() - began > 0.025
        assert (back.body, back.headers.get("attempts")) == (b"an order", 1)

    @behaviour("XDEATH-16")
    @lie("message-ttl-longer")
    def test_puts_a_returning_message_at_the_end(self, channel, wait, get_without_ack, receive):
        """A delay costs a message its place: whoever needs an order among messages cannot have a retry ladder."""
        wait("20ms", message_ttl=20)
        for body in (b"first", b"second"):
            channel.basic_publish("", "work", body)

        tag, body = get_without_ack(channel, "work")
        channel.basic_publish("", "20ms", body)
        channel.basic_ack(tag)

        assert [delivery.body for delivery in receive("work", 2)] == [b"second", b"first"]

    @behaviour("TTL-06")
    @lie("message-ttl-longer")
    def test_needs_a_queue_for_each_delay(self, channel, wait, receive, depth, drain):
        """Only the head of a queue expires: behind a message that waits a minute, a second lasts a minute too."""
        for name, arguments in (("mixed", {}), ("long", {"message_ttl": LONG}), ("short", {"message_ttl": 30})):
            wait(name, **arguments)
        for queue, delay in (("mixed", LONG), ("mixed", 20), ("long", None), ("short", None)):
            expiration = delay and str(delay)
            channel.basic_publish("", queue, queue.encode(), BasicProperties(expiration=expiration))

        (back,) = receive("work")

        assert (back.body, drain("work")) == (b"short", [])
        assert [depth(queue) for queue in ("mixed", "long", "short")] == [2, 1, 0]

    @behaviour("XDEATH-02", "XDEATH-12", "XDEATH-13")
    @lie("x-death-count-wrong")
    def test_counts_how_often_it_was_rejected(self, channel, wait, subscribe_without_ack):
        """Where no client publishes on the way, the broker's own count is right, and nothing but that ends the loop."""
        wait("loop", to="pause")
        wait("pause", to="loop", message_ttl=1)
        channel.basic_publish("", "loop", b"poison")
        consumer = subscribe_without_ack(channel, "loop")

        for attempt in range(1, 4):
            consumer.wait_for(attempt)
            channel.basic_reject(consumer.tags[-1], requeue=False)
        consumer.wait_for(4)

        deaths = [
            (death["queue"], death["reason"], death["count"]) for death in consumer.headers[-1].get("x-death", [])
        ]
        assert deaths == [("pause", "expired", 3), ("loop", "rejected", 3)]

    @behaviour("XDEATH-11")
    @lie("message-ttl-longer")
    def test_drops_what_goes_round_by_itself(self, channel, declare, wait, receive, drain):
        """A circle in which nobody rejects is taken for a mistake: what comes by a second time is gone, unreported."""
        wait("first", to="second")
        declare("second", message_ttl=1, dead_letter_exchange="amq.fanout")
        for queue in ("first", "work"):
            channel.queue_bind(queue, "amq.fanout")

        channel.basic_publish("", "first", b"going round", BasicProperties(expiration="1"))

        assert [seen.body for seen in receive("work")] == [b"going round"]
        assert drain("first") == []

    @behaviour("DLX-06")
    @lie("message-ttl-longer")
    def test_drops_what_comes_back_to_no_queue(self, channel, declare, wait, depth, eventually, receive, drain):
        """Nobody would hear of a return, so there is none: whoever deletes the queue loses also what waits for it."""
        wait("20ms", to="missing", message_ttl=20)
        channel.basic_publish("", "20ms", b"lost")
        eventually(lambda: depth("20ms"), 0)

        declare("missing")
        channel.basic_publish("", "20ms", b"in time")

        assert [back.body for back in receive("missing")] == [b"in time"]
        assert drain("missing") == []

    @behaviour("DLX-09", "CHAN-03")
    @lie("dead-letter-key-lost")
    def test_refuses_a_way_back_without_an_exchange(self, connection, channel, wait):
        """Half a configuration would be a waiting queue that loses all that has waited."""
        careless = connection.channel()

        with pytest.raises(exceptions.ChannelClosedByBroker, match="routing_key_but_no_dlx") as error:
            careless.queue_declare("20ms", durable=True, arguments={"x-dead-letter-routing-key": "work"})

        assert (error.value.reply_code, careless.is_closed, connection.is_open) == (406, True, True)
        assert wait("20ms", message_ttl=20) == "20ms"

    @pytest.fixture
    def give_back(self, channel, declare, get_without_ack):
        """Takes a message from a quorum queue with delayed retries and returns it, by a `nack` or a `reject`."""

        def take_and_return(verb, **arguments):
            declare("delayed", queue_type="quorum", **arguments)
            channel.basic_publish("", "delayed", verb.encode())
            getattr(channel, f"basic_{verb}")(get_without_ack(channel, "delayed")[0], requeue=True)

        return take_and_return

    @behaviour("DELAYRETRY-01")
    @pytest.mark.rabbitmq(before="4.3")
    @lie("requeue-discards")
    def test_ignores_a_delay_for_retries(self, channel, give_back, receive):
        """An old broker takes the arguments without a word, and spins all the same."""
        give_back("reject", delayed_retry_type="all", delayed_retry_min=LONG)

        assert [again.body for again in receive("delayed")] == [b"reject"]

    @behaviour("DELAYRETRY-01", "DELAYRETRY-03")
    @pytest.mark.rabbitmq(since="4.3")
    @pytest.mark.parametrize(
        ("which", "late", "at_once"), [("failed", "reject", "nack"), ("returned", "nack", "reject")]
    )
    @lie("requeue-discards")
    def test_delays_by_the_verb_of_the_return(self, channel, give_back, receive, which, late, at_once):
        """To this broker a nack is a polite return and a reject a failure: a ladder for one is none for the other."""
        for verb in (late, at_once):
            give_back(verb, delayed_retry_type=which, delayed_retry_min=LONG)

        channel.basic_publish("", "delayed", b"later")

        assert [delivery.body for delivery in receive("delayed", 2)] == [at_once.encode(), b"later"]

    @behaviour("DELAYRETRY-02", "DELAYRETRY-04")
    @pytest.mark.rabbitmq(since="4.3")
    @lie("requeue-discards")
    def test_waits_longer_after_each_failure(self, broker, vhost, channel, declare, subscribe_without_ack):
        """A ladder without extra queues, set by an operator: the delay is multiplied by the number of failures."""
        policy = {"delayed-retry-type": "all", "delayed-retry-min": 30, "delayed-retry-max": LONG}
        broker.management.set_policy(vhost, "retry", "^delayed$", policy)
        channel.basic_publish("", declare("delayed", queue_type="quorum"), b"poison")
        consumer, began = subscribe_without_ack(channel, "delayed"), []

        for attempt in range(1, 4):
            consumer.wait_for(attempt)
            began.append(time.monotonic())
            channel.basic_reject(consumer.tags[-1], requeue=True)

        assert (began[1] - began[0] > 0.025, began[2] - began[1] > 0.055) == (True, True)


class TestWorker:
    """What our worker adds: a ladder for orders."""

    @lie("delivered-message-id-lost")
    def test_completes_an_order_whose_failure_passes(self, orders, receive):
        """A database that is away for a second must not make a person look at a thousand orders."""
        orders.producer.publish(*sample_orders(1))

        worker = orders.start(lambda source: Worker(source, failures=PASSING, retry=retry_ladder(0.02)))
        (told,) = receive("notifications")
        orders.halt(worker)

        assert parse(Completed, told.body).order_id == "00-0001"
        assert worker.consumer.outcomes == {Outcome.RETRY: 1, Outcome.ACK: 1}

    @lie("delivered-message-id-lost")
    def test_does_other_orders_while_one_waits(self, orders, receive):
        """What cannot be done now holds up nobody: it is out of the queue, and still in the broker's hands."""
        for order in sample_orders(2):
            orders.producer.publish(order)

        orders.start(lambda source: Worker(source, failures=PASSING, retry=retry_ladder(LONG / 1000)))

        (told,) = receive("notifications")
        assert (parse(Completed, told.body).order_id, orders.depth("orders.retry.60s")) == ("00-0002", 1)

    @lie("ack-rejects")
    def test_parks_poison_with_its_history(self, url, orders, eventually):
        """Counted in a header of its own: the broker's count starts anew whenever a client sends a message on."""
        orders.producer.publish(*sample_orders(1))

        orders.start(lambda source: Worker(source, failures=Failures(rate=1), retry=retry_ladder(0.02, 0.03)))
        eventually(lambda: orders.depth("orders.failed"), 1)

        found = [(letter.order_id, letter.attempts, letter.reason) for letter in look(url)]
        assert found == [("00-0001", 3, "simulated failure (x3)")]
