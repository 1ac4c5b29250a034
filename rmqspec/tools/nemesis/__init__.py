"""Faults at random moments, and what must hold all the same: nothing that was confirmed is lost, nobody stalls."""

from rmqspec.tools.nemesis.account import Account, Ledger
from rmqspec.tools.nemesis.faults import FAULTS, Arena, Blow, schedule
from rmqspec.tools.nemesis.invariants import PROMISES
from rmqspec.tools.nemesis.kinds import PARTICIPANTS
from rmqspec.tools.nemesis.run import Plan, Result, run

__all__ = [
    "FAULTS",
    "PARTICIPANTS",
    "PROMISES",
    "Account",
    "Arena",
    "Blow",
    "Ledger",
    "Plan",
    "Result",
    "run",
    "schedule",
]
