"""Quorum queues: messages that outlive a machine, and a limit on failures.

A classic queue lives on one machine. A quorum queue is kept by several, which agree on every message before it is
confirmed: when one of them dies, the others go on. For this it is always durable, keeps each message on disk, and
leaves out what cannot be agreed upon. It also counts how often a message was handed out in vain. A message that kills
its consumer comes back to kill the next; at the delivery limit it goes to the dead letters instead. What counts as a
failure, and how many are allowed, has changed with the versions. The order system uses classic queues; an order that
kills its worker comes back there for ever.

Spec: https://www.rabbitmq.com/docs/quorum-queues
Code: rmqspec/client/consumer.py, rmqspec/client/topology.py
"""

from contextlib import suppress

import pytest
from pika import BasicProperties, DeliveryMode, exceptions

from rmqspec.client import Consumer, connect

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
pytestmark = pytest.mark.timeout(180)  # a broker of its own is started and restarted here

QUORUM = {"x-queue-type": "quorum"}
TO_DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
TRANSIENT = BasicProperties(delivery_mode=DeliveryMode.Transient)


@pytest.fixture
def queue(channel):
    """Makes a quorum queue with a message in it, whose dead letters go to `dead`: `queue(delivery_limit=2)`."""

    def declare(name="work", **arguments):
        arguments = {f"x-{argument.replace('_', '-')}": value for argument, value in arguments.items()}
        channel.queue_declare("dead", durable=True)
        channel.queue_declare(name, durable=True, arguments=QUORUM | TO_DEAD | arguments)
        channel.basic_publish("", name, b"poison")
        return name

    return declare


@pytest.fixture
def refuse(connection, receive):
    """Gives a message back whenever it comes, but never a 22nd time: returns what each delivery counted, and the end.

    A count is the header `x-delivery-count`. The end is the reason of the dead letter: `rejected` if it came 22 times.
    """

    def each(queue, word="basic_reject"):
        consumer, counts = connection.channel(), []

        def give_back(channel, method, properties, _):
            counts.append((properties.headers or {}).get("x-delivery-count"))
            getattr(channel, word)(method.delivery_tag, requeue=len(counts) < 22)

        consumer.basic_consume(queue, give_back)
        (dead,) = receive("dead")
        consumer.close()
        return counts, dead.died_of

    return each


