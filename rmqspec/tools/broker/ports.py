"""Free ports on loopback that stay ours.

A port that was free a moment ago can be anybody's by the time the broker binds it, and while a broker restarts, a
reconnecting client may be given the broker's own port as its source port. So a port is taken from below the range that
the system hands out to clients, and held by a bound socket that does not listen: nobody else can bind it, while a
server that sets ``SO_REUSEADDR``, as Erlang and Docker do, can.
"""

from __future__ import annotations

import random
import socket

__all__ = ["LOOPBACK", "PortTaken", "ReservedPort", "is_free"]

LOOPBACK = "127.0.0.1"
CANDIDATES = range(20_000, 32_000)  # below what Linux (from 32768), macOS and Windows (from 49152) give to clients


class PortTaken(OSError):
    """No port of the range is free."""


class ReservedPort:
    """A port on loopback that is held until ``release``."""

    def __init__(self) -> None:
        for number in random.SystemRandom().sample(CANDIDATES, k=200):
            holder = socket.socket()
            try:
                holder.bind((LOOPBACK, number))
            except OSError:
                holder.close()
                continue
            # Set after the bind: our own bind had to fail where somebody else holds or has just left the port.
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.number, self._holder = number, holder
            return
        raise PortTaken("none of 200 ports between 20000 and 32000 on 127.0.0.1 is free")

    def release(self) -> None:
        """Lets others have the port."""
        self._holder.close()


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
