"""What the clients log, for a person at a terminal: the broker was lost, is back, blocks publishers."""

from __future__ import annotations

import contextlib
import logging

from rmqspec.cli import terminal

__all__ = ["show_warnings"]


class _Terminal(logging.Handler):
    """One line each, on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # nobody reads it
            terminal.notice(self.format(record))


def show_warnings() -> None:
    """From now on warnings of the clients are shown. With what a client ends is not: the command says that itself."""
    handler = _Terminal(logging.WARNING)
    handler.addFilter(lambda record: record.levelno < logging.ERROR or bool(record.exc_info))
    logging.getLogger("rmqspec").addHandler(handler)
