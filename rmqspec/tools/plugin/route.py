"""The way of each connection of a test: straight to its broker, or past whoever notes or falsifies what is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from rmqspec.tools.broker.endpoint import Endpoint
from rmqspec.tools.broker.ports import LOOPBACK
from rmqspec.tools.plugin.late import LATE
from rmqspec.tools.plugin.lies import LIAR
from rmqspec.tools.plugin.one_vhost import ONE_VHOST
from rmqspec.tools.plugin.record import RECORDER
from rmqspec.tools.wire.proxy import Proxy


@pytest.fixture(scope="session")
def route(request: pytest.FixtureRequest) -> Iterator[Callable[[str], str]]:
    """The way to a broker: `route(url)` leads past who notes, delays, falsifies or renames things, and else is the URL.

    A URL of TLS stays as it is: nobody can read that on the way.
    """
    stash = request.config.stash
    recorder, other = stash.get(RECORDER, None), stash.get(LIAR, None) or stash.get(LATE, None)
    shared = stash.get(ONE_VHOST, None)
    if recorder is None and other is None and shared is None:
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
                beyond = place
                if shared is not None:  # a proxy of its own, next to the broker: it hears what the broker hears
                    last = stack.enter_context(Proxy(*place))
                    shared.stand_in(last)
                    beyond = LOOPBACK, last.port
                proxies[place] = proxy = stack.enter_context(Proxy(*beyond))
                if other is not None:
                    other.stand_in(proxy)
                elif recorder is not None:
                    proxy.taps = recorder.tap
            return proxies[place].url(url)

        yield through
