"""A broker that another process started and will end: what the workers of pytest-xdist use."""

from __future__ import annotations

from typing import Any

from rmqspec.tools.broker.base import Broker
from rmqspec.tools.broker.configuration import PLAIN, Configuration
from rmqspec.tools.broker.endpoint import Endpoint
from rmqspec.tools.broker.errors import BrokerDied, NoBroker, NotOurs
from rmqspec.tools.broker.find import Choice, find

__all__ = ["SharedBroker"]


class SharedBroker(Broker):
    """Used like the original, but left alone at the end."""

    def __init__(self, letter: dict[str, Any]) -> None:
        self.source, self.description, self._image = letter["source"], letter["description"], letter["image"]
        self.vhost = letter["vhost"]
        self.endpoint = Endpoint(
            host=letter["host"],
            port=int(letter["port"]),
            user=letter["user"],
            password=letter["password"],
            management_url=letter["management_url"],
            scheme=letter["scheme"],
        )

    @staticmethod
    def letter(broker: Broker, image: str) -> dict[str, Any]:
        """What a process must be told to share a broker; it holds the password."""
        at = broker.endpoint
        return {
            "source": broker.source,
            "description": broker.description,
            "image": image,
            "vhost": broker.vhost,
            "host": at.host,
            "port": str(at.port),
            "user": at.user,
            "password": at.password,
            "management_url": at.management_url,
            "scheme": at.scheme,
        }

    def another(self, configuration: Configuration = PLAIN) -> Broker:
        """A broker of the same kind, owned by this process.

        Raises:
            BrokerDied: It did not come up.
        """
        if self.source == "url":
            raise NotOurs("the broker was named by its URL: specs that restart or kill one are not run against it")
        choice = Choice(broker=self.source, image=self._image, configuration=configuration)
        try:
            return find(choice, lambda _: None)
        except NoBroker as error:  # of one source, whose own word it has
            if isinstance(error.__cause__, BrokerDied):
                raise error.__cause__ from None
            raise

    def start(self) -> None:  # noqa: D102
        raise NotOurs("this broker is shared with other processes")

    stop = kill = start

    def control(self, *arguments: str) -> str:  # noqa: D102
        raise NotOurs(f"this broker is shared with other processes ({' '.join(arguments)})")

    def close(self) -> None:
        """Nothing: it goes on for those whose it is."""
