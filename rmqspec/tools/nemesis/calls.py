"""Who calls and who answers: each call ends at its deadline, whatever happens to the connection."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from functools import partial

from rmqspec.client import Queue, RpcClient, RpcServer, Topology
from rmqspec.tools.nemesis.findings import Breach
from rmqspec.tools.nemesis.participants import Participant, Service
from rmqspec.tools.nemesis.shared import CALLS, Shared

__all__ = ["TOLERANCE", "caller", "server"]

CALLERS = 4  # threads of one client
DEADLINES = (0.3, 1.0)  # seconds that a call may take
TOLERANCE = 1.5  # seconds that a deadline may be late on a machine that is busy with all of this
GIVEN_UP = 5.0  # seconds after its deadline that a caller waits for a call that does not end
AFTER_A_FAILURE = 0.01  # seconds until the next call


class _Calling:
    """Several threads that call, each as soon as its last call has ended."""

    def __init__(self, shared: Shared, who: Participant) -> None:
        self._shared, self._who, self._ending = shared, who, threading.Event()

    def stop(self) -> None:
        self._ending.set()

    def run(self) -> None:
        with RpcClient(self._shared.settings, self._who.name) as client:
            callers = [threading.Thread(target=self._call, args=(client, n), daemon=True) for n in range(CALLERS)]
            for one in callers:
                one.start()
            for one in callers:
                one.join()

    def _call(self, client: RpcClient, caller: int) -> None:
        number = 0
        while not self._ending.is_set():
            number += 1
            if not self._ask(client, b'"%d of %d"' % (number, caller)):
                self._ending.wait(AFTER_A_FAILURE)

    def _ask(self, client: RpcClient, request: bytes) -> bool:
        seconds = self._shared.chance.uniform(*DEADLINES)
        due = time.monotonic() + seconds + TOLERANCE
        call = client.send(CALLS, request, seconds)
        self._who.calls[call] = due
        call.add_done_callback(partial(self._ended, request, due))
        with suppress(TimeoutError):  # it has not ended by then, and is in the findings
            return call.exception(seconds + GIVEN_UP) is None
        return False

    def _ended(self, request: bytes, due: float, call: Future[bytes]) -> None:
        late = time.monotonic() > due
        if self._who.calls.pop(call, None) is not None and late:
            self._shared.findings.add("overdue", Breach(self._who.name, "calls that ended too late", since=due))
        if call.exception() is not None:
            return
        self._who.step()
        if call.result() != request:
            self._shared.findings.add("unexpected", Breach(self._who.name, "replies to another request"))


def caller(shared: Shared, who: Participant) -> Service:
    """Calls."""
    return _Calling(shared, who)


def server(shared: Shared, who: Participant) -> Service:
    """Answers each request with itself, after some milliseconds."""

    def answer(request: bytes) -> bytes:
        shared.work_a_moment()
        who.step()
        return request

    return RpcServer(shared.settings, CALLS, answer, who.name, topology=Topology(queues=(Queue(CALLS),)))
