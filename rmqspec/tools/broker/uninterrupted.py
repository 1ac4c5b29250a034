"""Calls that Ctrl-C does not leave half done."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import TypeVar

__all__ = ["uninterrupted"]

T = TypeVar("T")


def uninterrupted(call: Callable[[], T]) -> T:
    """Waits for the end of a call to the engine, also when Ctrl-C comes: half a container cannot be removed."""
    end: Future[T] = Future()

    def run() -> None:
        if end.set_running_or_notify_cancel():
            try:
                end.set_result(call())
            except BaseException as error:  # raised where it is waited for
                end.set_exception(error)

    try:
        Thread(target=run, name="engine").start()
        return end.result()
    finally:  # the interrupt may come at any step, also in the middle of `start`
        if not end.cancel():
            wait([end])
