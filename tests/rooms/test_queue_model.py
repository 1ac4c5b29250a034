"""A real queue and a model of it, side by side: hypothesis looks for the steps that tell them apart.

`--hypothesis-profile=thorough` makes it thousands of steps.
"""

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as explore

from .queue_model import Place, Queue

QUICK = settings(max_examples=15, stateful_step_count=25, deadline=None)

some = st.integers(1, 3)
held = st.runner().flatmap(lambda self: st.sampled_from([tag for tag, _ in self.model.taken]))
held_or_all = st.runner().flatmap(lambda self: st.sampled_from([tag for tag, _ in self.model.taken] + [0]))
holding = precondition(lambda self: self.model.taken)


class SideBySide(RuleBasedStateMachine):
    """Does everything to both, and compares what can be seen of them: deliveries, depths, dead letters."""

    numbers = itertools.count(1)
    steps = 0

    def __init__(self, connection, eventually, arguments, place):
        super().__init__()
        self.connection, self.eventually, self.arguments = connection, eventually, arguments
        self.place, self.differs = place, False

    @initialize(limit=st.integers(1, 4))
    def declare(self, limit):
        number = next(self.numbers)
        self.queue, self.dead = f"work-{number}", f"dead-{number}"
        letters = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": self.dead}
        self.model = Queue(self.place, limit)
        self.other, self.channel = self.connection.channel(), self.connection.channel()
        self.other.confirm_delivery()
        self.other.queue_declare(self.dead, durable=True)
        self.other.queue_declare(self.queue, durable=True, arguments=self.arguments | letters | {"x-max-length": limit})

    @rule(count=some)
    def publish(self, count):
        for _ in range(count):
            self.model = self.model.publish()
            self.other.basic_publish("", self.queue, b"%d" % self.model.published)

    @precondition(lambda self: self.model.ready)
    @rule(count=some)
    def get(self, count):
        for _ in range(min(count, len(self.model.ready))):
            self.model = self.model.get()
            method, _, body = self.channel.basic_get(self.queue)
            tag, message = self.model.taken[-1]
            seen = method and (method.delivery_tag, int(body), method.redelivered)
            self.compare(seen, (tag, message.number, message.redelivered))

    @precondition(lambda self: not self.model.ready)
    @rule()
    def get_nothing(self):
        self.compare(self.channel.basic_get(self.queue)[2], None)

    @holding
    @rule(tag=held)
    def ack(self, tag):
        self.model = self.model.ack(tag)
        self.channel.basic_ack(tag)

    @holding
    @rule(tag=held_or_all)
    def ack_up_to(self, tag):
        self.model = self.model.ack(tag, multiple=True)
        self.channel.basic_ack(tag, multiple=True)

    @holding
    @rule(tag=held, requeue=st.booleans())
    def reject(self, tag, requeue):
        self.model = self.model.requeue(tag) if requeue else self.model.discard(tag)
        self.channel.basic_reject(tag, requeue=requeue)

    @holding
    @rule(tag=held, requeue=st.booleans())
    def nack(self, tag, requeue):
        self.model = self.model.requeue(tag) if requeue else self.model.discard(tag)
        self.channel.basic_nack(tag, requeue=requeue)

    @holding
    @rule(tag=held_or_all, requeue=st.booleans())
    def nack_up_to(self, tag, requeue):
        settle = self.model.requeue if requeue else self.model.discard
        self.model = settle(tag, multiple=True)
        self.channel.basic_nack(tag, multiple=True, requeue=requeue)

    @holding
    @rule()
    def recover(self):
        self.model = self.model.requeue(0, multiple=True)
        self.channel.basic_recover(requeue=True)

    @precondition(lambda self: self.place is Place.ITS_OWN or self.model.closes_as_promised)
    @rule()
    def reopen_the_channel(self):
        self.model = self.model.close()
        self.channel.close()
        self.channel = self.connection.channel()

    @rule()
    def purge(self):
        ready = len(self.model.ready)
        self.model = self.model.purge()
        self.compare(self.other.queue_purge(self.queue).method.message_count, ready)

    @invariant()
    def have_the_same_depths(self):
        # A requeue has no answer, and a dead letter travels by itself: the model knows what to wait for.
        type(self).steps += 1
        self.differs = True
        self.eventually(self.depths, (len(self.model.ready), len(self.model.dead)))
        self.differs = False

    def teardown(self):
        if not self.differs:
            if not self.model.closes_as_promised:
                self.ack_up_to(0)
            self.reopen_the_channel()
            self.have_the_same_depths()
            left = [(message.number, message.redelivered) for message in self.model.ready]
            self.compare(self.drain(self.queue, lambda method, _: method.redelivered), left)
            letters = self.drain(self.dead, lambda _, properties: properties.headers["x-death"][0]["reason"])
            self.compare(letters, list(self.model.dead))
        for queue in (self.queue, self.dead):
            self.other.queue_delete(queue)
        for channel in (self.other, self.channel):
            channel.close()

    def compare(self, seen, expected):
        self.differs = seen != expected
        assert seen == expected

    def depths(self):
        declared = (self.other.queue_declare(queue, passive=True) for queue in (self.queue, self.dead))
        return tuple(answer.method.message_count for answer in declared)

    def drain(self, queue, feature):
        taken = []
        while (got := self.channel.basic_get(queue, auto_ack=True))[0] is not None:
            taken.append((int(got[2]), feature(*got[:2])))
        return taken


CLASSIC = {"x-queue-type": "classic"}
QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": 1000}
UNLIMITED = {"x-queue-type": "quorum"}
UNLIMITED_SINCE_4 = {"x-queue-type": "quorum", "x-delivery-limit": -1}

before_4_0, since_4_3 = pytest.mark.rabbitmq(before="4.0"), pytest.mark.rabbitmq(since="4.3")
case = pytest.param


class TestQueue:
    """A queue of RabbitMQ, and what is told of it."""

    @pytest.mark.timeout(900)  # the thorough profile
    @pytest.mark.parametrize(
        ("arguments", "place"),
        [
            case(CLASSIC, Place.ITS_OWN, id="classic"),
            case(QUORUM, Place.FRONT, id="quorum"),
            case(UNLIMITED, Place.TAIL, marks=before_4_0, id="quorum_before_4_0_without_delivery_limit"),
            case(UNLIMITED_SINCE_4, Place.FRONT, marks=since_4_3, id="quorum_without_delivery_limit"),
        ],
    )
    def test_does_what_its_model_does(self, connection, eventually, arguments, place):
        """Each promise holds alone, in a lesson; here they hold together, in whatever order things happen."""
        thorough = settings.get_current_profile_name() == "thorough"

        explore(
            lambda: SideBySide(connection, eventually, arguments, place), settings=settings() if thorough else QUICK
        )

        assert SideBySide.steps > 100
