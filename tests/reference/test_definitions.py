"""Definitions: a topology that is exported over HTTP and imported elsewhere, and messages that are published so.

Spec: https://www.rabbitmq.com/docs/definitions, https://www.rabbitmq.com/docs/http-api-reference
Reference: DEFS-01…05
"""

import pytest

from rmqspec.tools.broker.errors import ManagementError

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def export(broker, vhost):
    """The definitions of this test's vhost, as they are now: `export()["queues"]`."""
    return lambda: broker.management.get(f"definitions/{vhost}")


@pytest.fixture
def load(broker, vhost):
    """Imports definitions into this test's vhost, or into another: `load(definitions, another_vhost)`."""
    return lambda definitions, where=vhost: broker.management.post(f"definitions/{where}", definitions)


class TestExport:
    """RabbitMQ: the definitions of a vhost over HTTP."""

    @behaviour("DEFS-01")
    @lie("binding-lost", "length-limit-lost")
    def test_can_be_imported_into_another_vhost_with_queues_arguments_bindings_and_policies(
        self, broker, vhost, another_vhost, channel, export, load, connect_as
    ):
        """So a topology moves to another broker; the messages do not."""
        channel.exchange_declare("shop", "direct", durable=True)
        channel.queue_declare("orders", durable=True, arguments={"x-max-length": 1})
        channel.queue_bind("orders", "shop", "order")
        channel.basic_publish("shop", "order", b"stays")
        broker.management.set_policy(vhost, "limit", "^by policy$", {"max-length": 1})

        load(export(), another_vhost)

        there = connect_as(broker.endpoint, another_vhost).channel()
        there.confirm_delivery()
        there.queue_declare("by policy", durable=True)
        for body in (b"first", b"second"):
            there.basic_publish("shop", "order", body)
            there.basic_publish("", "by policy", body)
        assert [there.basic_get("orders", auto_ack=True)[2] for _ in range(2)] == [b"second", None]
        assert [there.basic_get("by policy", auto_ack=True)[2] for _ in range(2)] == [b"second", None]

    @behaviour("DEFS-03")
    @lie("queue-exclusivity-lost")
    def test_leaves_exclusive_queues_out(self, channel, export):
        """They belong to a connection that will not be there."""
        channel.queue_declare("own", durable=True, exclusive=True)
        channel.queue_declare("everybody's", durable=True)

        names = [queue["name"] for queue in export()["queues"]]

        assert names == ["everybody's"]


class TestImport:
    """RabbitMQ: definitions that are posted to a vhost that is in use."""

    @behaviour("DEFS-02")
    @lie("message-lost")
    def test_adds_missing_queues_and_deletes_nothing(self, channel, export, load, lookup, drain):
        """An import can be repeated; what should go must be deleted by hand."""
        channel.queue_declare("exported", durable=True)
        definitions = export()
        channel.queue_declare("later", durable=True)
        channel.queue_delete("exported")
        channel.basic_publish("", "later", b"kept")

        load(definitions)
        load(definitions)

        assert lookup("queue", "exported") == "exists"
        assert drain("later") == [b"kept"]

    @behaviour("DEFS-04")
    @lie("exchange-missing")
    def test_that_is_refused_in_part_with_400_is_not_undone(self, load, lookup, eventually):
        """One wrong queue in a large file leaves the rest of it there: repair the file, and import it again."""
        wrong = {"name": "wrong", "durable": True, "auto_delete": False, "arguments": {"x-max-length": -1}}
        exchange = {"name": "shop", "type": "direct", "durable": True, "auto_delete": False, "internal": False}
        definitions = {"exchanges": [exchange | {"arguments": {}}], "queues": [wrong], "bindings": [], "policies": []}

        with pytest.raises(ManagementError, match=r"answered 400.*invalid arg 'x-max-length' for queue 'wrong'"):
            load(definitions)

        eventually(lambda: lookup("exchange", "shop"), "exists")
        assert lookup("queue", "wrong") == "missing"


class TestPublishOverHttp:
    """RabbitMQ: a message that is published over HTTP."""

    @pytest.fixture
    def publish(self, broker, vhost, channel):
        """Publishes to `amq.direct`: `publish("order", expiration="60000")` is the broker's answer."""
        channel.queue_declare("orders", durable=True)
        channel.queue_bind("orders", "amq.direct", "order")

        def post(key, **properties):
            message = {"properties": properties, "routing_key": key, "payload": "one", "payload_encoding": "string"}
            return broker.management.post(f"exchanges/{vhost}/amq.direct/publish", message)

        return post

    @behaviour("DEFS-05")
    @lie("binding-lost")
    def test_is_answered_by_whether_it_was_routed(self, publish, drain):
        """A misspelt key is no error, and is told all the same."""
        assert publish("order") == {"routed": True}
        assert publish("another key") == {"routed": False}

        assert drain("orders") == [b"one"]

    @behaviour("DEFS-05")
    @lie("published-twice")
    @pytest.mark.parametrize("expiration", ["soon", 60_000], ids=["no_number", "number_instead_of_text"])
    def test_with_an_expiration_that_is_no_number_in_a_text_is_refused_with_400(
        self, publish, channel, drain, expiration
    ):
        """The same rule as over AMQP: milliseconds, as a text."""
        with pytest.raises(ManagementError, match=r"answered 400.*expiration"):
            publish("order", expiration=expiration)

        channel.basic_publish("amq.direct", "order", b"another")
        assert drain("orders") == [b"another"]
