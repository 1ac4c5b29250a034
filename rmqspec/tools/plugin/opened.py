"""Which blocking connections a test opens to its vhost, whoever opens them: one that it leaves open is its failure.

Ours register themselves (``open_connections``). pika's own are noted where every one of them begins, in the public
constructor of ``pika.BlockingConnection``, for as long as the test runs. Connections of another kind, such as pika's
``SelectConnection`` or those of other libraries, are not noticed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any

import pytest
from pika import BlockingConnection
from pika.connection import Parameters
from pika.exceptions import AMQPError

__all__ = ["Opened"]


class Opened:
    """The blocking connections that were opened to one vhost.

    Args:
        vhost: Its name.
    """

    def __init__(self, vhost: str) -> None:
        self._vhost = vhost
        # No weak references: a connection that nobody holds is open until its garbage is collected, in a later test.
        self._names: dict[BlockingConnection, str] = {}

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Notes what is opened within the block."""
        begin = BlockingConnection.__init__

        @wraps(begin)
        def noted(connection: BlockingConnection, parameters: Any = None, *more: Any, **options: Any) -> None:
            begin(connection, parameters, *more, **options)
            self._note(connection, parameters)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(BlockingConnection, "__init__", noted)
            yield

    def close(self) -> list[str]:
        """Closes those that are open still; returns their names as the management UI shows them, or their addresses."""
        left = {connection: name for connection, name in self._names.items() if connection.is_open}
        for connection in left:
            with suppress(AMQPError):  # its vhost may be gone
                connection.close()
        return list(left.values())

    def _note(self, connection: BlockingConnection, parameters: Parameters | Sequence[Parameters] | None) -> None:
        several = parameters if isinstance(parameters, Sequence) else [parameters or Parameters()]
        for one in several:
            if one.virtual_host == self._vhost:
                name = (one.client_properties or {}).get("connection_name")
                self._names[connection] = name or f"one of pika's to {one.host}:{one.port}, without a name"
                return
