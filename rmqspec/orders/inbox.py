"""What has been handled already: at-least-once made safe.

A message comes twice when a consumer dies after its work and before its ack, when its connection is cut while it works,
or when a publisher sends again what it got no answer for. Whoever keeps the ids of what is done does it once. To look
first and to write afterwards is not enough: two consumers that have the same message would both see that it is not
done. So a consumer claims a message before it works on it, in one step with the look:

::

    (unknown) ──claim──▶ claimed ──done──▶ done ──(age)──▶ (unknown)
        ▲                  │ ▲  │
        └────release───────┘ └──┘ renewed while the work goes on
        └────(lease over)──┘

A claim is a lease. It is renewed as long as the process lives, and is over soon after a crash. A process that is
stopped for longer than a lease may lose its claim to somebody else; ``done`` then says so. A lease is counted by a
clock that nobody can set: it begins with the machine, and all processes share it. Beside it stands which start of the
machine that was, for what an earlier one has claimed nobody works on any more.

Source: https://www.rabbitmq.com/docs/reliability#consumer-side, https://www.sqlite.org/wal.html,
https://docs.python.org/3/library/time.html#time.monotonic
"""

from __future__ import annotations

import math
import sqlite3
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from rmqspec.client import process
from rmqspec.client.bounds import check_number
from rmqspec.client.errors import ClientError, InvalidSetting, WrongProcess

__all__ = ["Claim", "Inbox", "InboxUnavailable", "State"]

T = TypeVar("T")

DAY = 24 * 60 * 60.0
PRUNING = 60.0  # seconds between two deletions of what is too old
SHORTEST = 0.01  # seconds of a lease: its thread looks three times in it
LONGEST_KEPT = 100 * 365 * DAY
OVER = 60 * 60.0  # seconds after which nobody returns to a claim whose lease is over
BOOT = Path("/proc/sys/kernel/random/boot_id")  # of Linux

SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,    -- the claim's, which begins with the machine's start; whether a lease is still one's own
    until REAL NOT NULL,    -- when the lease is over (since that start), or the message may be forgotten (since 1970)
    done INTEGER NOT NULL
) WITHOUT ROWID
"""
INDEX = "CREATE INDEX IF NOT EXISTS message_until ON message (until)"
# One statement, hence one step: whatever others do meanwhile, one of them gets the row.
CLAIM = """
INSERT INTO message (id, owner, until, done) VALUES (:id, :owner, :until, 0)
ON CONFLICT (id) DO UPDATE SET owner = :owner, until = :until, done = 0
WHERE CASE WHEN done THEN until < :now ELSE until < :uptime OR substr(owner, 1, length(:boot)) <> :boot END
"""
RENEW = "UPDATE message SET until = :until WHERE id = :id AND owner = :owner AND NOT done"
DONE = "UPDATE message SET until = :until, done = 1 WHERE id = :id AND owner = :owner AND NOT done"
RELEASE = "DELETE FROM message WHERE id = :id AND owner = :owner AND NOT done"
NOTE = "INSERT OR REPLACE INTO message (id, owner, until, done) VALUES (:id, :owner, :until, 1)"
PRUNE = "DELETE FROM message WHERE until < :past AND (done OR until < :over)"


class InboxUnavailable(ClientError):
    """The inbox cannot be read or written now: other processes do not leave it, the disk is full, it is no inbox."""


class State(Enum):
    """What a claim has found."""

    MINE = "nobody has handled the message, and nobody else is at it"
    CLAIMED = "somebody else is at it, or died at it a moment ago"
    DONE = "it is done"


class Inbox:
    """The ids of handled messages, in SQLite. Threads and processes of one machine may share one.

    It is closed by ``close``, or else when nobody has it any more. In a fork of the process that has opened it, it
    raises ``WrongProcess``: SQLite bears no connection there, and no thread renews a lease.

    Args:
        path: A file on a local disk (SQLite's log does not work over a network), or ``:memory:`` for as long as the
            process lives.
        lease: Seconds after which a claim of a process that died is free. It is renewed three times in that time.
        keep: Seconds for which a handled message is remembered. One that comes again later is handled again.
        patience: Seconds to wait for other processes that write.
        clock: The seconds since 1970, by which messages grow old.
        uptime: The seconds since the machine's start, by which leases run, as all processes of the machine see them. By
            default that of the system; where it does not tell one start from another, as Linux does, ``clock``.

    Raises:
        InvalidSetting: A time is none, or the path is empty.
        InboxUnavailable: The file cannot be used.
    """

    def __init__(
        self,
        path: str = ":memory:",
        *,
        lease: float = 10.0,
        keep: float = 7 * DAY,
        patience: float = 30.0,
        clock: Callable[[], float] = time.time,
        uptime: Callable[[], float] | None = None,
    ) -> None:
        if not path:  # to SQLite that is a file of this process alone
            raise InvalidSetting("the inbox has no name: name a file, or :memory:")
        check_number("lease", lease, SHORTEST)
        check_number("keep", keep, 0, LONGEST_KEPT)
        check_number("patience", patience, 0)
        self.lease, self.keep, self._clock = lease, keep, clock
        self._boot, self._born = _boot(), process.here()
        self._uptime = uptime or (time.monotonic if self._boot else clock)
        self._guard = threading.Lock()  # around the database, and around the claims and the thread below
        self._claims: set[Claim] = set()
        self._renewing: threading.Thread | None = None
        self._closed = threading.Event()
        self._next_pruning = -math.inf
        self._retrying = Retrying(
            retry=retry_if_exception(_busy),
            wait=wait_random(0.001, 0.05),
            stop=stop_after_delay(patience),
            reraise=True,
        )
        self._path = path
        try:
            # The patience is ours alone: SQLite's own does not cover the change to WAL.
            self._database = sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)
        except (sqlite3.Error, ValueError) as error:  # the second of a path with a zero in it
            raise self._unavailable(error) from error
        weakref.finalize(self, self._database.close)
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", SCHEMA, INDEX):
            self._execute(statement)

    def claim(self, message_id: str) -> Claim:
        """Claims a message, in one step with the look whether it is done or somebody is at it.

        Args:
            message_id: Unique among all messages that this inbox is for; where several queues share one, the queue's
                name is a part of it.

        Returns:
            The claim, to be used in a ``with`` statement: it is renewed until its end, and then released.

        Raises:
            InboxUnavailable: It cannot be read or written.
        """
        self._prune()
        claim = Claim(self, message_id, self._boot + uuid.uuid4().hex)
        now, uptime = self._clock(), self._uptime()
        until = uptime + self.lease
        taken = self._execute(
            CLAIM, id=message_id, owner=claim.owner, until=until, now=now, uptime=uptime, boot=self._boot
        )
        if taken:
            claim.state = State.MINE
            self._watch(claim)
        elif self.has(message_id):
            claim.state = State.DONE
        return claim

    def has(self, message_id: str) -> bool:
        """Whether this message was handled."""
        query = "SELECT 1 FROM message WHERE id = ? AND done AND until >= ?"
        return self._try(lambda: self._database.execute(query, (message_id, self._clock())).fetchone()) is not None

    def add(self, message_id: str) -> None:
        """Notes that it was, without a claim; on disk when this returns."""
        self._execute(NOTE, id=message_id, owner="", until=self._clock() + self.keep)

    def release_all(self) -> None:
        """Gives up all claims of this process, for whoever ends it in the middle of its work."""
        with self._guard:
            claims = list(self._claims)
        for claim in claims:
            claim.release()

    def close(self) -> None:
        """Closes the file. Claims that are open are over when their lease is."""
        self._closed.set()
        with self._guard:
            self._database.close()

    def _prune(self) -> None:
        if (uptime := self._uptime()) >= self._next_pruning:
            self._next_pruning = uptime + PRUNING
            self._execute(PRUNE, past=self._clock() - OVER, over=uptime - OVER)

    def _execute(self, statement: str, **values: str | float) -> int:
        """How many rows a statement has changed."""
        return self._try(lambda: self._database.execute(statement, values).rowcount)

    def _try(self, action: Callable[[], T]) -> T:
        if self._born is not process.here():
            raise WrongProcess(f"the inbox {self._path!r} was opened before this process was forked: open one here")
        try:
            result: T = self._retrying(self._guarded, action)
        except sqlite3.Error as error:
            raise self._unavailable(error) from error
        return result

    def _guarded(self, action: Callable[[], T]) -> T:
        with self._guard:
            return action()

    def _unavailable(self, error: Exception) -> InboxUnavailable:
        return InboxUnavailable(f"the inbox {self._path!r} cannot be used ({error}): is it a file that one may write?")

    def _watch(self, claim: Claim) -> None:
        with self._guard:
            self._claims.add(claim)
            if self._renewing is None:
                self._renewing = threading.Thread(target=self._renew, name="inbox leases", daemon=True)
                self._renewing.start()

    def _forget(self, claim: Claim) -> None:
        with self._guard:
            self._claims.discard(claim)

    def _renew(self) -> None:
        """Renews all claims until there are none; a claim that is short is never seen here."""
        while not self._closed.wait(self.lease / 3):
            with self._guard:
                claims = list(self._claims)
                if not claims:
                    self._renewing = None
                    return
            for claim in claims:
                claim.renew()


class Claim:
    """One message that somebody wants to work on.

    Attributes:
        state: What was found; only one that is ``MINE`` may be worked on.
        owner: Unique.
    """

    def __init__(self, inbox: Inbox, message_id: str, owner: str) -> None:
        self.state, self.owner = State.CLAIMED, owner
        self._inbox, self._id = inbox, message_id

    def renew(self) -> bool:
        """Extends the lease. False if it was over, and somebody else may have the message."""
        if self.state is not State.MINE:
            return False
        until = self._inbox._uptime() + self._inbox.lease
        try:
            renewed = self._inbox._execute(RENEW, id=self._id, owner=self.owner, until=until)
        except InboxUnavailable:  # it is tried again soon, and until then the lease runs
            return True
        if not renewed:
            self._lose()
        return bool(renewed)

    def done(self) -> bool:
        """Notes that the message was handled; on disk when this returns.

        Returns:
            False if the lease was over and somebody else has taken the message: it is not known to be done.

        Raises:
            InboxUnavailable: It cannot be written.
        """
        if self.state is not State.MINE:
            return False
        until = self._inbox._clock() + self._inbox.keep
        done = bool(self._inbox._execute(DONE, id=self._id, owner=self.owner, until=until))
        self._lose()
        if done:
            self.state = State.DONE
        return done

    def release(self) -> None:
        """Ends the claim of what is not done, so that the next one need not wait for the end of the lease."""
        if self.state is State.MINE:
            self._lose()
            self._inbox._execute(RELEASE, id=self._id, owner=self.owner)

    def __enter__(self) -> Claim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _lose(self) -> None:
        self.state = State.CLAIMED
        self._inbox._forget(self)


def _boot() -> str:
    """Which start of the machine this is; empty where the system does not say."""
    try:
        return BOOT.read_text().strip()
    except OSError:
        return ""


def _busy(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what SQLite adds about the cause
    return isinstance(error, sqlite3.OperationalError) and code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
