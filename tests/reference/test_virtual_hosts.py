"""Virtual hosts: what is in a new one, and what becomes of one that is deleted.

Spec: https://www.rabbitmq.com/docs/vhosts
Reference: VHOST-04…07, VHOST-09, VHOST-11, PROTO-16, VHOST-04…06, VHOST-08, DQT-04
"""

import pytest
from pika import exceptions

from rmqspec.tools.broker import ManagementError

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq


class TestVhost:
    """RabbitMQ: a vhost that an operator creates or deletes."""

    @behaviour("VHOST-04")
    @lie("exchange-missing")
    @pytest.mark.parametrize("name", ["amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match"])
    def test_has_the_amq_exchanges_from_its_creation(self, refusal, name):
        """Programs may publish to them without a declaration."""
        assert refusal(lambda channel: channel.exchange_declare(name, passive=True)).code == 0

    @behaviour("VHOST-06")
    @lie("exchange-missing")
    def test_keeps_its_exchanges_when_it_is_created_again(self, broker, vhost, channel, refusal):
        """A script that sets up a broker can run twice."""
        channel.exchange_declare("ours", durable=True)

        broker.management.create_vhost(vhost)

        assert refusal(lambda careless: careless.exchange_declare("ours", passive=True)).code == 0

    @behaviour("VHOST-05", "PROTO-16")
    @lie("absence-hidden")
    def test_deletion_closes_its_connections_with_320_and_deletes_its_queues(
        self, broker, another_vhost, connect_as, connection, refusal, eventually
    ):
        """A vhost that is created later under the same name is empty."""
        inside = connect_as(broker.endpoint, another_vhost)
        inside.channel().queue_declare("orders", durable=True)
        eventually(lambda: another_vhost in broker.management.vhosts_used_by(broker.endpoint.user), True)

        broker.management.delete_vhost(another_vhost)

        with pytest.raises(exceptions.ConnectionClosedByBroker) as closed:
            inside.process_data_events(time_limit=10)
        assert closed.value.reply_code == 320
        assert "CONNECTION_FORCED - vhost" in closed.value.reply_text
        assert connection.channel().is_open
        broker.management.create_vhost(another_vhost)
        said = refusal(
            lambda channel: channel.queue_declare("orders", passive=True),
            on=connect_as(broker.endpoint, another_vhost),
        )
        assert said.code == 404
        assert "no queue 'orders'" in said.text


class TestDefaultQueueType:
    """RabbitMQ: a vhost that was created with the default queue type `quorum`."""

    @behaviour("VHOST-07")
    @rabbitmq(before="3.11")
    @lie("precondition-hidden")
    def test_is_ignored_before_3_11(self, quorum_by_default, refusal):
        """The request succeeds and the queues are classic: nothing is replicated, and nobody is told."""
        declared_as = [refusal(declare(kind), on=quorum_by_default).code for kind in (None, "classic", "quorum")]

        assert declared_as == [0, 0, 406]

    @behaviour("VHOST-07")
    @rabbitmq(since="3.13.4")
    @lie("precondition-hidden")
    def test_is_the_type_of_a_queue_without_x_queue_type_and_equivalent_to_it_since_3_13_4(
        self, quorum_by_default, refusal
    ):
        """Queues of programs that name no type are replicated, and both ways to declare them may be mixed."""
        declared_as = [refusal(declare(kind), on=quorum_by_default).code for kind in (None, None, "quorum", "classic")]

        assert declared_as == [0, 0, 0, 406]

    @behaviour("VHOST-08", "DQT-04")
    @rabbitmq(since="4.0")
    @lie("queue-exclusivity-lost", cases="exclusive")
    @lie("queue-auto-delete-lost", cases="auto_delete")
    @pytest.mark.parametrize("flag", ["exclusive", "auto_delete"])
    def test_does_not_apply_to_exclusive_and_auto_delete_queues_since_4_0(self, broker, vhost, channel, flag):
        """What goes with its connection needs no copies on other nodes, and a quorum queue could not be declared so."""
        broker.management.put(f"vhosts/{vhost}", {"default_queue_type": "quorum"})

        channel.queue_declare("plain", durable=True)
        channel.queue_declare("passing", durable=True, **{flag: True})

        types = {name: broker.management.get(f"queues/{vhost}/{name}")["type"] for name in ("plain", "passing")}
        assert types == {"plain": "quorum", "passing": "classic"}


def declare(queue_type):
    """Declares the durable queue `work`, of this type or without a type."""
    arguments = {} if queue_type is None else {"x-queue-type": queue_type}
    return lambda channel: channel.queue_declare("work", durable=True, arguments=arguments)


@pytest.fixture
def quorum_by_default(broker, another_vhost, connect_as):
    """A connection to a vhost with the default queue type `quorum`."""
    broker.management.create_vhost(another_vhost, default_queue_type="quorum")
    return connect_as(broker.endpoint, another_vhost)


class TestDeletionProtection:
    """RabbitMQ: a vhost that an operator has protected from deletion, by the management API."""

    @behaviour("VHOST-09", "VHOST-11")
    @rabbitmq(before="4.0.6")
    @lie(None, because="a vhost is deleted over HTTP, and lies are told on AMQP connections")
    def test_does_not_exist_before_4_0_6(self, broker, another_vhost):
        """One wrong name in a script deletes all queues of a vhost with their messages."""
        with pytest.raises(ManagementError) as error:
            broker.management.protect_vhost(another_vhost)

        assert error.value.status == 405
        broker.management.delete_vhost(another_vhost)
        assert another_vhost not in broker.management.vhosts()
        broker.management.create_vhost(another_vhost)

    @behaviour("VHOST-09", "VHOST-11")
    @rabbitmq(since="4.1")
    @lie(None, because="a vhost is deleted over HTTP, and lies are told on AMQP connections")
    def test_refuses_a_delete_with_412_since_4_0_6_until_it_is_taken_back(self, broker, another_vhost):
        """To delete it takes two steps, and nobody takes both by mistake."""
        broker.management.protect_vhost(another_vhost)

        with pytest.raises(ManagementError, match="it is protected from deletion") as error:
            broker.management.delete_vhost(another_vhost)

        assert error.value.status == 412
        assert another_vhost in broker.management.vhosts()
        broker.management.protect_vhost(another_vhost, protected=False)
        broker.management.delete_vhost(another_vhost)
        assert another_vhost not in broker.management.vhosts()
        broker.management.create_vhost(another_vhost)


class TestLogExchange:
    """RabbitMQ: the exchange `amq.rabbitmq.log` of the vhost `/`, while log.exchange is off."""

    @behaviour("VHOST-04")
    @rabbitmq(before="4.2")
    @lie("absence-hidden")
    def test_does_not_exist_before_4_2(self, broker, connect_as, refusal):
        """A program that binds to it sees at once that the broker publishes no log."""
        said = refusal(look_for_the_log, on=connect_as(broker.endpoint, "/"))

        assert said.code == 404
        assert said.closed == "channel"
        assert "no exchange 'amq.rabbitmq.log' in vhost '/'" in said.text

    @behaviour("VHOST-04")
    @rabbitmq(since="4.3")
    @lie("exchange-missing")
    def test_exists_since_4_3(self, broker, connect_as, refusal):
        """That it exists does not mean that anything is published to it: log.exchange is off by default."""
        assert refusal(look_for_the_log, on=connect_as(broker.endpoint, "/")).code == 0


def look_for_the_log(channel):
    """Declares it passively."""
    channel.exchange_declare("amq.rabbitmq.log", passive=True)
