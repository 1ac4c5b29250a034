"""Acknowledgements in any order, against a model of how the broker takes them."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from rmqspec.client.acks import Acks


class Broker:
    """Ten lines of what RabbitMQ does with an ack; anything else closes the channel."""

    def __init__(self, deliveries):
        self.outstanding = set(deliveries)

    def ack(self, tag, multiple):
        assert tag in self.outstanding, f"406: unknown delivery tag {tag}"
        self.outstanding -= {other for other in self.outstanding if other == tag or (multiple and other < tag)}


@st.composite
def settlements(draw):
    """Deliveries in the order in which they are done, in batches; some are acknowledged, the others nacked."""
    tags = draw(st.permutations(range(1, draw(st.integers(1, 12)) + 1)))
    cuts = sorted(draw(st.sets(st.integers(1, len(tags)), max_size=4)) | {0, len(tags)})
    batches = [tags[start:end] for start, end in pairwise(cuts)]
    return batches, draw(st.sets(st.sampled_from(tags)))


class TestAcks:
    @given(settlements())
    @example(([[2, 3, 4], [1]], set()))  # the slow one comes last: an ack of all up to 4 would name what is settled
    def test_settle_each_delivery_once(self, case):
        """An ack too few holds a message for ever; one too many closes the channel, and all of it comes again."""
        batches, nacked = case
        broker, acks = Broker(tag for batch in batches for tag in batch), Acks()

        for batch in batches:
            done = set(batch)
            broker.outstanding -= done & nacked
            before = set(broker.outstanding)
            for tag, multiple in acks.settle([tag for tag in batch if tag not in nacked], done & nacked):
                broker.ack(tag, multiple)
            assert broker.outstanding == before - done

    def test_are_one_for_many_that_are_done_in_order(self):
        """A thousand acks in one frame are what makes a prefetch of a thousand fast."""
        acks = Acks()

        assert acks.settle([1, 2, 3]) == [(3, True)]
        assert acks.settle([5, 4, 7]) == [(5, True), (7, False)]
