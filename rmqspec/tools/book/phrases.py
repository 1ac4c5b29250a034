"""A method in a few words: a table of what matters of each, and what is said beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from rmqspec.tools.wire.recorder import Event

__all__ = ["phrase", "rest"]

WORDS: Mapping[str, str] = {
    "basic.ack": "#{delivery_tag}",
    "basic.cancel": "{consumer_tag}",
    "basic.consume": "{queue}",
    "basic.deliver": "#{delivery_tag} from {exchange}, key {routing_key}",
    "basic.get": "{queue}",
    "basic.get-ok": "#{delivery_tag} from {exchange}, key {routing_key}",
    "basic.nack": "#{delivery_tag}",
    "basic.publish": "to {exchange}, key {routing_key}",
    "basic.qos": "prefetch {prefetch_count}",
    "basic.reject": "#{delivery_tag}",
    "basic.return": "{reply_code} {reply_text}, from {exchange}, key {routing_key}",
    "channel.close": "{reply_code} {reply_text}",
    "connection.blocked": "{reason}",
    "connection.close": "{reply_code} {reply_text}",
    "exchange.bind": "{source} to {destination}, key {routing_key}",
    "exchange.declare": "{exchange}, {type}",
    "exchange.delete": "{exchange}",
    "exchange.unbind": "{source} to {destination}, key {routing_key}",
    "queue.bind": "{exchange} to {queue}, key {routing_key}",
    "queue.declare": "{queue}",
    "queue.declare-ok": "{message_count} ready, {consumer_count} consumers",
    "queue.delete": "{queue}",
    "queue.delete-ok": "{message_count} deleted",
    "queue.purge": "{queue}",
    "queue.purge-ok": "{message_count} purged",
    "queue.unbind": "{exchange} to {queue}, key {routing_key}",
}
FLAGS = ("passive", "exclusive", "auto_delete", "internal", "mandatory", "no_ack", "multiple", "redelivered", "requeue")
TOLD = ("expiration", "priority", "correlation_id", "reply_to")  # properties that a word is said of
EMPTY: Mapping[str, str] = {"exchange": "(default)", "source": "(default)", "routing_key": "(empty)", "queue": "(new)"}
RANDOM = re.compile(r"\b([0-9a-f]{6})[0-9a-f]{14,}\b")  # of a name that nobody reads to its end


def phrase(event: Event) -> str:
    """What matters of it, in a line."""
    named = {name: EMPTY.get(name, "") if value == "" else value for name, value in event.fields.items()}
    words = [f"channel {event.channel}"] if event.channel > 1 else []
    words += [WORDS.get(event.method, "").format_map(_Known(named))]
    words += [name.replace("_", " ") for name in FLAGS if event.fields.get(name) is True]
    words += [f"{name}={_plain(value)}" for name, value in (event.fields.get("arguments") or {}).items()]
    given = event.fields.get("properties") or {}
    words += [f"{name}={given[name]}" for name in TOLD if name in given]
    words += [f"“{event.body}”"] if event.body and not event.body.startswith("0x") else []
    return RANDOM.sub(r"\1…", ", ".join(filter(None, words)))


class _Known(dict[str, Any]):
    def __missing__(self, name: str) -> str:
        return "…"


def rest(event: Event) -> tuple[tuple[str, str], ...]:
    """The fields that the phrase does not say, as (name, value)."""
    said = {name for name in event.fields if f"{{{name}}}" in WORDS.get(event.method, "")}
    said |= {name for name in FLAGS if isinstance(event.fields.get(name), bool)}
    left = {name: value for name, value in event.fields.items() if name not in said and name != "arguments"}
    return tuple((name, _plain(value)) for name, value in left.items())


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
