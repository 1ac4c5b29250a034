"""Auto-delete exchanges: deleted when the last binding from them is gone.

Spec: https://www.rabbitmq.com/docs/exchanges#auto-deletion
Reference: XAUTO-01, XAUTO-02, XAUTO-03, XAUTO-04, XAUTO-05
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


class TestAutoDeleteExchange:
    """RabbitMQ: an exchange that was declared with `auto_delete`."""

    @behaviour("XAUTO-01", "XAUTO-02")
    @lie("exchange-auto-delete-lost")
    def test_is_deleted_when_its_last_binding_is_gone_and_not_before_its_first(self, channel, bound_queue, lookup):
        """It waits for its first binding; an unbind and the deletion of a bound queue count alike."""
        channel.exchange_declare("passing", "fanout", durable=True, auto_delete=True)
        before_any_binding = lookup("exchange", "passing")
        first = bound_queue("passing")
        last = bound_queue("passing")

        channel.queue_unbind(first, "passing", "")
        after_the_first = lookup("exchange", "passing")
        channel.queue_delete(last)
        after_the_last = lookup("exchange", "passing")

        assert before_any_binding == "exists"
        assert after_the_first == "exists"
        assert after_the_last == "missing"


class TestAutoDeleteExchangeBehindAnother:
    """RabbitMQ: an auto-delete exchange that is the destination of a binding, or whose destination is deleted."""

    @behaviour("XAUTO-03")
    @lie("unbind-ignored")
    def test_stays_when_the_bindings_to_it_are_removed(self, channel, bound_queue, is_routed, lookup):
        """Only what it feeds counts: a publisher may still use it directly."""
        channel.exchange_declare("outer", "fanout", durable=True)
        channel.exchange_declare("inner", "fanout", durable=True, auto_delete=True)
        bound_queue("inner")
        channel.exchange_bind("inner", "outer")

        channel.exchange_unbind("inner", "outer")

        assert is_routed("outer", "order") is False
        assert lookup("exchange", "inner") == "exists"

    @behaviour("XAUTO-04")
    @lie("exchange-auto-delete-lost")
    @pytest.mark.parametrize("loop", [False, True], ids=["chain", "loop"])
    def test_is_deleted_with_the_exchanges_that_route_only_to_it(self, channel, bound_queue, lookup, loop):
        """One queue goes, and with it a whole tree of exchanges that led to nothing else."""
        for name in ("outer", "middle", "inner"):
            channel.exchange_declare(name, "fanout", durable=True, auto_delete=True)
        channel.exchange_bind("middle", "outer")
        channel.exchange_bind("inner", "middle")
        queue = bound_queue("outer" if loop else "inner")
        if loop:
            channel.exchange_bind("outer", "inner")

        channel.queue_delete(queue)
        if loop:
            channel.exchange_unbind("outer", "inner")

        found = [lookup("exchange", name) for name in ("outer", "middle", "inner")]
        assert found == ["missing", "missing", "missing"]

    @behaviour("XAUTO-05")
    @lie("queue-auto-delete-lost")
    def test_is_deleted_with_its_last_auto_delete_queue(self, connection, channel, lookup, eventually):
        """The cancel of one consumer can end a queue and an exchange; the next publisher is told 404."""
        channel.exchange_declare("passing", "fanout", durable=True, auto_delete=True)
        channel.queue_declare("of one consumer", durable=True, auto_delete=True)
        channel.queue_bind("of one consumer", "passing", "")
        consumer = connection.channel()
        tag = consumer.basic_consume("of one consumer", lambda *_: None)

        consumer.basic_cancel(tag)

        eventually(lambda: lookup("exchange", "passing"), "missing")
