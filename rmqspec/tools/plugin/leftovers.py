"""What a spec that is expected to fail leaves behind, as a socket that nobody closed: no fault of the next one."""

from __future__ import annotations

import warnings

import pytest

__all__ = ["overlook"]


def overlook(config: pytest.Config) -> None:
    """Has it reported as no error: neither after the next spec, nor at the end of the run, where pytest looks again."""
    for name, kind in (
        ("ResourceWarning", ResourceWarning),
        ("pytest.PytestUnraisableExceptionWarning", pytest.PytestUnraisableExceptionWarning),
    ):
        config.addinivalue_line("filterwarnings", f"ignore::{name}")
        warnings.simplefilter("ignore", kind)  # until pytest ends: it has applied its own before it calls plugins
