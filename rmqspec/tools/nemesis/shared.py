"""What all participants share."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rmqspec.client import Settings
from rmqspec.orders import retry_ladder
from rmqspec.tools.nemesis.account import Ledger
from rmqspec.tools.nemesis.findings import Findings

__all__ = ["CALLS", "COPIES", "EVENTS", "LADDER", "RAW", "Shared"]

RAW = "nemesis"  # the queue of orders that have no worker
CALLS = "nemesis.calls"  # the queue of requests
EVENTS = "nemesis.events"  # what is bound for events.fanout, and counted
COPIES = "nemesis.copies"  # nobody publishes here: what arrives was routed by a CC header that had to be dropped
LADDER = retry_ladder(0.2, 0.5)  # seconds


@dataclass(frozen=True, slots=True)
class Shared:
    """What all participants share.

    Attributes:
        settings: How producers connect.
        worker_settings: How the order system's services connect: as another user.
        user: The producers' login.
        ledger: Where each order is noted.
        accounts: Which account of the ledger each publishing participant has, by its name.
        findings: What went wrong.
        directory: For inboxes.
        work: Seconds at most that a handler takes.
        odd_from: Seconds after the begin until odd messages come: what they do must not hide all else.
        confirms: Whether producers wait for confirms.
        auto_ack: Whether consumers are done with what they were sent.
    """

    settings: Settings
    worker_settings: Settings
    user: str
    ledger: Ledger
    accounts: Mapping[str, int]
    findings: Findings
    directory: Path
    work: float = 0.02
    odd_from: float = 0.0
    confirms: bool = True
    auto_ack: bool = False
    chance: random.Random = field(default_factory=random.Random)

    def work_a_moment(self) -> None:
        """A handler's work: as long as chance will have it."""
        if self.work:
            time.sleep(self.chance.uniform(0.0, self.work))
