"""Somebody else's broker, named by its URL."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from rmqspec.client import connect
from rmqspec.client.errors import ClientError, InvalidUrl
from rmqspec.client.url import read_url
from rmqspec.tools.broker.base import Broker
from rmqspec.tools.broker.configuration import PLAIN, Configuration
from rmqspec.tools.broker.endpoint import Endpoint, Identity, greet
from rmqspec.tools.broker.errors import ManagementError, NotOurs, Unavailable

__all__ = ["UrlBroker"]


class UrlBroker(Broker):
    """A broker that runs already. It is used, never restarted.

    Args:
        url: ``amqp://user:password@host:port/vhost``. Several addresses of one cluster stand with blanks between them;
            the first that answers is used.
        management_url: Where its management API is. With it each test makes a vhost of its own, and the URL's does not
            matter. Without it all tests use the URL's in turn, and no other address than the URL's is asked anything.

    Raises:
        Unavailable: It does not answer, or refuses the login; or it has neither a management API nor a connection
            without TLS.
    """

    source = "url"

    def __init__(self, url: str, management_url: str | None = None) -> None:
        endpoints = {_endpoint(one, management_url): one for one in url.split() or [""]}
        self.description = "a broker that was named by its URL"
        self.endpoint, self.__dict__["identity"] = _first_that_answers(list(endpoints))
        if not management_url:
            self.vhost = read_url(endpoints[self.endpoint])[0].virtual_host
            self._check_login()
            return
        try:
            tags = self.management.tags()
        except ManagementError as error:
            raise Unavailable("url", *_split(str(error))) from error
        if "administrator" not in tags:
            raise Unavailable(
                "url",
                f"the user {self.endpoint.user!r} lacks the tag administrator, and each test makes a vhost of its own",
                f"give it the tag (rabbitmqctl set_user_tags {self.endpoint.user} administrator), or name another user",
            )

    def _check_login(self) -> None:
        if self.endpoint.scheme == "amqps":
            raise Unavailable(
                "url",
                "nobody can read within TLS what tests declare in a vhost that they share",
                "name the management API (--rabbitmq-management-url), or give a URL that begins with amqp://",
            )
        try:
            connect(self.endpoint.url(self.vhost or "/"), "rmqspec").close()
        except ClientError as error:
            raise Unavailable("url", *_split(str(error))) from error

    def another(self, configuration: Configuration = PLAIN) -> Broker:  # noqa: ARG002, D102
        raise NotOurs("the broker was named by its URL: specs that restart or kill one are not run against it")

    def start(self) -> None:  # noqa: D102
        raise NotOurs("a broker that was named by its URL is not started from here")

    stop = kill = start

    def control(self, *arguments: str) -> str:  # noqa: D102
        raise NotOurs(f"a broker that was named by its URL is not controlled from here ({' '.join(arguments)})")

    def close(self) -> None:
        """Nothing: it goes on for those whose it is."""


def _endpoint(url: str, management_url: str | None) -> Endpoint:
    try:
        read_url(url)  # which part is wrong is said as to any client of ours
        return Endpoint.parse(url, management_url)
    except (InvalidUrl, ValueError) as error:
        raise Unavailable("url", str(error), "correct --rabbitmq-url or RABBITMQ_URL") from None


def _first_that_answers(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, Identity]:
    refusals, remedy = [], "start it, or correct --rabbitmq-url or RABBITMQ_URL"
    for endpoint in endpoints:
        try:
            return endpoint, greet(endpoint)
        except OSError as error:
            refusals.append(f"{endpoint.host}:{endpoint.port} ({error})")
            if isinstance(error, ssl.SSLCertVerificationError):
                remedy = "name the authority that signed its certificate in RABBITMQ_CA"
    reason = f"no broker speaks AMQP 0-9-1 at {', nor at '.join(refusals)}"
    raise Unavailable("url", reason, remedy)


def _split(sentence: str) -> tuple[str, str]:
    reason, _, remedy = sentence.partition(": ")
    return reason, remedy or "see the broker's log"
