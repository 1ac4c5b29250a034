"""What somebody uses, by an export of a broker's definitions: a file, no broker.

``rabbitmqctl export_definitions FILE`` and the management API's ``/api/definitions`` write it; exclusive queues are not
in it. Of users only the names are taken: password hashes never leave this module, nor do parameters of plugins, which
may hold URLs with passwords.

Source: https://www.rabbitmq.com/docs/definitions
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rmqspec.tools.upgrade.errors import Unreadable
from rmqspec.tools.upgrade.sources import Shows
from rmqspec.tools.upgrade.used import Item, Used, arguments, odd_key, short_type

__all__ = ["Definitions"]

MAKE_ONE = "make one with: rabbitmqctl export_definitions FILE"
KEYS = {  # of a row, that are kept; what else is there may be a secret
    "queues": ("name", "vhost", "durable", "exclusive", "auto_delete", "type", "arguments"),
    "exchanges": ("name", "vhost", "durable", "auto_delete", "internal", "type", "arguments"),
    "bindings": ("source", "vhost", "destination", "destination_type", "routing_key", "arguments"),
    "policies": ("name", "vhost", "pattern", "apply-to", "definition", "priority"),
    "topic_permissions": ("user", "vhost", "exchange"),
    "users": ("name",),
}
LARGEST = 512 * 1024 * 1024  # bytes of an export; one of 100,000 queues has some 30 MB


@dataclass(frozen=True, slots=True)
class Definitions:
    """An export of definitions, in JSON."""

    path: Path
    shows: ClassVar[Shows] = "definitions"

    @property
    def name(self) -> str:
        """As it is called in the report."""
        return f"definitions in {self.path}"

    def read(self) -> Used:
        """Reads the file.

        Raises:
            Unreadable: It is no file, no JSON, or no export.
        """
        export = self._export()
        vhost = self._only_vhost(export)
        parts = {
            part: [self._kept(row, keys, vhost) for row in self._rows(export, part)]
            for part, keys in KEYS.items()
            if part in export
        }
        if "parameters" in export:
            parts["operator_policies"] = [
                self._kept({"vhost": row.get("vhost"), **value, "name": row.get("name")}, KEYS["policies"], vhost)
                for row in self._rows(export, "parameters")
                if row.get("component") == "operator_policy" and isinstance(value := row.get("value"), dict)
            ]
        default_types = self._default_types(export)
        if "queues" in parts:
            parts["queues"] = [_typed(queue, default_types) for queue in parts["queues"]]
        return Used.of(parts, version=export.get("rabbitmq_version") or export.get("rabbit_version"))

    def _only_vhost(self, export: Mapping[str, Any]) -> object:
        """The name of the vhost in an export of one, whose rows do not repeat it; None if it is not known.

        Before 4.0 it stands at policies and parameters, and not at queues.
        """
        if "original_vhost_name" in export or "vhosts" in export:
            return export.get("original_vhost_name")
        rows = [*self._rows(export, "policies"), *self._rows(export, "parameters")]
        named = {row["vhost"] for row in rows if isinstance(row.get("vhost"), str)}
        return named.pop() if len(named) == 1 else None

    def _default_types(self, export: Mapping[str, Any]) -> Mapping[str, str]:
        """The default queue type of each vhost that has one."""
        rows = self._rows(export, "vhosts") if "vhosts" in export else [{**export, "name": self._only_vhost(export)}]
        types = {}
        for row in rows:
            metadata = row.get("metadata")
            told = metadata if isinstance(metadata, dict) else {}
            default = short_type(row.get("default_queue_type") or told.get("default_queue_type"))
            if default in ("quorum", "stream"):
                types[str(row.get("name"))] = default
        return types

    def _export(self) -> Mapping[str, Any]:
        try:
            with self.path.open("rb") as file:
                content = file.read(LARGEST + 1)  # a device may have no end
            if len(content) > LARGEST:
                raise Unreadable(f"{self.path} has more than {LARGEST >> 20} MiB: name an export; {MAKE_ONE}")
            text = content.decode("utf-8-sig")
        except OSError as error:
            raise Unreadable(f"{self.path} cannot be read ({error.strerror}): name an export; {MAKE_ONE}") from error
        except UnicodeError as error:
            raise Unreadable(f"{self.path} is no text in UTF-8: name an export in JSON; {MAKE_ONE}") from error
        try:
            export = json.loads(text)
        except (ValueError, RecursionError) as error:
            where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
            raise Unreadable(f"{self.path} is no JSON{where}: name an export; {MAKE_ONE}") from error
        if not isinstance(export, dict) or not KEYS.keys() & export.keys():
            raise Unreadable(f"{self.path} is JSON, but no export of RabbitMQ's definitions; {MAKE_ONE}")
        return export

    def _rows(self, export: Mapping[str, Any], part: str) -> list[Item]:
        rows = export.get(part, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise Unreadable(f"{self.path} is no export that can be read: {part!r} is no list of objects; {MAKE_ONE}")
        return rows

    def _kept(self, row: Item, keys: Iterable[str], vhost: object) -> Item:
        kept = {key: row[key] for key in keys if row.get(key) is not None}
        if isinstance(vhost, str) and "vhost" in keys:
            kept.setdefault("vhost", vhost)
        if key := odd_key(kept):
            raise Unreadable(f"{self.path} is no export that can be read: a {key!r} is no text; {MAKE_ONE}")
        return kept


def _typed(queue: Item, default_types: Mapping[str, str]) -> Item:
    """With the type that a broker gives a queue without one when it reads the export; transient ones are classic."""
    if queue.get("type") or "x-queue-type" in arguments(queue) or not queue.get("durable") or queue.get("auto_delete"):
        return queue
    return {"type": default_types.get(str(queue.get("vhost"))), **queue}
