"""pika's own log lines: a screen of them for each loss, of which none says which client it was.

Those of a link are kept back, as the link says itself what happened, and so are those of ``connect``, which raises what
happened; those of other pika connections in the same program are none of our business.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet_pika"]


class _NotOurs(logging.Filter):
    """Lets through what other threads than those of our links say."""

    def __init__(self) -> None:
        super().__init__()
        self.ours = set[int]()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread not in self.ours


_not_ours = _NotOurs()


@contextmanager
def quiet_pika(*, debugging: bool) -> Iterator[None]:
    """Keeps back what pika logs in this thread.

    Args:
        debugging: Whether somebody wants to see it all the same.
    """
    ident = threading.get_ident()
    if debugging or ident in _not_ours.ours:
        yield
        return
    for name in [name for name in logging.root.manager.loggerDict if name == "pika" or name.startswith("pika.")]:
        logging.getLogger(name).addFilter(_not_ours)  # a filter of "pika" alone does not hold for "pika.connection"
    _not_ours.ours.add(ident)
    try:
        yield
    finally:
        _not_ours.ours.discard(ident)
