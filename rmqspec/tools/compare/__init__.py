"""Two runs of the same suite, on two brokers: what differs, and what of it no spec explains."""

from rmqspec.tools.compare.comparison import Change, Comparison, Incomparable, Shown, compare

__all__ = ["Change", "Comparison", "Incomparable", "Shown", "compare"]
