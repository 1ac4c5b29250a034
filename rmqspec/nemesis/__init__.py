"""Faults at random moments, and the account of every order: nothing that was confirmed is lost."""

from rmqspec.nemesis.account import Account, Ledger
from rmqspec.nemesis.faults import FAULTS, Arena, Blow, schedule
from rmqspec.nemesis.run import Plan, run

__all__ = ["FAULTS", "Account", "Arena", "Blow", "Ledger", "Plan", "run", "schedule"]
