"""Faults at random moments, and the account of every order: nothing that was confirmed is lost."""

from rmqspec.tools.nemesis.account import Account, Ledger
from rmqspec.tools.nemesis.faults import FAULTS, Arena, Blow, schedule
from rmqspec.tools.nemesis.run import Plan, run

__all__ = ["FAULTS", "Account", "Arena", "Blow", "Ledger", "Plan", "run", "schedule"]
