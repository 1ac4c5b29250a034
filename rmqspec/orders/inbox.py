"""What has been handled already: at-least-once made safe.

A message comes twice when a worker dies after its work and before its ack, or when a publisher sends again what it got
no answer for. Whoever keeps the ids of what is done does it once. The ids of several workers, or of one that is
restarted, are kept together in a file.

Source: https://www.rabbitmq.com/docs/reliability#consumer-side
"""

from __future__ import annotations

import sqlite3
import threading
import weakref

__all__ = ["Inbox"]


class Inbox:
    """The ids of handled messages, in SQLite. Threads and processes may share one.

    It is closed by ``close``, or else when nobody has it any more.

    Args:
        path: A file, or ``:memory:`` for as long as the process lives.
    """

    def __init__(self, path: str = ":memory:") -> None:
        self._guard = threading.Lock()
        self._database = sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._database.close)
        self._database.execute("CREATE TABLE IF NOT EXISTS handled (id TEXT PRIMARY KEY) WITHOUT ROWID")

    def has(self, message_id: str) -> bool:
        """Whether this message was handled."""
        with self._guard:
            row = self._database.execute("SELECT 1 FROM handled WHERE id = ?", (message_id,)).fetchone()
        return row is not None

    def add(self, message_id: str) -> None:
        """Notes that it was; on disk when this returns."""
        with self._guard:
            self._database.execute("INSERT OR IGNORE INTO handled VALUES (?)", (message_id,))

    def close(self) -> None:
        """Closes the file."""
        self._database.close()
