"""The publisher's threads, deterministically: refusals, losses, alarms and deadlines at any moment, and all at once.

hypothesis draws which thread goes on at which line, what befalls the connection, which messages the broker refuses, and
which have a deadline. What is asked: does each publish end once, in time, and truly?

Code: rmqspec/client/publisher.py, rmqspec/client/refused_messages.py, rmqspec/client/sent.py, rmqspec/client/window.py
"""

import sys
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rmqspec.client import Publisher, Settings, persistent
from rmqspec.client.errors import ClientError, NotSent, OutcomeUnknown, PublishRefused, WindowFull

from .simulated_clients import LIMIT, faults, suffer, thread, worlds
from .test_link_simulation import one_processor, patch, simulate

__all__ = ["one_processor", "simulate"]  # the fixtures

TIMEOUT, AFTERWARDS = 0.1, 0.001  # seconds of the world
SOON = 5.0  # also, after the last fault; the time for an answer that does not come is longer
messages = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=5)  # whether refused, whether hurried


def publish(simulate, world, faults, resend, window, plans):
    """Some callers, each with some messages; what becomes of each is held against what the broker has."""
    sent = []

    def main(broker):
        broker.new_queue("q")
        publisher = Publisher(Settings(), window=window, patience=LIMIT, resend=resend)

        def caller(name, plan):
            for number, (refused, hurried) in enumerate(plan):
                one = Publication(world, b"%d-%d" % (name, number), refused, hurried)
                if one.publish(publisher):
                    sent.append(one)

        fate = thread(world, suffer, world, broker, faults)
        callers = [thread(world, caller, name, plan) for name, plan in enumerate(plans)]
        for each in [*callers, fate]:
            each.join(LIMIT)
        assert publisher.flush(SOON), f"{publisher.in_flight} have no answer"
        assert publisher.in_flight == 0
        publisher.close()
        for one in sent:
            one.judge(broker, resend)

    simulate(world, main)


class Publication:
    """A message, and what has become of it."""

    def __init__(self, world, body, refused, hurried):
        self.world, self.body, self.refused, self.hurried = world, body, refused, hurried
        self.ends = Counter()

    def publish(self, publisher):
        """False if there was no room in time."""
        self.begin = self.world.now
        properties = persistent(expiration="-1" if self.refused else None)
        try:
            self.future = publisher.publish("", "q", self.body, properties, timeout=TIMEOUT if self.hurried else None)
        except WindowFull:
            return False
        self.future.add_done_callback(self._ended)
        return True

    def _ended(self, _):
        self.ends[self.world.now - self.begin] += 1

    @property
    def answer(self):
        return self.future.exception(0)

    def judge(self, broker, resend):
        """Whether its end is true."""
        assert self.future.done()
        assert self.ends.total() == 1
        answer, arrived = self.answer, broker.published[self.body]
        if self.hurried:
            assert max(self.ends) <= TIMEOUT + AFTERWARDS
        if answer is None:
            assert arrived
            assert not self.refused
        elif isinstance(answer, PublishRefused):
            assert self.refused
            assert answer.reply_code == 406
        elif isinstance(answer, NotSent):
            assert self.hurried
            assert not arrived
        else:
            assert isinstance(answer, OutcomeUnknown)
            assert self.hurried or not resend
        assert resend or arrived <= 1


def look(simulate, examples):
    """Has hypothesis look for a world in which an end is not true."""

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
        report_multiple_bugs=False,
        phases=[Phase.generate],  # found within seconds; to make it simpler takes half a minute: add Phase.shrink
    )
    @given(
        world=worlds,
        faults=faults,
        resend=st.booleans(),
        window=st.integers(1, 6),
        plans=st.lists(messages, min_size=1, max_size=3),
    )
    def one(**drawn):
        publish(simulate, **drawn)

    one()


class TestPublisher:
    """`Publisher`: each publish ends once, in time, and truly."""

    def test_tells_the_truth_of_each_message(self, simulate):
        """A message that is called refused and has arrived is sent twice; one called confirmed that has not, never."""
        look(simulate, 200)


# What one line keeps from happening: the module, the line or two as they are, and what they become.
MENDS = {
    "a refusal is a lost connection": ("publisher", "if refused(reason):", "if False:"),
    "the next does not follow the answer of the last": (
        "publisher",
        "self._window.leave(count, size, returned=True)\n        if self._singly:\n            self.on_work()",
        "self._window.leave(count, size, returned=True)",
    ),
    "what is to be sent again is forgotten": ("publisher", "self._outbox.put_back(again)", "pass"),
    "a place is not given back": ("publisher", "self._window.leave(1, size, returned=True)", "pass"),
    "a deadline is not kept": ("publisher", "self._deadlines.add(deadline, sent)", "pass"),
    "the large one waits for room for ever": ("window", "if not waiting.admitted:", "if False:"),
}


class TestSimulation:
    """The simulation itself: it finds what it is for."""

    @pytest.mark.parametrize(("module", "mended", "undone"), MENDS.values(), ids=MENDS)
    def test_finds_each_undone_line(self, simulate, monkeypatch, module, mended, undone):
        """A simulation that passes whatever the code does would prove nothing."""
        patch(monkeypatch, sys.modules[f"rmqspec.client.{module}"], mended, undone)
        monkeypatch.setattr(sys.modules[__name__], "Publisher", sys.modules["rmqspec.client.publisher"].Publisher)

        with pytest.raises((AssertionError, ClientError)):
            look(simulate, 2_000)
