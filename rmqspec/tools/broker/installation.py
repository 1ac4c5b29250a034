"""The ``rabbitmq-server`` of this machine: where its parts are."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rmqspec.tools.broker.errors import Unavailable

__all__ = ["Installation", "installed_here"]

# The script itself. The one of the same name in sbin changes to the user rabbitmq, which only root can.
KNOWN_PLACES = (
    "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "/opt/homebrew/sbin/rabbitmq-server",
    "/usr/local/sbin/rabbitmq-server",
)


@dataclass(frozen=True, slots=True)
class Installation:
    """A RabbitMQ that can be started as any user.

    Attributes:
        server: The script ``rabbitmq-server``.
        path: Directories that go first on ``PATH``: where Erlang's ``erl`` is, if not on the system's path.
        libraries: Directories with shared libraries that the system lacks.
    """

    server: Path
    path: Sequence[Path] = ()
    libraries: Sequence[Path] = ()

    @property
    def search_path(self) -> str:
        """``PATH`` for the server: its Erlang first."""
        return ":".join([*map(str, self.path), "/usr/local/bin", "/usr/bin", "/bin", "/opt/homebrew/bin"])

    @property
    def plugins(self) -> Path:
        """The directory of RabbitMQ's own applications; its plugins are among them."""
        return self.server.resolve().parent.parent / "plugins"

    @property
    def erlang(self) -> Path:
        """The directory of Erlang's applications."""
        return Path(self.find("erl")).resolve().parent.parent / "lib"

    def find(self, program: str) -> str:
        """The path of one of Erlang's programs.

        Raises:
            Unavailable: It is not there.
        """
        found = shutil.which(program, path=self.search_path)
        if found is None:
            raise Unavailable("node", f"{self.server} is here but Erlang's {program} is not", "install Erlang")
        return found


def installed_here() -> Installation:
    """The RabbitMQ that is installed on this machine.

    Raises:
        Unavailable: None is.
    """
    for place in map(Path, KNOWN_PLACES):
        if place.is_file():
            return Installation(place)
    raise Unavailable(
        "node", "no rabbitmq-server is installed on this machine", "install it, as with apt-get install rabbitmq-server"
    )
