"""Direct reply-to addresses: which of them the broker can read.

The broker makes such an address itself: a process of Erlang's, and a key that only the caller's channel knows. Anybody
may send a request with one that is made up. RabbitMQ 3.10 and 4.0 fail at it (541 INTERNAL_ERROR) and close the
connection of the server that answers, with all that is open on it; the request comes again, and so does the end. 4.3
drops the reply. What cannot be seen here: 3.10 also fails at an address of the right form whose node it does not know.

Source: https://www.rabbitmq.com/docs/direct-reply-to, rabbit_direct_reply_to.erl and rabbit_pid_codec.erl in
https://github.com/rabbitmq/rabbitmq-server; https://www.erlang.org/doc/apps/erts/erl_ext_dist (NEW_PID_EXT)
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from functools import lru_cache

from rmqspec.client.rpc import DIRECT_REPLY_TO

__all__ = ["is_readable"]

# A process: its node (an atom that is a hash of the node's name), then its id, its serial, and the node's creation.
PROCESS = re.compile(rb"\x83X(v\x00.|w.)(reply@\d{1,10}).{12}", re.DOTALL)


@lru_cache(maxsize=1024)  # a caller has one address for as long as it is connected
def is_readable(reply_to: str | bytes) -> bool:
    """Whether the broker can read an address that a reply is to be sent to; of any but a direct one it is so."""
    address = reply_to.encode() if isinstance(reply_to, str) else reply_to
    prefix = f"{DIRECT_REPLY_TO}.".encode()
    if not address.startswith(prefix):
        return True
    encoded, *key = address.removeprefix(prefix).split(b".", 1)
    try:
        process, _ = b64decode(encoded, validate=True), [b64decode(part, validate=True) for part in key]
    except binascii.Error:
        return False
    parts = PROCESS.fullmatch(process)
    return parts is not None and parts[1][-1] == len(parts[2])
