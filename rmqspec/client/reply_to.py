"""Direct reply-to addresses: which of them the broker can read.

The broker makes such an address itself: a process of Erlang's, and a key that only the caller's channel knows. Anybody
may send a request with one that is made up. RabbitMQ 3.10 and 4.0 fail at it (541 INTERNAL_ERROR) and close the
connection of the server that answers, with all that is open on it; the request comes again, and so does the end. 4.3
drops the reply. 3.10 also fails at an address of the right form whose node it does not know, which cannot be seen here:
such a request is known by its coming back after the broker has failed (``Unreplied``).

Source: https://www.rabbitmq.com/docs/direct-reply-to, rabbit_direct_reply_to.erl and rabbit_pid_codec.erl in
https://github.com/rabbitmq/rabbitmq-server; https://www.erlang.org/doc/apps/erts/erl_ext_dist (NEW_PID_EXT)
"""

from __future__ import annotations

import binascii
import re
import threading
import time
from base64 import b64decode
from collections import deque
from collections.abc import Callable
from functools import lru_cache

from rmqspec.client.delivery import Delivery, Outcome
from rmqspec.client.errors import ClientError
from rmqspec.client.rpc import DIRECT_REPLY_TO

__all__ = ["Unreplied", "is_readable"]

PREFIX = f"{DIRECT_REPLY_TO}."
INTERNAL_ERROR = 541
AT_MOST = 1_000  # requests that are remembered where the prefetch has no bound
TRIAL = 0.5  # seconds within which the broker fails at a reply, if it does

Address = tuple[str, str | None]  # of a reply: where it goes, and its correlation id

# A process: its node (an atom that is a hash of the node's name), then its id, its serial, and the node's creation.
PROCESS = re.compile(rb"\x83X(v\x00.|w.)(reply@\d{1,10}).{12}", re.DOTALL)


@lru_cache(maxsize=1024)  # a caller has one address for as long as it is connected
def is_readable(reply_to: str | bytes) -> bool:
    """Whether the broker can read an address that a reply is to be sent to; of any but a direct one it is so."""
    address = reply_to.encode() if isinstance(reply_to, str) else reply_to
    if not address.startswith(PREFIX.encode()):
        return True
    encoded, *key = address.removeprefix(PREFIX.encode()).split(b".", 1)
    try:
        process, _ = b64decode(encoded, validate=True), [b64decode(part, validate=True) for part in key]
    except binascii.Error:
        return False
    parts = PROCESS.fullmatch(process)
    return parts is not None and parts[1][-1] == len(parts[2])


class Unreplied:
    """The requests that may come back because the broker fails at the reply, until it is known which one does.

    After an internal error of the broker's, whatever was answered last to a direct address is a suspect when it comes
    back. One suspect is answered at a time, and the others wait: so the next failure tells which one it is. That one
    is not answered again, and all others are at once.

    Any handler's thread calls ``outcome``, which does all it does under ``_guard``; there too it asks for ``lost``, so
    that no thread comes with an older loss than another one has brought.

    Args:
        prefetch: How many requests the broker may have out; more cannot come back. 0 has no bound.
        lost: What the last channel ended with, an error of its own each time; None while the first one lives.
        clock: Seconds that only grow.
    """

    def __init__(
        self, prefetch: int, lost: Callable[[], ClientError | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._guard, self._ask, self._clock = threading.Lock(), lost, clock
        self._answered: deque[Address] = deque(maxlen=prefetch or AT_MOST)  # on this channel
        self._suspects: set[Address] = set()
        self._tried: Address | None = None
        self._culprit: Address | None = None
        self._trial_ends = 0.0
        self._lost: ClientError | None = None

    def outcome(self, request: Delivery) -> Outcome:
        """ACK if a request is to be answered, REQUEUE_LATER if that must wait, REJECT if the broker fails at it."""
        properties = request.properties
        address = str(properties.reply_to), properties.correlation_id
        if not address[0].startswith(PREFIX):
            return Outcome.ACK
        with self._guard:
            lost = self._ask()
            if lost is not self._lost:
                self._lost = lost
                self._look_back(failed=lost is not None and lost.reply_code == INTERNAL_ERROR)
            if request.redelivered and address == self._culprit:
                return Outcome.REJECT
            if request.redelivered and address in self._suspects:
                return self._try(address)
            self._answered.append(address)
        return Outcome.ACK

    def _look_back(self, *, failed: bool) -> None:
        """A channel has ended: if the broker has failed, one of those that were answered on it is to blame."""
        self._culprit = self._tried if failed else None
        self._suspects = set(self._answered) if failed and self._culprit is None else set()
        self._answered.clear()
        self._tried, self._trial_ends = None, 0.0

    def _try(self, address: Address) -> Outcome:
        now = self._clock()
        if now < self._trial_ends:
            return Outcome.REQUEUE_LATER
        if self._tried is not None:
            self._suspects.discard(self._tried)  # nothing has happened
        self._tried, self._trial_ends = address, now + TRIAL
        return Outcome.ACK
