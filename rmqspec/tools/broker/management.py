"""The management API, as far as a run needs it: the control plane beside AMQP.

Source: https://www.rabbitmq.com/docs/http-api-reference
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import urllib3
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from rmqspec.tools.broker.endpoint import Endpoint
from rmqspec.tools.broker.errors import ManagementError, NoManagement

__all__ = ["Management"]

WORDS = {"GET": "asked for", "PUT": "set", "DELETE": "deleted", "POST": "posted"}


class Management:
    """A client of one broker's management API; any thread may use it.

    Each request has a connection of its own. The server closes one that is idle, RabbitMQ 3.10 after a minute and 4.3
    after five seconds; a request sent at that moment gets no answer, and nobody knows whether it was carried out.
    """

    def __init__(self, endpoint: Endpoint, timeout: float = 10.0) -> None:
        self.url = endpoint.management_url
        self._user = endpoint.user
        # In UTF-8, as RabbitMQ reads it; urllib3 would encode it in Latin-1.
        login = base64.b64encode(f"{endpoint.user}:{endpoint.password}".encode()).decode()
        self._headers, self._timeout = (
            {"authorization": f"Basic {login}", "connection": "close"},
            urllib3.Timeout(timeout),
        )

    def whoami(self) -> str:
        """The name of the user that is logged in."""
        return str(self._call("GET", "whoami")["name"])

    def tags(self) -> set[str]:
        """The tags of the user that is logged in, such as ``administrator``."""
        tags = self._call("GET", "whoami")["tags"]  # a list since 3.12, before that words with commas
        return set(tags.split(",") if isinstance(tags, str) else tags)

    def create_vhost(self, name: str, default_queue_type: str | None = None) -> None:
        """Creates a vhost, or gives an existing one this default queue type; its creator gets all permissions there."""
        body = None if default_queue_type is None else {"default_queue_type": default_queue_type}
        self._call("PUT", f"vhosts/{_part(name)}", body)

    def delete_vhost(self, name: str) -> None:
        """Deletes a vhost with all that is in it; its connections are closed by the broker."""
        self._call("DELETE", f"vhosts/{_part(name)}")

    def protect_vhost(self, name: str, *, protected: bool = True) -> None:
        """Lets nobody delete a vhost until it is no longer protected; RabbitMQ can since 4.0.6."""
        self._call("POST" if protected else "DELETE", f"vhosts/{_part(name)}/deletion/protection")

    def vhosts(self) -> list[str]:
        """The names of all vhosts."""
        return [str(vhost["name"]) for vhost in self._call("GET", "vhosts")]

    def set_policy(
        self,
        vhost: str,
        name: str,
        pattern: str,
        definition: Mapping[str, object],
        *,
        priority: int = 0,
        apply_to: str | None = None,
        operator: bool = False,
    ) -> None:
        """Sets a policy for the queues and exchanges whose names match ``pattern``, a regular expression.

        Args:
            vhost: Where.
            name: Of the policy.
            pattern: Of the names.
            definition: The keys.
            priority: Of several policies that match the same name the one with the highest is applied.
            apply_to: ``queues``, ``exchanges``, ``all``, or since 3.12 a queue type; by default what the broker takes.
            operator: Whether it is an operator policy: limits that users cannot exceed. See
                https://www.rabbitmq.com/docs/policies#operator-policies.
        """
        body: dict[str, object] = {"pattern": pattern, "definition": definition, "priority": priority}
        if apply_to is not None:
            body["apply-to"] = apply_to
        kind = "operator-policies" if operator else "policies"
        self._call("PUT", f"{kind}/{_part(vhost)}/{_part(name)}", body)

    def delete_policy(self, vhost: str, name: str) -> None:
        """Deletes a policy; what it was applied to gets the next that matches, or none."""
        self._call("DELETE", f"policies/{_part(vhost)}/{_part(name)}")

    def create_user(self, name: str, password: str, tags: str = "") -> None:
        """Creates a user, who may enter no vhost yet, or gives an existing one this password and these tags."""
        self._call("PUT", f"users/{_part(name)}", {"password": password, "tags": tags})

    def delete_user(self, name: str) -> None:
        """Deletes a user; the broker closes its connections (320)."""
        self._call("DELETE", f"users/{_part(name)}")

    def permit(self, vhost: str, user: str, configure: str = "", write: str = "", read: str = "") -> None:
        """Lets a user into a vhost, to do each of the three to what matches the regular expression; an empty one: none.

        Source: https://www.rabbitmq.com/docs/access-control#authorisation
        """
        permissions = {"configure": configure, "write": write, "read": read}
        self._call("PUT", f"permissions/{_part(vhost)}/{_part(user)}", permissions)

    def permit_topics(self, vhost: str, user: str, exchange: str, write: str, read: str) -> None:
        """Limits the routing keys that a user may publish and bind with at a topic exchange."""
        permissions = {"exchange": exchange, "write": write, "read": read}
        self._call("PUT", f"topic-permissions/{_part(vhost)}/{_part(user)}", permissions)

    def limit_vhost(self, vhost: str, limit: str, value: int) -> None:
        """Sets ``max-connections`` or ``max-queues`` of a vhost; -1 is no limit."""
        self._call("PUT", f"vhost-limits/{_part(vhost)}/{limit}", {"value": value})

    def limit_user(self, user: str, limit: str, value: int) -> None:
        """Sets ``max-connections`` or ``max-channels`` of a user; -1 is no limit."""
        self._call("PUT", f"user-limits/{_part(user)}/{limit}", {"value": value})

    def exchanges(self, vhost: str) -> set[str]:
        """The names of a vhost's exchanges."""
        return {str(exchange["name"]) for exchange in self._call("GET", f"exchanges/{_part(vhost)}")}

    def bindings(self, vhost: str) -> set[tuple[str, str, str]]:
        """A vhost's bindings as (exchange, queue, key), those of the default exchange left out."""
        rows = self._call("GET", f"bindings/{_part(vhost)}")
        return {(row["source"], row["destination"], row["routing_key"]) for row in rows if row["source"]}

    def connection_names(self) -> set[str]:
        """What the open connections call themselves. This list lags behind by some seconds."""
        rows = self._call("GET", "connections?columns=user_provided_name")
        # A connection without the column, as one that has no name, may come as an empty list instead of an object.
        return {str(row["user_provided_name"]) for row in rows if "user_provided_name" in row}

    def vhosts_used_by(self, user: str) -> set[str]:
        """The vhosts that a user has connections in, by the list that the broker itself goes by.

        By this list it counts them for limits, and closes them when the user or the vhost is deleted. A connection is
        on it a moment after the client has been told that it is open; one that is not on it yet is not closed.
        """
        return {str(row["vhost"]) for row in self._call("GET", f"connections/username/{_part(user)}")}

    def plugins(self) -> set[str]:
        """The names of the plugins that are enabled on some node, those that were enabled for their sake left out.

        A node that has just started says so after some seconds; until then it is waited for.

        Raises:
            ManagementError: It has said nothing within ten seconds.
        """
        # A node without the column comes as an empty list instead of an object.
        told = Retrying(
            retry=retry_if_result(lambda nodes: not all("enabled_plugins" in node for node in nodes)),
            wait=wait_fixed(0.1),
            stop=stop_after_delay(10),
        )
        try:
            nodes = told(self._call, "GET", "nodes?columns=enabled_plugins")
        except RetryError as error:
            raise ManagementError(f"{self.url} does not know which plugins are enabled: ask again later") from error
        return {str(plugin) for node in nodes for plugin in node["enabled_plugins"]}

    def feature_flags(self) -> set[str]:
        """The names of the feature flags that are enabled."""
        return {str(flag["name"]) for flag in self._call("GET", "feature-flags") if flag["state"] == "enabled"}

    def get(self, path: str) -> Any:
        """What a GET of a path below ``/api/`` answers; it changes nothing."""
        return self._call("GET", path)

    def put(self, path: str, body: Mapping[str, object]) -> None:
        """Creates or changes what a path below ``/api/`` names."""
        self._call("PUT", path, body)

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        """What a POST to a path below ``/api/`` answers: of a message, or of definitions."""
        return self._call("POST", path, body)

    def _call(self, verb: str, path: str, body: object = None) -> Any:
        if not self.url:
            raise NoManagement(f"{path.partition('?')[0].partition('/')[0]} are {WORDS[verb]}")
        address = f"{self.url}/api/{path}"
        try:
            ca = os.environ.get("RABBITMQ_CA")
            with urllib3.PoolManager(headers=self._headers, timeout=self._timeout, retries=False, ca_certs=ca) as http:
                answer = http.request(verb, address, json=body)
        except urllib3.exceptions.HTTPError as error:
            raise ManagementError(
                f"nothing answers at {self.url}: enable the management plugin (rabbitmq-plugins enable "
                "rabbitmq_management) or name its address with --rabbitmq-management-url"
            ) from error
        if 300 <= answer.status < 400:  # not followed: nobody has said that the password may go there
            place = answer.headers.get("location")
            raise ManagementError(f"{self.url} sends elsewhere, to {place!r}: name that address", answer.status)
        excerpt = answer.data[:300].decode(errors="replace")
        if answer.status == 401 and "anagement user" in excerpt:
            raise ManagementError(
                f"the user {self._user!r} has no tag for the management API: give it the tag administrator "
                f"(rabbitmqctl set_user_tags {self._user} administrator), or name another user",
                401,
            )
        if answer.status == 401:
            raise ManagementError(f"{self.url} refused the login of {self._user!r}: check user and password", 401)
        if answer.status >= 400:
            raise ManagementError(f"{self.url} answered {answer.status} to {verb} {path}: {excerpt}", answer.status)
        try:
            return answer.json() if answer.data else None
        except (ValueError, RecursionError) as error:
            raise ManagementError(
                f"what answers at {self.url} is no management API of RabbitMQ: name its address with "
                "--rabbitmq-management-url, such as http://127.0.0.1:15672"
            ) from error


def _part(name: str) -> str:
    return quote(name, safe="")
