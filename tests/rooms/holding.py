"""Holding a client's thread still: what is published meanwhile leaves in one write, and nothing is answered."""

import threading
from contextlib import contextmanager

__all__ = ["held"]


@contextmanager
def held(client):
    """The link's thread does nothing while this lasts."""
    reached, release = threading.Event(), threading.Event()
    client._loop.ioloop.add_callback_threadsafe(lambda: (reached.set(), release.wait(20)))
    assert reached.wait(20)
    try:
        yield
    finally:
        release.set()
