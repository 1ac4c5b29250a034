"""The lease of a queue: what counts as use of a queue with `x-expires`.

Spec: https://www.rabbitmq.com/docs/ttl#queue-ttl
Reference: QAUTO-06, QAUTO-07
"""

import time

import pytest
from pika.exceptions import ChannelClosedByBroker

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

USES = {
    "declare": lambda channel, name, lease: channel.queue_declare(name, durable=True, arguments={"x-expires": lease}),
    "passive_declare": lambda channel, name, _: channel.queue_declare(name, passive=True),
    "basic_get": lambda channel, name, _: channel.basic_get(name, auto_ack=True),
}


@pytest.fixture
def states_after(connection, exists):
    """What becomes of a queue that is used, and of one that is not, after a lease in milliseconds.

    `states_after(use, lease=200)` is a pair, such as `("exists", "missing")`; None if so much time passed between two
    uses that the lease may have ended meanwhile.
    """

    def state(name):
        return "exists" if exists(name) else "missing"

    def compare(use, lease):
        channel = connection.channel()
        used = f"used {lease}"
        unused = f"unused {lease}"
        last = time.monotonic()  # the broker heard of the last use no earlier
        for name in (used, unused):
            channel.queue_declare(name, durable=True, arguments={"x-expires": lease})
        end = last + 3 * lease / 1000
        while exists(unused) and last < end:
            began = time.monotonic()
            try:
                use(channel, used, lease)
            except ChannelClosedByBroker:  # it is missing
                break
            if time.monotonic() - last >= lease / 1000:
                return None
            last = began
        states = (state(used), state(unused))
        return states if time.monotonic() - last < lease / 1000 else None

    return compare


class TestQueueLease:
    """RabbitMQ: `x-expires` of a classic queue without consumers."""

    @behaviour("QAUTO-06", "QAUTO-07")
    @lie("queue-expiry-lost")
    @pytest.mark.parametrize("use", USES.values(), ids=USES)
    def test_is_renewed_by_a_declare_and_by_basic_get_and_not_by_a_publish(self, states_after, use):
        """A program that looks at its queue from time to time keeps it; one that only publishes there does not."""
        attempts = (states_after(use, lease) for lease in (200, 800, 3200))

        assert next(attempt for attempt in attempts if attempt is not None) == ("exists", "missing")
