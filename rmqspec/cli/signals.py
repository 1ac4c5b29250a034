"""Hearing of Ctrl-C and SIGTERM, whatever the main thread is doing.

Python runs the handler of a signal in the main thread, between two of its steps. A signal that comes just when that
thread lies down to wait for the next message is handled when the message comes, which may be never. The wake-up file
descriptor is written to at once, in whatever thread the signal arrives.

Source: https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd
"""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

__all__ = ["on_signals"]

ENDS = (signal.SIGINT, signal.SIGTERM)
DOUBLED = 0.05  # seconds after the first signal within which others are the same one, sent twice


@contextmanager
def on_signals(action: Callable[[], None], again: Callable[[], None]) -> Iterator[None]:
    """Calls one of these at Ctrl-C and SIGTERM, in a thread of its own; to be used in the main thread.

    Args:
        action: At the first signal.
        again: At a further Ctrl-C. A further SIGTERM changes nothing, nor does what a person cannot have pressed twice:
            ``timeout``, for one, sends its signal to the process and then to the whole group.
    """
    hears, tells = socket.socketpair()
    tells.setblocking(False)

    def listen() -> None:
        stopping = False
        while number := hears.recv(1):
            if number[0] not in ENDS:
                continue
            if not stopping:
                stopping = True
                time.sleep(DOUBLED)
                _drain(hears)
                action()
            elif number[0] == signal.SIGINT:
                again()

    listener = threading.Thread(target=listen, name="signals", daemon=True)
    listener.start()
    former = signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in ENDS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(former)
        tells.close()
        listener.join()
        hears.close()


def _drain(hears: socket.socket) -> None:
    hears.setblocking(False)
    with suppress(BlockingIOError):
        hears.recv(4096)
    hears.setblocking(True)
