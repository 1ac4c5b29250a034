"""Auto-delete exchanges: deleted when the last binding from them is gone.

Spec: https://www.rabbitmq.com/docs/exchanges#auto-deletion
Reference: XAUTO-01, XAUTO-02
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