@pytest.fixture(scope="module")
def restarted(disposable_broker, disposable_url, disposable_source):
    """The URL after an orderly restart; a queue that was declared a moment before `kill -9` may come back empty."""
    connection = connect(disposable_source, "before the restart")
    channel = connection.channel()
    channel.confirm_delivery()
    for name in ("ledger", "held", "tried"):
        channel.queue_declare(name, durable=True, arguments=QUORUM)
        for body in (b"first", b"second"):
            channel.basic_publish("", name, body, TRANSIENT)
    assert None not in [channel.basic_get(name)[0] for name in ("held", "tried")], "what was confirmed is handed out"
    channel.basic_reject(2, requeue=True)  # the second of the two
    disposable_broker.restart()
    with suppress(exceptions.AMQPConnectionError):  # pika notices only here that the broker has gone
        connection.close()
    return disposable_url


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @behaviour("QQDECL-01", "CHAN-03")
    @pytest.mark.parametrize(
        "properties",
        [{"durable": False}, {"exclusive": True}, {"auto_delete": True}, {"queue": ""}],
        ids=["transient", "exclusive", "auto_delete", "unnamed"],
    )
    @lie("queue-look-declares")
    def test_refuses_a_quorum_queue_that_may_not_last(self, queue, refusal, lookup, properties):
        """It is for data that stays; a private or passing queue has nobody to agree with, and is a classic one."""
        lasting, declared = queue(), {"queue": "other", "durable": True, "arguments": QUORUM} | properties

        said = refusal(lambda careless: careless.queue_declare(**declared))

        assert (said.code, said.closed) == (406, "channel")
        assert "invalid property" in said.text or "server-named" in said.text
        assert lookup("queue", lasting) == "exists"

    @behaviour("QQDECL-02", "QQDECL-03", "POISON-08", "CHAN-03")
    @pytest.mark.parametrize(
        ("other", "own", "argument", "value"),
        [
            ("quorum", "classic", "max-priority", 2),
            ("classic", "quorum", "delivery-limit", 2),
            ("classic", "quorum", "dead-letter-strategy", "at-least-once"),
        ],
        ids=["priorities_of_classic", "delivery_limit_of_quorum", "strategy_of_quorum"],
    )
    @lie("mistake-costs-connection")
    def test_refuses_an_argument_of_the_other_type(self, channel, refusal, other, own, argument, value):
        """Ignored, a delivery limit on a classic queue would be a protection that is not there."""
        arguments = {f"x-{argument}": value, "x-queue-type": other}

        said = refusal(lambda careless: careless.queue_declare("work", durable=True, arguments=arguments))

        assert (said.code, said.closed) == (406, "channel")
        assert f"'x-{argument}' " in said.text
        assert said.text.endswith(f"rabbit_{other}_queue")
        channel.queue_declare("work", durable=True, arguments=arguments | {"x-queue-type": own})

    @behaviour("POISON-01", "POISON-05")
    @lie("delivery-count-lost")
    def test_dead_letters_what_failed_too_often(self, queue, refuse):
        """A limit of two allows two failures, so three deliveries; the first one carries no count."""
        work = queue(delivery_limit=2)

        assert refuse(work) == ([None, 1, 2], "delivery_limit")

    @behaviour("POISON-02")
    @pytest.mark.rabbitmq(before="4.0")
    @lie("discard-requeues")
    def test_has_no_delivery_limit_of_its_own(self, queue, refuse):
        """Who declares none has a loop that only a person can end, as on a classic queue."""
        counts, end = refuse(queue())

        assert (len(counts), end) == (22, "rejected")

    @behaviour("POISON-02")
    @pytest.mark.rabbitmq(since="4.0")
    @lie("x-death-reason-wrong")
    def test_limits_the_failures_to_20_by_default(self, queue, refuse):
        """The trap of the upgrade: without a dead-letter exchange, what was retried for ever is now deleted."""
        counts, end = refuse(queue())

        assert (len(counts), end) == (21, "delivery_limit")

    @behaviour("POISON-03")
    @pytest.mark.rabbitmq(before="4.0")
    @lie("delivery-limit-lost")
    def test_takes_minus_one_for_no_failure_at_all(self, queue, refuse):
        """What later lifts the limit here allows nothing: the first failure is the last."""
        assert refuse(queue(delivery_limit=-1)) == ([None], "delivery_limit")

    @behaviour("POISON-03")
    @pytest.mark.rabbitmq(since="4.0")
    @lie("delivery-limit-lost")
    def test_lifts_the_delivery_limit_by_minus_one(self, queue, refuse):
        """For queues whose consumers give messages back on purpose, and count for themselves."""
        counts, end = refuse(queue(delivery_limit=-1))

        assert (len(counts), end) == (22, "rejected")

    @behaviour("POISON-04")
    @pytest.mark.rabbitmq(before="4.3")
    @lie("delivery-count-lost")
    def test_counts_a_nack_as_a_failure(self, queue, refuse):
        """To the broker giving back is giving back: `not now` uses up the limit as `I failed` does."""
        assert refuse(queue(delivery_limit=2), "basic_nack") == ([None, 1, 2], "delivery_limit")

    @behaviour("POISON-04")
    @pytest.mark.rabbitmq(since="4.3")
    @lie("discard-requeues")
    def test_counts_no_nack_as_a_failure(self, queue, refuse):
        """A nack says `not now`, a reject says `I failed`: a consumer that only nacks is never protected."""
        assert refuse(queue(delivery_limit=2), "basic_nack") == ([None] * 22, "rejected")

    @behaviour("POISON-06")
    @pytest.mark.rabbitmq(since="4.3")
    @lie("delivery-count-lost")
    def test_counts_every_hand_out_apart(self, channel, queue, get_without_ack, receive):
        """How often it was given to somebody, whether that failed or not: a nacked message shows its age here."""
        work = queue()
        for give_back in (channel.basic_nack, channel.basic_reject):
            give_back(get_without_ack(channel, work)[0], requeue=True)

        (delivery,) = receive(work)

        counts = [delivery.headers.get(f"x-{what}-count") for what in ("acquired", "delivery")]
        assert counts == [2, 1]

    @behaviour("POISON-07")
    @lie("delivery-count-lost")
    def test_obeys_the_lesser_of_policy_and_argument(self, broker, vhost, queue, refuse):
        """An operator can tighten a limit that stands in somebody's code; loosen it they cannot."""
        broker.management.set_policy(vhost, "limit", ".*", {"delivery-limit": 1})

        strict, lax = queue("strict", delivery_limit=0), queue("lax", delivery_limit=3)

        assert (refuse(strict), refuse(lax)) == (([None], "delivery_limit"), ([None, 1], "delivery_limit"))

    @behaviour("POISON-09", "POISON-04")
    @lie("delivery-count-lost")
    def test_blames_a_crash_on_all_that_was_held(self, connect, channel, queue, subscribe_without_ack, cut, receive):
        """One poisoned message drags along its neighbours in the prefetch window, whom nobody had touched."""
        work = queue()
        channel.basic_publish("", work, b"neighbour")
        crashing = connect()
        subscribe_without_ack(crashing.channel(), work).wait_for(2)

        cut(crashing)
        deliveries = receive(work, 2)

        counts = {delivery.body: delivery.headers.get("x-delivery-count") for delivery in deliveries}
        assert counts == {b"poison": 1, b"neighbour": 1}


class TestRestart:
    """What the broker promises when it was restarted."""

    @pytest.fixture
    def url(self, restarted):
        return restarted

    @behaviour("QDUR-03")
    @lie("queue-type-lost")
    def test_keeps_even_a_transient_message(self, drain):
        """All is written down before it is agreed on: who sends as transient to spare the disk spares nothing."""
        assert drain("ledger") == [b"first", b"second"]

    @behaviour("QDUR-07", "POISON-04")
    @pytest.mark.parametrize("name", ["held", "tried"])
    @lie("delivery-count-lost")
    def test_remembers_the_failures_over_a_restart(self, receive, name):
        """Else a poisoned message would be as good as new each time the broker is updated; a restart counts itself."""
        deliveries = receive(name, 2)

        counts = {each.body: each.headers.get("x-delivery-count") for each in deliveries}
        assert counts == {b"first": 1, b"second": None}


class TestConsumer:
    """What our consumer adds."""

    @behaviour("POISON-04")
    @lie("delivery-limit-lost")
    def test_is_killed_no_more_often_than_the_limit(self, source, queue, receive, run_until_it_ends):
        """A handler that raises ends its consumer, however often it is started again: the limit ends the loop."""
        work, killed_by = queue(delivery_limit=2), []

        def die(delivery):
            killed_by.append(delivery.body)
            raise MemoryError

        for _ in range(3):
            with pytest.raises(MemoryError):
                run_until_it_ends(Consumer(source, work, die))

        (dead,) = receive("dead")
        assert (dead.body, dead.died_of) == (b"poison", "delivery_limit")
        assert killed_by == [b"poison"] * 3
