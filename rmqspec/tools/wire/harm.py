"""What is wrong with the line just now."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Harm"]

SLICES_PER_SECOND = 50  # into so many pieces a throttled stream is cut: few are many bytes late, many cost work


@dataclass(slots=True)
class Harm:
    """Shared by all connections of a proxy, read and written in its thread alone.

    Attributes:
        delay: Seconds that each chunk is late by.
        rate: Bytes per second in each direction of each connection; 0 is without limit.
        silent: Nothing is read or written.
        refusing: New connections are closed at once.
        linger: Seconds after which the end of what a side says is passed on.
        budget: Bytes from the broker after which a new connection is cut; None is without end.
    """

    delay: float = 0.0
    rate: float = 0.0
    silent: bool = False
    refusing: bool = False
    linger: float = 0.0
    budget: int | None = None

    @property
    def slows(self) -> bool:
        """Whether bytes have to wait."""
        return bool(self.silent or self.delay or self.rate)

    @property
    def slice(self) -> int | None:
        """How many bytes may leave at once; None for all."""
        return max(1, int(self.rate / SLICES_PER_SECOND)) if self.rate else None
