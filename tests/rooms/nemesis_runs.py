"""What the tests of the nothing-lost test have in common: a broker, plans without faults, services of their own."""

import dataclasses

import pytest

from rmqspec.tools.nemesis import PARTICIPANTS, Plan

__all__ = ["SOON", "broken", "disposable_broker", "only", "quick", "replace_participant"]

SOON = 210  # a seed whose one fault comes once in 3 seconds


def only(*kinds):
    """Participants: one of each of these kinds."""
    return dict.fromkeys(kinds, 1)


def quick(seconds, **others):
    """A plan without faults, unless some are named, whose handlers take no time."""
    return Plan(seconds, work=0.0, **{"faults": (), "bound": 5.0, **others})


def broken(findings):
    """Which invariants do not hold, and whose they are."""
    return {(finding.invariant, finding.breach.who) for finding in findings}


@pytest.fixture(scope="module")
def disposable_broker(another_broker):
    """One with a management API: by that a run makes its vhost and its users."""
    return another_broker()


@pytest.fixture
def replace_participant(monkeypatch):
    """Puts another service into a row of the table of participants."""

    def replace(kind, make):
        monkeypatch.setitem(PARTICIPANTS, kind, dataclasses.replace(PARTICIPANTS[kind], make=make))

    return replace
