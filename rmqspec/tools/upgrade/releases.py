"""Releases of RabbitMQ, and the supported way from one to another.

Source: https://www.rabbitmq.com/docs/upgrade#rabbitmq-version-upgradability, as of August 2026, and the
release notes of each first release. It was read: no upgrade in place was run here.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rmqspec.tools.upgrade.errors import NoWay

__all__ = ["KNOWN", "WAY_SOURCE", "Release", "Step", "way"]

WAY_SOURCE = "https://www.rabbitmq.com/docs/upgrade (read in August 2026, not run here)"
NEWEST = 1_000_000  # the patch of a series that was named without one, where the newest is meant

# Series to series in place; a rolling upgrade. 4.3 is reached from 4.2 only.
STEPS: Mapping[str, Sequence[str]] = {
    "3.10": ("3.11",),
    "3.11": ("3.12",),
    "3.12": ("3.13",),
    "3.13": ("4.0", "4.1", "4.2"),
    "4.0": ("4.1", "4.2"),
    "4.1": ("4.2",),
    "4.2": ("4.3",),
}
KNOWN = (*STEPS, "4.3")

ALL_FLAGS = "enable all stable feature flags: rabbitmqctl enable_feature_flag all"
# What is to be done in a series before it is left for another one.
BEFORE: Mapping[tuple[str, str], str] = {
    ("3.11", "3.12"): f"be on 3.11.18 or later; {ALL_FLAGS}",
    ("3.12", "3.13"): f"{ALL_FLAGS}; 3.13 needs Erlang 26",
    ("4.2", "4.3"): "be on the newest 4.2.x; enable all feature flags and khepri_db: "
    "rabbitmqctl enable_feature_flag all, rabbitmqctl enable_feature_flag khepri_db",
}
OF_3_13 = f"{ALL_FLAGS}, but not khepri_db: 3.13 with Khepri cannot be upgraded in place to 4.x (blue-green only)"


@dataclass(frozen=True, slots=True, order=True)
class Release:
    """A release such as 4.3.6. ``patch`` is None for a whole series, such as 4.3."""

    major: int
    minor: int
    patch: int | None = None

    @classmethod
    def parse(cls, text: str) -> Release:
        """Reads ``4.3``, ``4.3.6``, ``v4.3.6`` or ``4.3.6-1``.

        Raises:
            ValueError: It is neither.
        """
        match = re.fullmatch(r"v?(\d{1,3})\.(\d{1,3})(?:\.(\d{1,4}))?([-+~][\w.+~-]*)?", text.strip(), re.ASCII)
        if match is None:
            raise ValueError("no version of RabbitMQ: write 4.3 or 4.3.6")
        if re.search("alpha|beta|rc|milestone", match[4] or "", re.IGNORECASE):
            raise ValueError("what comes before a release is not known here: write 4.3 or 4.3.6")
        return cls(int(match[1]), int(match[2]), None if match[3] is None else int(match[3]))

    @property
    def series(self) -> str:
        """Such as ``4.3``."""
        return f"{self.major}.{self.minor}"

    def oldest(self) -> tuple[int, int, int]:
        """The first release that it may be, to be compared."""
        return self.major, self.minor, 0 if self.patch is None else self.patch

    def newest(self) -> tuple[int, int, int]:
        """The last release that it may be, to be compared."""
        return self.major, self.minor, NEWEST if self.patch is None else self.patch

    def __str__(self) -> str:
        return self.series if self.patch is None else f"{self.series}.{self.patch}"


@dataclass(frozen=True, slots=True)
class Step:
    """One upgrade in place.

    Attributes:
        old: The series that is left.
        new: The series that is reached.
        before: What is to be done before.
    """

    old: str
    new: str
    before: str


def way(old: Release, new: Release) -> tuple[Step, ...]:
    """The fewest upgrades in place that lead from one release to another; none within a series.

    Raises:
        NoWay: A downgrade, or a series that is not known here.
    """
    for release in (old, new):
        if release.series not in KNOWN:
            raise NoWay(
                f"RabbitMQ {release} is not known here: what is known begins with {KNOWN[0]}, ends with {KNOWN[-1]}"
            )
    if new.newest() < old.oldest():
        raise NoWay(
            f"RabbitMQ {old} to {new} is a downgrade, which RabbitMQ does not support: "
            f"set up a new cluster of {new} and move to it (blue-green)"
        )
    ways: deque[tuple[str, ...]] = deque([(old.series,)])
    while ways:
        taken = ways.popleft()
        if taken[-1] == new.series:
            return tuple(Step(one, other, _before(one, other)) for one, other in pairwise(taken))
        ways.extend((*taken, series) for series in STEPS.get(taken[-1], ()))
    raise AssertionError(f"no way from {old} to {new}")  # every series of KNOWN leads to the next


def _before(one: str, other: str) -> str:
    return BEFORE.get((one, other), OF_3_13 if one == "3.13" else ALL_FLAGS)
