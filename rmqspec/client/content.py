"""A body, with the headers that came beside it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["Content"]


class Content(bytes):
    """The body of a request or of a reply: bytes like any others, that know the message's headers.

    Attributes:
        headers: As they came, ``traceparent`` among them; none is an empty mapping.
        reply_to: Of a request, where its reply goes; else empty.
    """

    headers: Mapping[str, Any] = MappingProxyType({})
    reply_to: str = ""

    def __new__(cls, body: bytes = b"", headers: Mapping[str, Any] | None = None) -> Content:
        """Makes one; the body is copied."""
        self = super().__new__(cls, body)
        if headers:
            self.headers = headers
        return self
