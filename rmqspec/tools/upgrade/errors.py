"""What can go wrong when an upgrade is asked about.

::

    UpgradeError
    ├── NoWay        no supported way leads from one release to the other
    └── Unreadable   a source could not be read: a file, a broker
"""

from __future__ import annotations

__all__ = ["NoWay", "Unreadable", "UpgradeError"]


class UpgradeError(Exception):
    """Base of every error of the upgrade report; its text is a sentence for a person."""


class NoWay(UpgradeError):
    """A downgrade, or a release that is not known here."""


class Unreadable(UpgradeError):
    """A source could not be read; the text says what to do and holds no secret."""
