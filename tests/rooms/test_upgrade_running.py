"""`rmqspec upgrade --url URL`: whom an upgrade concerns, by a running broker's management API.

Code: rmqspec/tools/upgrade/running.py
"""

import base64
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import trustme
from click.testing import CliRunner

from rmqspec.cli.main import cli
from rmqspec.tools.upgrade.running import PAGE, Address, RunningBroker

from .echo import serving

PASSWORD = "geheim, und nirgends zu lesen"


def ask(url, *options, password=PASSWORD, old="3.13", new="4.3"):
    return CliRunner().invoke(cli, ["upgrade", old, new, "--url", url, *options], env={"RABBITMQ_PASSWORD": password})


def found(ended):
    """The findings of an answer in JSON: {id: names}."""
    return {row["id"]: row["concerned"] for row in json.loads(ended.output)["rows"]}


class Stub(BaseHTTPRequestHandler):
    """A management API with what a test puts into it: lists by path, or a status."""

    lists: dict = {}
    asked: list

    def do_GET(self):
        parts, sent = urlsplit(self.path), self.headers["authorization"]
        self.asked.append((self.command, unquote(parts.path.removeprefix("/api/")), parse_qs(parts.query), sent))
        rows = self.lists.get(self.asked[-1][1], [])
        if isinstance(rows, str):
            self.send_response(302)
            self.send_header("location", rows)
            self.send_header("content-length", "0")
            self.end_headers()
        elif isinstance(rows, int):
            self.say(rows, {"error": "not_authorised", "reason": "Not administrator user"})
        elif "page" in (query := self.asked[-1][2]):
            page, size = int(query["page"][0]), int(query["page_size"][0])
            pages = -(-len(rows) // size)
            items = rows[(page - 1) * size : page * size] if isinstance(rows, list) else rows
            self.say(200, {"items": items, "page_count": pages, "total_count": len(rows)})
        else:
            self.say(200, rows)

    def say(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def api():
    """A stub with one vhost: `api(**{"queues//": rows})` yields its URL; `api.asked` has its requests."""

    class Mine(Stub):
        asked = []
        lists = {"vhosts": [{"name": "/"}], "whoami": {"name": "watcher", "tags": ["monitoring"]}}

    with serving(Mine) as port:

        def filled(lists):
            Mine.lists = Mine.lists | lists
            return f"http://watcher@127.0.0.1:{port}"

        filled.asked = Mine.asked
        yield filled


class TestAddress:
    """`Address`."""

    def test_reads_host_port_path_and_user(self):
        """A proxy in front of the API may have put it below a path."""
        address = Address.parse("https://a%40b@mq.example.com/rabbit/api/")

        assert (address.url, address.user) == ("https://mq.example.com/rabbit", "a@b")

    @pytest.mark.parametrize(
        "url", ["mq.example.com", "amqp://guest@host", "http://", "http://host:port", "http://[::1"]
    )
    def test_is_refused_if_it_is_no_url_of_an_api(self, url):
        """The AMQP URL of the application is what is pasted first."""
        ended = ask(url)

        assert ended.exit_code == 2
        assert "write http://user@host:15672" in ended.output

    def test_with_a_password_is_refused_without_repeating_it(self):
        """A shell keeps what was typed, and the list of processes shows it to every user."""
        ended = ask("http://watcher:geheim@127.0.0.1:15672")

        assert ended.exit_code == 2
        assert "set RABBITMQ_PASSWORD" in ended.output
        assert "geheim" not in ended.output

    @pytest.mark.parametrize("url", ["http://watcher:12/geheim@127.0.0.1", "http://watcher:1?ge#heim@127.0.0.1"])
    def test_with_a_password_with_a_slash_is_refused_too(self, url):
        """It ends the host's name, and the rest of the password would pass for a path, and be shown."""
        ended = ask(url)

        assert ended.exit_code == 2
        assert "set RABBITMQ_PASSWORD" in ended.output
        assert "heim" not in ended.output

    @pytest.mark.parametrize(("url", "readable"), [
        ("http://mq.example.com", True), ("https://mq.example.com", False), ("http://127.0.0.1:15672", False),
    ])  # fmt: skip
    def test_knows_whether_others_can_read_the_password_on_the_way(self, url, readable):
        """Over http in a network it stands in every request."""
        assert Address.parse(url).readable_on_the_way is readable


class TestRequests:
    """What the broker is asked."""

    def test_are_get_only_with_selected_columns(self, api):
        """An advisor that writes, or that loads a busy broker with statistics, is not let near one."""
        ended = ask(api({}))

        assert ended.exit_code == 0, ended.output
        assert {method for method, *_ in api.asked} == {"GET"}
        assert [path for _, path, query, _ in api.asked if "columns" not in query] == ["whoami"], "which is one row"

    def test_come_in_pages_where_the_api_has_them(self, api):
        """A list of ten thousand queues at once costs the broker's memory."""
        queues = [{"name": f"q{n}", "vhost": "/", "durable": n != PAGE, "arguments": {}} for n in range(PAGE + 1)]

        ended = ask(api({"queues//": queues}), "--json")

        assert found(ended)["B01"] == [f"queue 'q{PAGE}' in vhost '/'"], "the one on the second page"
        assert [query["page"] for _, path, query, _ in api.asked if path == "queues//"] == [["1"], ["2"]]

    def test_say_if_a_list_has_changed_between_its_pages(self, api):
        """A queue that was deleted meanwhile moves the others to the front, and one of them past the page."""

        class Shrinking(list):
            """Loses its first row each time it is asked for."""

            def __getitem__(self, part):
                rows = super().__getitem__(part)
                self.pop(0)
                return rows

        queues = Shrinking({"name": f"q{n}", "vhost": "/", "durable": True} for n in range(PAGE + 2))

        (gap,) = json.loads(ask(api({"queues//": queues}), "--json").output)["gaps"]

        assert gap == "some of queues/%2F, maybe: the list changed while it was read; ask again"

    def test_do_not_follow_to_another_place(self, api):
        """Whoever stands at the other address would get the password."""
        elsewhere = []

        class Elsewhere(Stub):
            asked = elsewhere

        with serving(Elsewhere) as port:
            for path in ("whoami", "queues//"):
                ended = ask(api({"whoami": {"tags": ["monitoring"]}, path: f"http://127.0.0.1:{port}/api/"}))

                assert ended.exit_code == 2
                assert f"sends elsewhere, to 'http://127.0.0.1:{port}/api/': name that address" in ended.output
        assert elsewhere == []

    def test_carry_the_password_of_the_environment(self, api):
        """It is in no argument, so that no list of processes shows it."""
        ask(api({}))

        login = base64.b64encode(f"watcher:{PASSWORD}".encode()).decode()
        assert {sent for *_, sent in api.asked} == {f"Basic {login}"}

    def test_show_the_password_nowhere(self, api):
        """The report goes into tickets."""
        url = api({"queues//": [{"name": "q", "vhost": "/", "durable": False}]})

        for options in ((), ("--json",), ("--markdown",)):
            output = ask(url, *options).output
            assert "watcher" in output
            assert PASSWORD not in output
        assert PASSWORD not in repr(RunningBroker(Address.parse(url), PASSWORD))

    def test_are_not_made_without_a_password(self, api):
        """In a pipeline nobody answers a prompt; it would wait for ever."""
        url = api({})
        ended = CliRunner().invoke(cli, ["upgrade", "3.13", "4.3", "--url", url], env={"RABBITMQ_PASSWORD": None})

        assert ended.exit_code == 2
        assert "set RABBITMQ_PASSWORD" in ended.output
        assert api.asked == []


class TestFinding:
    """What only a running broker shows."""

    @pytest.mark.parametrize(
        ("name", "path", "concerned", "neighbour", "shown"),
        [
            ("B02", "channels", {"global_prefetch_count": 5}, {"global_prefetch_count": 0}, "channel 'it'"),
            ("B18", "connections", {"frame_max": 4096}, {"frame_max": 8192}, "frame_max 4096"),
            ("B50", "feature-flags", {"state": "disabled"}, {"name": "khepri_db", "state": "enabled"}, "khepri_db"),
            *(
                (name, "deprecated-features/used", {"name": feature}, {}, f"deprecated feature {feature}")
                for name, feature in [
                    ("B01", "transient_nonexcl_queues"),
                    ("B25", "queue_master_locator"),
                    ("B26", "classic_queue_mirroring"),
                ]
            ),
            ("B59", "connections", {"protocol": "AMQP 0-8"}, {"protocol": "AMQP 0-9"}, "connection 'it'"),
            ("B84", "connections", {"protocol": "AMQP 1-0"}, {"protocol": "AMQP 0-9-1"}, "connection 'it'"),
            *(
                (name, "nodes", {"enabled_plugins": [plugin]}, {"enabled_plugins": ["rabbitmq_shovel"]}, plugin)
                for name, plugin in [
                    ("B73", "rabbitmq_auth_backend_oauth2"),
                    ("B83", "rabbitmq_event_exchange"),
                    ("B85", "rabbitmq_stomp"),
                    ("B91", "rabbitmq_delayed_message_exchange"),
                    ("B91", "somebodys_plugin"),
                ]
            ),
        ],
    )
    def test_names_what_is_concerned_and_passes_over_its_neighbour(self, api, name, path, concerned, neighbour, shown):
        """A client that will not connect any more is found before the upgrade, not after."""
        url = api({path: [{"name": "it", "user": "anna", **concerned}]})
        names = found(ask(url, "--json", old="3.10"))[name]
        assert [one for one in names if shown in one] == names != []

        api({path: [{"name": "it", "user": "anna", **neighbour}]})
        assert name not in found(ask(url, "--json", old="3.10"))

    @pytest.mark.parametrize(
        ("name", "argument", "kind", "other"),
        [
            ("B28", "x-stream-filter", "stream", "classic"),
            ("B66", "x-stream-filter", "quorum", "stream"),
            ("B60", "x-credit", "classic", None),
        ],
    )
    def test_names_consumers_by_their_arguments_and_the_type_of_their_queue(self, api, name, argument, kind, other):
        """The same argument is right at a stream and refused elsewhere."""
        consumer = {"consumer_tag": "mine", "queue": {"name": "q", "vhost": "/"}, "arguments": {argument: "eu"}}
        lists = {"queues//": [{"name": "q", "vhost": "/", "type": kind, "durable": True}], "consumers//": [consumer]}
        url = api(lists)

        assert found(ask(url, "--json", old="3.10"))[name] == ["consumer 'mine' of queue 'q' in vhost '/'"]

        api(
            {"queues//": [{"name": "q", "vhost": "/", "type": other, "durable": True}]}
            if other
            else {"consumers//": []}
        )
        assert name not in found(ask(url, "--json", old="3.10"))

    def test_is_named_once_if_an_export_shows_it_too(self, api, tmp_path):
        """Two sources are one report."""
        row = {"name": "fleeting", "vhost": "/", "durable": False}
        file = tmp_path / "rabbit.json"
        file.write_text(json.dumps({"queues": [row]}))

        ended = ask(api({"queues//": [row]}), "--definitions", str(file), "--json")

        assert found(ended)["B01"] == ["queue 'fleeting' in vhost '/'"]
        assert len(json.loads(ended.output)["read"]) == 2


class TestVersion:
    """What the broker says of its own version."""

    @pytest.mark.parametrize(
        ("said", "words"),
        [
            ({"rabbitmq_version": "3.13.7"}, ", of RabbitMQ 3.13.7"),
            ({"rabbitmq_version": "3.10.8"}, ", of RabbitMQ 3.10.8, and not of 3.13: name the release that you leave"),
            ({}, ""),
            ([], ""),
        ],
    )
    def test_is_shown_and_held_against_the_old_release(self, api, said, words):
        """Differences between other releases than one's own say nothing of one's own upgrade."""
        (read,) = json.loads(ask(api({"overview": said}), "--json").output)["read"]

        assert read.endswith(f"as user 'watcher'{words}")

    def test_with_khepri_and_not_of_3_13_leaves_a_way(self, api):
        """4.0 can be upgraded with it; a way that is refused in vain costs a second cluster."""
        lists = {
            "feature-flags": [{"name": "khepri_db", "state": "enabled"}],
            "overview": {"rabbitmq_version": "4.0.5"},
        }

        assert ask(api(lists), old="4.0", new="4.2").exit_code == 0


class TestKhepri:
    """The feature flag khepri_db of a broker of 3.13."""

    @pytest.mark.parametrize(
        ("state", "old", "new", "code"),
        [
            ("enabled", "3.13", "4.2", 3),
            ("enabled", "3.13.7", "4.3.6", 3),
            ("disabled", "3.13", "4.2", 0),
            ("enabled", "3.13.0", "3.13.7", 0),
        ],
    )
    def test_that_is_enabled_leaves_no_way_to_4_x(self, api, state, old, new, code):
        """It was an experiment, and its data is not read by 4.x: the node does not come back."""
        lists = {"feature-flags": [{"name": "khepri_db", "state": state}], "overview": {"rabbitmq_version": "3.13.7"}}

        ended = ask(api(lists), old=old, new=new)

        assert ended.exit_code == code, ended.output
        assert ("3.13 with Khepri cannot be upgraded in place" in ended.stderr) is (code == 3)


class TestWithheld:
    """What the broker does not show to this user."""

    @pytest.mark.parametrize("status", [401, 404], ids=["before 4.3", "since 4.3"])
    def test_vhost_is_said_to_be_unread(self, api, status):
        """Without a permission there its queues come as none, and nothing would be found in them."""
        url = api({"vhosts": [{"name": "/"}, {"name": "shop"}], "exchanges/shop": status})

        (gap,) = json.loads(ask(url, "--json").output)["gaps"]

        assert gap.startswith("the vhosts 'shop'")
        assert "rabbitmqctl set_permissions -p VHOST USER" in gap
        assert "Not read: the vhosts 'shop'" in ask(url).output

    def test_list_for_administrators_is_said_to_be_unread(self, api):
        """3.10 shows feature flags to administrators only."""
        output = ask(api({"feature-flags": 401})).output

        end = output[output.index("Nothing was found") :]
        assert "Not read: feature-flags" in end
        assert "ask as a user with the tag administrator. B50: The feature flag" in " ".join(end.split())
        assert "--url" not in end

    def test_deprecated_features_of_a_release_without_them_are_no_gap(self, api):
        """3.10 has no such list, and nothing to say there; an administrator could not read it either."""
        assert json.loads(ask(api({"deprecated-features/used": 404}), "--json").output)["gaps"] == []
        assert json.loads(ask(api({"deprecated-features/used": 401}), "--json").output)["gaps"] != []

    def test_login_is_one_sentence(self, api):
        """It says what tag is missing, and ends with 2: nothing was read."""
        ended = ask(api({"whoami": 401}))

        assert ended.exit_code == 2
        assert "refused the login of 'watcher'" in ended.output
        assert "monitoring" in ended.output

    def test_api_that_does_not_answer_is_one_sentence(self):
        """The plugin is off, or the port is that of AMQP."""
        with serving(BaseHTTPRequestHandler) as port:
            gone = port

        ended = ask(f"http://watcher@127.0.0.1:{gone}")

        assert ended.exit_code == 2
        assert f"no management API of RabbitMQ answers at http://127.0.0.1:{gone}" in ended.output

    @pytest.mark.parametrize(
        ("tags", "missing"),
        [(["monitoring"], 0), ("administrator,other", 0), (["management"], 1), (["policymaker"], 1), ("", 1)],
    )
    def test_users_of_others_are_said_to_be_unread(self, api, tags, missing):
        """Without the tag monitoring the lists hold what is the user's own, and no error says so."""
        gaps = json.loads(ask(api({"whoami": {"tags": tags}}), "--json").output)["gaps"]

        assert len(gaps) == missing
        assert all("connections and the channels of other users" in gap for gap in gaps)

    def test_vhosts_are_said_to_be_unread_if_there_are_none(self, api):
        """A broker without a vhost is none."""
        (gap,) = json.loads(ask(api({"vhosts": []}), "--json").output)["gaps"]

        assert gap == "any vhost: this user may enter none"


NO_ANSWER = "no management API of RabbitMQ answers at http://127.0.0.1:"
OTHERWISE = "is no management API of RabbitMQ: it answers otherwise to"


class TestOtherServer:
    """What answers, and is no management API."""

    @pytest.mark.parametrize(
        ("lists", "reason"),
        [
            ({"whoami": 404}, NO_ANSWER),
            ({"whoami": 403}, "refused the login of 'watcher'"),
            ({"whoami": 503}, "answered 503"),
            ({"whoami": None}, f"{OTHERWISE} whoami"),
            ({"whoami": {"error": "none"}}, f"{OTHERWISE} whoami"),
            ({"whoami": ["a"]}, f"{OTHERWISE} whoami"),
            ({"vhosts": {"name": "/"}}, f"{OTHERWISE} vhosts"),
            ({"vhosts": ["/"]}, f"{OTHERWISE} vhosts"),
            ({"vhosts": [{"x": 1}]}, f"{OTHERWISE} vhosts"),
            ({"queues//": {}}, f"{OTHERWISE} queues/%2F"),
            ({"queues//": [{"name": []}]}, f"{OTHERWISE} queues/%2F"),
            ({"consumers//": [{"queue": {"name": {}}}]}, f"{OTHERWISE} consumers/%2F"),
        ],
    )
    def test_is_refused_in_one_sentence(self, api, lists, reason):
        """Read as empty lists it would be a broker in which nothing was found."""
        ended = ask(api(lists))

        assert ended.exit_code == 2, ended.output
        assert reason in ended.output
        assert ended.output.count("Error:") == 1

    def test_is_not_asked_for_page_after_page(self, api, monkeypatch):
        """A server that always knows of another page is asked for ever."""
        monkeypatch.setattr("rmqspec.tools.upgrade.running.MOST_PAGES", 2)

        ended = ask(api({"queues//": [{"name": f"q{n}"} for n in range(2 * PAGE + 1)]}))

        assert ended.exit_code == 2
        assert f"{OTHERWISE} queues/%2F" in ended.output

    def test_is_said_to_be_slow(self, api, monkeypatch):
        """That the plugin is off would be the wrong trail."""
        monkeypatch.setattr("rmqspec.tools.upgrade.running.SECONDS", 0.01)
        given_up = threading.Event()
        monkeypatch.setattr(Stub, "say", lambda *_: given_up.wait(10))

        ended = ask(api({}))
        given_up.set()

        assert ended.exit_code == 2
        assert "did not answer within 0.01 s" in ended.output

    def test_has_its_certificate_named_where_it_is_not_trusted(self, monkeypatch, tmp_path):
        """A broker with a certificate of the house is the usual case; the remedy is a file."""
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.delenv("RABBITMQ_CA", raising=False)

        class Mine(Stub):
            asked = []
            lists = {"vhosts": [{"name": "/"}], "whoami": {"tags": ["monitoring"]}}

        with serving(Mine, context) as port:
            refused = ask(f"https://watcher@127.0.0.1:{port}")
            asked_before = [*Mine.asked]
            monkeypatch.setenv("RABBITMQ_CA", str(tmp_path / "ca.pem"))
            trusted = ask(f"https://watcher@127.0.0.1:{port}")

        assert refused.exit_code == 2
        assert f"the certificate of https://127.0.0.1:{port} was not accepted" in refused.output
        assert "set RABBITMQ_CA to a file" in refused.output
        assert asked_before == []
        assert trusted.exit_code == 0, trusted.output


class TestMonitoringUser:
    """A real broker, asked by a user with the tag monitoring."""

    def test_sees_what_is_concerned_in_a_vhost_with_an_empty_permission(self, broker, user, vhost, channel):
        """The least that a person has to give; what it shows is what an administrator sees."""
        channel.queue_declare("fleeting")
        channel.queue_declare("unlimited", durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_declare("buried", durable=True, arguments={"x-queue-type": "quorum"})
        broker.management.set_policy(vhost, "bury", "^buried$", {"dead-letter-exchange": "dlx"})
        channel.exchange_declare("brief", "topic", durable=False)
        watcher = user(tags="monitoring", configure="", write="", read="")
        url = broker.endpoint.management_url.replace("://", f"://{watcher.user}@")

        ended = ask(url, "--json", password=watcher.password)

        assert ended.exit_code == 1, ended.output
        here = {
            name: [one.partition(" in vhost")[0] for one in names if vhost in one]
            for name, names in found(ended).items()
        }
        assert here["B01"] == ["queue 'fleeting'"]
        assert here["B04"] == ["queue 'unlimited'"]
        assert here["B34"] == ["exchange 'brief'"]
        assert f"'{vhost}'" not in " ".join(json.loads(ended.output)["gaps"])

    def test_of_another_tag_is_told_what_it_does_not_see(self, broker, user, vhost, connection):
        """The broker shows no connection of others to it, and no vhost, as if there were none."""
        manager = user(tags="management", configure="", write="", read="")
        url = broker.endpoint.management_url.replace("://", f"://{manager.user}@")

        gaps = json.loads(ask(url, "--json", password=manager.password).output)["gaps"]

        assert "it has neither the tag monitoring nor administrator" in gaps[0]

    def test_without_a_permission_is_told_which_vhost_was_not_read(self, broker, user, vhost, channel):
        """The broker answers with empty lists, and nothing would be found in them."""
        channel.queue_declare("fleeting")
        watcher = user(tags="monitoring")
        url = broker.endpoint.management_url.replace("://", f"://{watcher.user}@")

        answer = json.loads(ask(url, "--json", password=watcher.password).output)

        assert [row for row in answer["rows"] if vhost in str(row["concerned"])] == []
        assert "this user has no permission there" in answer["gaps"][0]
