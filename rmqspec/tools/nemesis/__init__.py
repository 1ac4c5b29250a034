"""Faults at random moments, and what must hold all the same: nothing that was confirmed is lost, nobody stalls."""

from rmqspec.tools.nemesis.account import Account, Ledger
from rmqspec.tools.nemesis.cast import PARTICIPANTS, RAW_ORDERS
from rmqspec.tools.nemesis.faults import FAULTS, Arena, Blow, schedule
from rmqspec.tools.nemesis.invariants import PROMISES
from rmqspec.tools.nemesis.run import Plan, Result, run

__all__ = [
    "FAULTS",
    "PARTICIPANTS",
    "PROMISES",
    "RAW_ORDERS",
    "Account",
    "Arena",
    "Blow",
    "Ledger",
    "Plan",
    "Result",
    "run",
    "schedule",
]
