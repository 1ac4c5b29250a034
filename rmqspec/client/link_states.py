"""The states of a link, and what leads from one to the next.

::

    NEW ─▶ CONNECTING ─▶ OPENING ◀─▶ UP         a loop runs in these, and in CLOSING
              ▲  │          │        │
              │  ▼          ▼        ▼
              PAUSING ◀─────┴────────┘          each of them may close: CLOSING ─▶ PAUSING
                 │
                 ▼
               ENDED
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

__all__ = ["TRANSITIONS", "Event", "State"]


class State(Enum):
    """Where a link is."""

    NEW = "not opened yet"
    CONNECTING = "a loop runs, and the broker has not let it in yet"
    OPENING = "connected; the channel is not open, or not open again"
    UP = "the tenant has a channel"
    PAUSING = "no loop: before the next attempt, or before the end"
    CLOSING = "on its way out; the broker's answer to the goodbye is waited for"
    ENDED = "the thread is over"


class Event(Enum):
    """What happens to a link."""

    CONNECT = auto()  # an attempt begins
    CONNECTED = auto()
    CHANNEL_OPENED = auto()
    CHANNEL_LOST = auto()  # alone, or with its connection
    LOOP_ENDED = auto()
    CLOSE = auto()  # somebody has called close()
    END = auto()


TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.NEW: {Event.CONNECT: State.CONNECTING, Event.END: State.ENDED},
    State.CONNECTING: {
        Event.CONNECTED: State.OPENING,
        Event.CLOSE: State.CLOSING,
        Event.LOOP_ENDED: State.PAUSING,
    },
    State.OPENING: {
        Event.CHANNEL_OPENED: State.UP,
        Event.CHANNEL_LOST: State.OPENING,
        Event.CLOSE: State.CLOSING,
        Event.LOOP_ENDED: State.PAUSING,
    },
    State.UP: {
        Event.CHANNEL_LOST: State.OPENING,
        Event.CLOSE: State.CLOSING,
        Event.LOOP_ENDED: State.PAUSING,
    },
    State.PAUSING: {Event.CONNECT: State.CONNECTING, Event.CLOSE: State.PAUSING, Event.END: State.ENDED},
    State.CLOSING: {
        Event.CONNECTED: State.CLOSING,
        Event.CHANNEL_OPENED: State.CLOSING,
        Event.CHANNEL_LOST: State.CLOSING,
        Event.CLOSE: State.CLOSING,
        Event.LOOP_ENDED: State.PAUSING,
    },
    State.ENDED: {},
}
