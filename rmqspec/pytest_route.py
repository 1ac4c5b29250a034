"""The way of each connection of a test: straight to its broker, or past whoever notes or falsifies what is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from rmqspec.broker.endpoint import Endpoint
from rmqspec.pytest_lies import LIAR
from rmqspec.pytest_record import RECORDER
from rmqspec.wire.proxy import Proxy


@pytest.fixture(scope="session")
def route(request: pytest.FixtureRequest) -> Iterator[Callable[[str], str]]:
    """The way to a broker: `route(url)` leads past the recorder or the liar where one is at work, and else is the URL.

    A URL of TLS stays as it is: nobody can read that on the way.
    """
    recorder, liar = request.config.stash.get(RECORDER, None), request.config.stash.get(LIAR, None)
    if recorder is None and liar is None:
        yield str
        return
    proxies: dict[tuple[str, int], Proxy] = {}
    with ExitStack() as stack:

        def through(url: str) -> str:
            at = Endpoint.parse(url)
            if at.scheme == "amqps":
                return url
            place = at.host, at.port
            if place not in proxies:
                proxies[place] = proxy = stack.enter_context(Proxy(*place))
                if liar is not None:
                    liar.stand_in(proxy)
                elif recorder is not None:
                    proxy.taps = recorder.tap
            return proxies[place].url(url)

        yield through
