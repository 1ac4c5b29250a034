"""What somebody uses, by the management API of a running broker.

Only GET, in pages where the API has them, and only the columns that are looked at. A user with the tag ``monitoring``
is enough, but it sees a vhost's queues only with a permission there, be it an empty one; a vhost that it does not see
comes as empty lists, not as an error. So each vhost is asked on its own, and what was not seen is said.

Source: https://www.rabbitmq.com/docs/management#permissions
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import quote, unquote, urlsplit

from urllib3.exceptions import NewConnectionError, SSLError, TimeoutError  # noqa: A004 - of a request

from rmqspec.tools.broker.endpoint import Endpoint
from rmqspec.tools.broker.errors import ManagementError
from rmqspec.tools.broker.management import Management
from rmqspec.tools.upgrade.errors import Unreadable
from rmqspec.tools.upgrade.sources import Shows
from rmqspec.tools.upgrade.used import Item, Used, odd_key

__all__ = ["Address", "RunningBroker"]

PAGE = 500  # rows; the most that the API gives at once
MOST_PAGES = 10_000  # so many queues has no broker; what has is none
SECONDS = 60.0  # for one answer: a busy broker with many queues is slow
SEES_ALL = {"monitoring", "administrator"}  # tags
WITHHELD = (401, 403, 404)  # 404: 4.3 of a vhost that the user may not see, older releases of what they do not have

OF_A_VHOST = {  # part: path, columns, whether it has pages
    "exchanges": ("exchanges/{vhost}", "name,vhost,type,durable,auto_delete,internal,arguments", True),
    "queues": ("queues/{vhost}", "name,vhost,type,durable,exclusive,auto_delete,arguments", True),
    "bindings": ("bindings/{vhost}", "source,vhost,destination,destination_type,routing_key,arguments", False),
    "policies": ("policies/{vhost}", "name,vhost,pattern,apply-to,definition,priority", False),
    "operator_policies": ("operator-policies/{vhost}", "name,vhost,pattern,apply-to,definition,priority", False),
    "consumers": ("consumers/{vhost}", "queue,consumer_tag,arguments", False),
}
OF_THE_CLUSTER = {
    "connections": (
        "connections",
        "name,user,protocol,frame_max,client_properties.product,client_properties.version",
        True,
    ),
    "channels": ("channels", "name,user,global_prefetch_count", True),
    "flags": ("feature-flags", "name,state", False),
    "deprecated": ("deprecated-features/used", "name", False),
    "nodes": ("nodes", "name,enabled_plugins", False),
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a management API is, and as whom it is asked."""

    url: str
    user: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Reads ``http://user@host:15672``; https for TLS, and a path in front of ``/api`` if there is one.

        Raises:
            ValueError: It is no such URL, or holds a password: a shell keeps what was typed, and ``ps`` shows it.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValueError("no URL of a management API: write http://user@host:15672") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("no URL of a management API: write http://user@host:15672")
        if parts.password is not None or "@" in parts.path + parts.query + parts.fragment:  # behind a / of its
            raise ValueError("leave the password out of the URL: set RABBITMQ_PASSWORD, or type it when asked")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        path = parts.path.rstrip("/").removesuffix("/api")
        return cls(
            f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{path}", unquote(parts.username or "guest")
        )

    @property
    def readable_on_the_way(self) -> bool:
        """Whether the password would travel over a network without TLS."""
        host = urlsplit(self.url).hostname or ""
        return self.url.startswith("http:") and host not in ("localhost", "::1") and not host.startswith("127.")


@dataclass(frozen=True, slots=True)
class RunningBroker:
    """A broker that answers over HTTP. ``repr`` leaves the password out."""

    address: Address
    password: str = field(repr=False)
    shows: ClassVar[Shows] = "management"

    @property
    def name(self) -> str:
        """As it is called in the report."""
        return f"the broker at {self.address.url}, as user {self.address.user!r}"

    def read(self) -> Used:
        """Asks the broker.

        Raises:
            Unreadable: It does not answer, or refuses the login.
        """
        # It is asked over HTTP alone: there is no address for AMQP.
        api = Management(Endpoint("", 0, self.address.user, self.password, self.address.url), SECONDS)
        try:
            return _Reading(api).all()
        except ManagementError as error:
            raise Unreadable(self._explained(error)) from error

    def _explained(self, error: ManagementError) -> str:
        at, cause = self.address.url, error.__cause__
        if isinstance(cause, SSLError):
            return (
                f"the certificate of {at} was not accepted ({cause}): "
                "set RABBITMQ_CA to a file with the certificate that has signed it"
            )
        if isinstance(cause, TimeoutError) and not isinstance(cause, NewConnectionError):  # which is one of them
            return f"{at} did not answer within {SECONDS:g} s: ask again later, or look into the broker's log"
        if 300 <= error.status < 400:
            return str(error)
        if error.status in (0, 404):
            return (
                f"no management API of RabbitMQ answers at {at}: enable the plugin "
                "(rabbitmq-plugins enable rabbitmq_management), or name its address, such as http://user@host:15672"
            )
        if error.status in (401, 403):
            return (
                f"{at} refused the login of {self.address.user!r}: check user and password, and give the "
                f"user the tag monitoring (rabbitmqctl set_user_tags {self.address.user} monitoring)"
            )
        return f"{at} answered {error.status}: ask again later, or look into the broker's log"


