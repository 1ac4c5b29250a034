"""Where a silent broker meets pytest: a spec that got no answer fails by an assertion, with the promise in its words.

A time out says only how long somebody has waited. What was waited for is promised by the protocol, on every channel:
an answer to each method, and in confirm mode one for each message
(https://www.rabbitmq.com/amqp-0-9-1-reference, https://www.rabbitmq.com/docs/confirms#publisher-confirms).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest

from rmqspec.client.errors import CallTimedOut, Unanswered


class Unkept(AssertionError):
    """The broker owed an answer. The spec has not asserted that: it was asserted for it."""


PROMISES = {
    Unanswered: "a broker answers each method, and in confirm mode each message",
    CallTimedOut: "a request and its reply both reach their queues",
}


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    """A spec that waited in vain."""
    with _asserted():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    """What is set up for a spec waited in vain, or had done so for an earlier spec already."""
    with _asserted():
        return (yield)


@contextmanager
def _asserted() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        for silence in _chain(error):
            for kind, promise in PROMISES.items():
                if isinstance(silence, kind):
                    words = f"{promise}: {silence}"
                    raise Unkept(words).with_traceback(error.__traceback__) from None
        raise


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from: whoever closes a connection that was given up hears only that it is lost."""
    while error is not None and not isinstance(error, (AssertionError, pytest.fail.Exception)):
        yield error
        error = error.__cause__ or error.__context__
