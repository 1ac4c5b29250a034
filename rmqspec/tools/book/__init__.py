"""What a run has shown: the run record. Knows the wire's events, and neither a broker nor pytest."""

from rmqspec.tools.book.record import Chapter, Footer, Header, NoRecord, Outcome, Record, Spec, read
from rmqspec.tools.book.writer import Writer

__all__ = ["Chapter", "Footer", "Header", "NoRecord", "Outcome", "Record", "Spec", "Writer", "read"]
