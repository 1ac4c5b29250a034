"""Declaring: what a program may assume about what is there.

To declare is to say what one needs. What is missing is made, what is there in the same form is left as it is, and what
is there in another form is an error: so every program can declare all that it uses, each time it starts, and none has
to start first. Who only wants to look declares passively. A mistake in any of this costs the channel on which it was
made, and nothing else.

The order system declares its topology from data, and each of its parts declares all of it.

Spec: https://www.rabbitmq.com/docs/queues#property-equivalence
Code: rmqspec/client/topology.py, rmqspec/orders/topology.py
"""

import pytest

from rmqspec.client.errors import ChannelClosed
from rmqspec.client.topology import Binding, Exchange, Queue, Topology

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


USES = {
    "declare": lambda channel: channel.queue_declare("mine", exclusive=True),
    "look": lambda channel: channel.queue_declare("mine", passive=True),
    "bind": lambda channel: channel.queue_bind("mine", "amq.direct", "order"),
    "unbind": lambda channel: channel.queue_unbind("mine", "amq.direct", "order"),
    "consume": lambda channel: channel.basic_consume("mine", lambda *_: None),
    "get": lambda channel: channel.basic_get("mine"),
    "purge": lambda channel: channel.queue_purge("mine"),
    "delete": lambda channel: channel.queue_delete("mine"),
}


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @behaviour("QDECL-03")
    @lie("queue-name-changed")
    def test_names_a_queue_that_has_no_name(self, channel):
        """Who needs a queue for himself need not think of a name that nobody else has."""
        first, second = (channel.queue_declare("", exclusive=True).method.queue for _ in range(2))

        assert (first[:8], second[:8], first != second) == ("amq.gen-", "amq.gen-", True)

    @behaviour("QDECL-04", "XDECL-08", "CHAN-03")
    @pytest.mark.parametrize(
        "mistake",
        [lambda channel: channel.queue_declare("amq.mine"), lambda channel: channel.exchange_declare("amq.mine")],
        ids=["queue", "exchange"],
    )
    @lie("refusal-hidden")
    def test_keeps_names_with_amq_for_itself(self, refusal, mistake):
        """What begins like this is the broker's own, and no program is to be taken for it."""
        said = refusal(mistake)

        assert (said.code, said.closed) == (403, "channel")
        assert "contains reserved prefix 'amq.*'" in said.text

    @behaviour("QDECL-01")
    @lie("consumer-count-wrong")
    def test_tells_how_many_wait_and_how_many_consume(self, connection, channel):
        """A declaration is the cheapest look at a queue: no management API, no other port, no other password."""
        for _ in range(3):
            channel.queue_declare("work", durable=True)
            channel.basic_publish("", "work", b"order")
        reader = connection.channel()
        reader.basic_qos(prefetch_count=1)
        reader.basic_consume("work", lambda *_: None)

        told = channel.queue_declare("work", durable=True).method

        assert (told.queue, told.message_count, told.consumer_count) == ("work", 2, 1)

    @behaviour("GET-01")
    @lie("left-count-wrong")
    def test_tells_how_many_are_left(self, channel):
        """Each look says what would come after it; the last one says zero, and the next one finds nothing."""
        channel.queue_declare("work", durable=True)
        for body in (b"first", b"second"):
            channel.basic_publish("", "work", body)

        got = [channel.basic_get("work")[0] for _ in range(3)]

        assert [each and each.message_count for each in got] == [1, 0, None]

    @behaviour("XDECL-01", "XDECL-09", "XDECL-05")
    @pytest.mark.parametrize(
        ("name", "kind", "passive"),
        [("post", "direct", False), ("post", "fanout", True), ("amq.direct", "direct", False)],
        ids=["again", "passively", "predeclared"],
    )
    @lie("direct-as-fanout")
    def test_leaves_what_is_there_as_it_is(self, channel, bound_queue, refusal, drain, name, kind, passive):
        """Each start of each program declares everything, and no order is lost by it; who only looks names no type."""
        channel.exchange_declare("post", "direct", durable=True)
        queue = bound_queue(name, "order")

        said = refusal(lambda careful: careful.exchange_declare(name, kind, durable=True, passive=passive))
        channel.basic_publish(name, "order", b"letter")
        channel.basic_publish(name, "another", b"not for you")

        assert (said.closed, drain(queue)) == ("nothing", [b"letter"])

    @behaviour("XDECL-05", "QDECL-14", "QDECL-15", "CHAN-03")
    @pytest.mark.parametrize("kind", ["queue", "exchange"])
    @lie("absence-hidden")
    def test_makes_nothing_for_who_only_looks(self, lookup, kind):
        """A monitor that declared what it watches would hide that it is gone."""
        assert [lookup(kind, "post") for _ in range(2)] == ["missing", "missing"]

    @behaviour("XDECL-02", "XDECL-04", "XAUTO-07", "CHAN-03")
    @pytest.mark.parametrize(
        "other",
        [
            {"exchange_type": "fanout"},
            {"durable": False},
            {"auto_delete": True},
            {"internal": True},
            {"arguments": {"alternate-exchange": "unrouted"}},
        ],
        ids=["type", "durable", "auto_delete", "internal", "alternate_exchange"],
    )
    @lie("mistake-costs-connection")
    def test_refuses_another_form_of_an_exchange(self, channel, refusal, other):
        """Two programs that disagree are stopped at once, and not when the first message goes astray."""
        form = {"exchange_type": "direct", "durable": True}
        channel.exchange_declare("post", **form)

        said = refusal(lambda careless: careless.exchange_declare("post", **form | other))

        assert (said.code, said.closed) == (406, "channel")
        assert "inequivalent arg" in said.text

    @behaviour("EXCL-02", "GET-04", "CHAN-03")
    @pytest.mark.parametrize("use", USES.values(), ids=USES)
    @lie("code-405-changed")
    def test_locks_an_exclusive_queue_for_others(self, connect, refusal, use):
        """A queue that one program reads alone, as that of its answers: not even its name gives it to somebody else."""
        owner = connect().channel()
        owner.queue_declare("mine", exclusive=True)
        owner.queue_bind("mine", "amq.direct", "order")

        said = refusal(use)

        assert (said.code, said.closed) == (405, "channel")
        assert "cannot obtain exclusive access to locked queue 'mine'" in said.text

    @behaviour("EXCL-01", "EXCL-03", "EXCL-05")
    @lie("cancel-ignored")
    def test_lets_others_publish_into_an_exclusive_queue(self, connect, channel):
        """What is its owner's alone is reading; he may do it on any of his channels, and stop in between."""
        owner = connect()
        owner.channel().queue_declare("mine", exclusive=True)
        reader = owner.channel()
        reader.basic_cancel(reader.basic_consume("mine", lambda *_: None))

        channel.confirm_delivery()
        channel.basic_publish("", "mine", b"an answer", mandatory=True)

        assert reader.basic_get("mine", auto_ack=True)[2] == b"an answer"

    @behaviour("QDECL-11", "CHAN-03")
    @lie("leader-locator-lost")
    def test_refuses_a_value_that_it_does_not_know(self, refusal):
        """A misspelt place for a leader is found when the queue is made, and not when a node is full of them."""
        arguments = {"x-queue-type": "quorum", "x-queue-leader-locator": "nearby"}

        said = refusal(lambda channel: channel.queue_declare("work", durable=True, arguments=arguments))

        assert (said.code, said.closed) == (406, "channel")
        assert "x-queue-leader-locator" in said.text

    @behaviour("CHAN-03")
    @lie("absence-hidden")
    def test_takes_one_channel_for_a_mistake(self, channel, refusal, drain):
        """Connections are dear and channels cheap: work that was begun beside the mistake goes on."""
        channel.queue_declare("work", durable=True)

        said = refusal(lambda careless: careless.queue_declare("nowhere", passive=True))
        channel.basic_publish("", "work", b"beside it")

        assert (said.code, said.closed, drain("work")) == (404, "channel", [b"beside it"])

    @behaviour("XAUTO-06", "CHAN-03")
    @lie("exchange-internal-lost")
    def test_takes_nothing_for_an_internal_exchange(self, channel, bound_queue, refusal, drain):
        """It stands behind another one and is nobody's address: what comes there has been looked at before."""
        channel.exchange_declare("inner", "fanout", durable=True, internal=True)
        channel.exchange_declare("outer", "fanout", durable=True)
        channel.exchange_bind("inner", "outer")
        queue = bound_queue("inner")

        said = refusal(lambda careless: publish_and_wait(careless, "inner"))
        channel.basic_publish("outer", "", b"by the front door")

        assert (said.code, said.closed) == (403, "channel")
        assert "cannot publish to internal exchange" in said.text
        assert drain(queue) == [b"by the front door"]


