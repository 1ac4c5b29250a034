"""Virtual hosts: what is in a new one, and what becomes of one that is deleted.

Spec: https://www.rabbitmq.com/docs/vhosts
Reference: VHOST-04…06, PROTO-16, VHOST-08, DQT-04
"""

import pytest
from pika import exceptions

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
    """RabbitMQ: a vhost whose default queue type is `quorum`."""

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