class _Reading:
    """One reading of a broker: the parts as they come, and what was withheld."""

    def __init__(self, api: Management) -> None:
        self._api, self._parts, self._gaps = api, dict[str, list[Item]](), list[str]()

    def all(self) -> Used:
        if not self._tags() & SEES_ALL:
            self._gaps.append(
                "the vhosts that this user may not enter, the connections and the channels of other users: "
                "it has neither the tag monitoring nor administrator"
            )
        named = list(self._rows("vhosts", "name", paged=False))
        if any(row.get("name") is None for row in named):
            raise self._odd("vhosts")
        vhosts = [str(row["name"]) for row in named]
        if not vhosts:
            self._gaps.append("any vhost: this user may enter none")
        self._parts |= {part: [] for part in OF_A_VHOST}
        hidden = [vhost for vhost in vhosts if not self._vhost(vhost)]
        if hidden:
            shown = ", ".join(map(repr, hidden[:10])) + (f" and {len(hidden) - 10} more" if len(hidden) > 10 else "")
            self._gaps.append(
                f"the vhosts {shown}: this user has no permission there; an empty one is enough: "
                "rabbitmqctl set_permissions -p VHOST USER '' '' ''"
            )
        for part, (path, columns, paged) in OF_THE_CLUSTER.items():
            self._optional(part, path, columns, paged=paged)
        self._parts["plugins"] = self._plugins(self._parts.pop("nodes", []))
        overview = self._api.get("overview?columns=rabbitmq_version")
        version = overview.get("rabbitmq_version") if isinstance(overview, dict) else ""
        return Used.of(self._parts, self._gaps, version)

    def _tags(self) -> set[str]:
        who = self._api.get("whoami")
        tags = who.get("tags") if isinstance(who, dict) else None
        if not isinstance(tags, list | str):
            raise self._odd("whoami")
        return set(tags.split(",") if isinstance(tags, str) else map(str, tags))  # text with commas before 3.9

    def _vhost(self, vhost: str) -> bool:
        read: dict[str, list[Item]] = {}
        for part, (path, columns, paged) in OF_A_VHOST.items():
            try:
                read[part] = list(self._rows(path.format(vhost=quote(vhost, safe="")), columns, paged=paged))
            except ManagementError as error:
                if error.status not in WITHHELD:
                    raise
                return False
        for part, rows in read.items():
            self._parts[part].extend(rows)
        return True

    def _optional(self, part: str, path: str, columns: str, *, paged: bool) -> None:
        try:
            self._parts[part] = list(self._rows(path, columns, paged=paged))
        except ManagementError as error:
            if error.status not in WITHHELD:
                raise
            if part == "deprecated" and error.status == 404:  # a release that does not know deprecated features
                return
            self._gaps.append(f"{path}: this release shows it to administrators only, or not at all")

    def _rows(self, path: str, columns: str, *, paged: bool) -> Iterator[Item]:
        if not paged:
            yield from self._listed(path, self._api.get(f"{path}?columns={columns}"))
            return
        counts = set[object]()
        page, pages = 1, 1
        while page <= pages:
            try:
                answer: Any = self._api.get(f"{path}?page={page}&page_size={PAGE}&columns={columns}")
            except ManagementError as error:
                if error.status != 400 or page == 1:
                    raise
                counts |= {None, page}  # this page is gone, with rows that were deleted meanwhile
                break
            if isinstance(answer, list):
                answer = {"items": answer, "page_count": 0}
            told = answer.get("page_count") if isinstance(answer, dict) else None
            if not isinstance(told, int) or told > MOST_PAGES:
                raise self._odd(path)
            pages = told
            counts.add(answer.get("total_count"))
            yield from self._listed(path, answer.get("items"))
            page += 1
        if len(counts) > 1:
            self._gaps.append(f"some of {path}, maybe: the list changed while it was read; ask again")

    def _listed(self, path: str, rows: Any) -> Sequence[Item]:
        # A row without any of the columns comes as an empty list instead of an object.
        if not isinstance(rows, list) or any(not isinstance(row, dict) and row != [] for row in rows):
            raise self._odd(path)
        found = [row for row in rows if row]
        if any(odd_key(row) or (isinstance(of := row.get("queue"), dict) and odd_key(of)) for row in found):
            raise self._odd(path)
        return found

    def _odd(self, path: str) -> Unreadable:
        return Unreadable(
            f"what answers at {self._api.url} is no management API of RabbitMQ: it answers otherwise to {path}; "
            "name its address, such as http://user@host:15672"
        )

    @staticmethod
    def _plugins(nodes: Sequence[Item]) -> list[Item]:
        lists = (enabled for node in nodes if isinstance(enabled := node.get("enabled_plugins"), list))
        names = {str(plugin) for enabled in lists for plugin in enabled}
        return [{"name": name} for name in sorted(names)]