def publish_and_wait(channel, exchange):
    """A refusal of what is published comes with the next answer."""
    channel.basic_publish(exchange, "", b"by the back door")
    channel.basic_qos(prefetch_count=1)


class TestTopology:
    """What our code adds: what an application needs as data, declared in an order that works."""

    NEEDS = Topology(
        exchanges=(Exchange("post", "direct"),),
        queues=(Queue("letters", {"x-max-length": 10}),),
        bindings=(Binding("post", "letters", "letter"),),
    )

    @lie("binding-key-lost")
    def test_declares_what_is_missing_and_leaves_the_rest(self, channel, drain):
        """Every service does it at every start, whoever was first."""
        self.NEEDS.declare(channel)
        channel.basic_publish("post", "letter", b"kept")
        self.NEEDS.declare(channel)

        assert drain("letters") == [b"kept"]

    @lie("length-limit-lost")
    def test_says_what_contradicts_it(self, connection, channel):
        """A queue that somebody made by hand, a bit differently, is the usual reason why a service does not start."""
        channel.queue_declare("letters", durable=True)

        with pytest.raises(ChannelClosed, match=r"declaring the topology: .* inequivalent arg 'x-max-length'") as error:
            self.NEEDS.declare(connection.channel())

        assert error.value.reply_code == 406
