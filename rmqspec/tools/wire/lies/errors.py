"""A broker that hides mistakes, or tells of others.

Source: https://www.rabbitmq.com/docs/channels#error-handling, https://www.rabbitmq.com/amqp-0-9-1-reference#constants
"""

from __future__ import annotations

from pika import spec

from rmqspec.tools.wire.lies.lie import ANSWERS, Lie, Talk, Tell, Told, by_broker, changed, swallowed
from rmqspec.tools.wire.said import Said

__all__ = ["ERRORS"]

CHANNEL_CLOSE = "channel.close"
CLOSES = "channel.close connection.close"
PUBLISH = 60, 40
REFUSED, NOT_FOUND, LOCKED, PRECONDITION = 403, 404, 405, 406
NOT_ALLOWED, NOT_IMPLEMENTED, INTERNAL = 530, 540, 541
ANONYMOUS = "ANONYMOUS"
SMALLEST_FRAME = 8192  # bytes: what every release agrees to
CHANNELS = 2047  # that a broker offers


def _code(old: int, new: int) -> Tell:
    return by_broker(lambda said, _: said.but(reply_code=new) if said.method.reply_code == old else said)


def _hidden(code: int) -> Tell:
    """The client hears that it is done; for the broker the channel is closed, and opened again."""

    def tell(said: Said, talk: Talk) -> Told:
        if not said.by_broker:
            asked = talk.memory.setdefault("asked", {})
            if said.name != "basic.publish":
                asked[said.channel] = said
            return said
        if said.name == "channel.open-ok":
            return None if talk.memory.pop(("reopened", said.channel), False) else said
        if said.name != CHANNEL_CLOSE or said.method.reply_code != code:
            return said
        talk.memory["reopened", said.channel] = True
        talk.to_broker(Said(said.channel, spec.Channel.CloseOk()))
        talk.to_broker(Said(said.channel, spec.Channel.Open()))
        if (said.method.class_id, said.method.method_id) == PUBLISH:
            return None
        last = talk.memory.get("asked", {}).get(said.channel)
        if last is not None and last.name in ANSWERS:
            return Said(said.channel, ANSWERS[last.name](last.method))
        return None

    return tell


def _capable(capability: str) -> Tell:
    """The client says that it understands this, whatever it has said."""

    def tell(said: Said, _: Talk) -> Told:
        properties = said.method.client_properties or {}
        capabilities = properties.get("capabilities") or {}
        if capabilities.get(capability):
            return said
        return said.but(client_properties=properties | {"capabilities": capabilities | {capability: True}})

    return tell


def _connection_closed(said: Said, _: Talk) -> Told:
    if not said.by_broker:
        return said
    method = said.method
    close = spec.Connection.Close(method.reply_code, method.reply_text, method.class_id, method.method_id)
    return Said(0, close)


def _login_named(said: Said, talk: Talk) -> Told:
    """The user's name is in what the client sent for the login, between two zero bytes."""
    if said.name == "connection.start-ok":
        talk.memory["login"] = said.method.response
        return said
    if not said.by_broker or said.method.reply_code != REFUSED:
        return said
    login = talk.memory.get("login", b"")
    text = login.decode(errors="replace") if isinstance(login, bytes) else str(login)
    return said.but(reply_text=f"{said.method.reply_text} {text.split(chr(0))[1:2]}"[:255])


def _secret_refused(said: Said, _: Talk) -> Told:
    if not said.by_broker:
        return said
    return Said(0, spec.Connection.Close(NOT_ALLOWED, "NOT_ALLOWED - the secret is refused", 10, 70))


def _anonymous_changed(said: Said, _: Talk) -> Told:
    """Whether clients may log in without a password."""
    offered = said.method.mechanisms
    words = (offered.decode() if isinstance(offered, bytes) else offered).split()
    others = [word for word in words if word != ANONYMOUS]
    return said.but(mechanisms=" ".join(others if ANONYMOUS in words else [*words, ANONYMOUS]))


def _frames_raised(said: Said, _: Talk) -> Told:
    """The broker hears of a larger frame than the client has asked for."""
    return said.but(frame_max=SMALLEST_FRAME) if 0 < said.method.frame_max < SMALLEST_FRAME else said


def _refused(said: Said, _: Talk) -> Told:
    """Instead of its answer a request gets the end of the connection."""
    if not said.by_broker:
        return said
    return Said(0, spec.Connection.Close(NOT_IMPLEMENTED, "NOT_IMPLEMENTED", 0, 0))


def _high_number_refused(said: Said, _: Talk) -> Told:
    return _refused(said, _) if said.channel > CHANNELS else said


def _tuned_as_offered(said: Said, talk: Talk) -> Told:
    """What the client has agreed to is what was offered."""
    if said.by_broker:
        talk.memory["offer"] = said.method
        return said
    offer = talk.memory.get("offer")
    return changed(channel_max=offer.channel_max, frame_max=offer.frame_max)(said, talk) if offer else said


def _served_after_goodbye(said: Said, talk: Talk) -> Told:
    """The goodbye of a client is passed on after what it says next."""
    if said.name == "connection.close":
        if said.by_broker:
            return said
        talk.memory["goodbye"] = said
        return None
    goodbye = None if said.by_broker else talk.memory.pop("goodbye", None)
    return [said, goodbye] if goodbye else said


NOWAIT = (
    "exchange.declare exchange.delete exchange.bind exchange.unbind queue.declare queue.bind queue.purge queue.delete "
    "basic.consume basic.cancel confirm.select"
)
ASKING = " ".join([*ANSWERS, "basic.publish", "channel.open-ok", CHANNEL_CLOSE])

ERRORS = (
    Lie.of("refusal-hidden", "What a user may not do seems to be done.", ASKING, _hidden(REFUSED)),
    Lie.of("absence-hidden", "What is not there seems to be.", ASKING, _hidden(NOT_FOUND)),
    Lie.of("lock-hidden", "What belongs to somebody else seems to be free.", ASKING, _hidden(LOCKED)),
    Lie.of("precondition-hidden", "What contradicts what is there seems to be done.", ASKING,
           _hidden(PRECONDITION)),
    Lie.of("code-403-changed", "What a user may not do is not found.", CLOSES, _code(REFUSED, NOT_FOUND)),
    Lie.of("code-404-changed", "What is not there is refused.", CLOSES, _code(NOT_FOUND, REFUSED)),
    Lie.of("code-405-changed", "What is somebody else's has failed a precondition.", CLOSES,
           _code(LOCKED, PRECONDITION)),
    Lie.of("code-406-changed", "What failed a precondition is somebody else's.", CLOSES, _code(PRECONDITION,
           LOCKED)),
    Lie.of("connection-code-changed", "Every mistake on a connection is an internal error.", "connection.close",
           by_broker(changed(reply_code=INTERNAL))),
    Lie.of("error-text-lost", "A mistake is told without words.", CLOSES, by_broker(changed(reply_text=""))),
    Lie.of("mistake-costs-connection", "A mistake on a channel closes the connection.", CHANNEL_CLOSE,
           _connection_closed),
    Lie.of("offending-method-hidden", "A mistake does not name the method that was wrong.", CHANNEL_CLOSE,
           by_broker(changed(class_id=0, method_id=0))),
    Lie.of("cancel-swallowed", "A consumer is not told that its queue is gone.", "basic.cancel",
           by_broker(swallowed)),
    Lie.of("cancel-capability-assumed", "A broker sends basic.cancel to clients that have not asked for it.",
           "connection.start-ok", _capable("consumer_cancel_notify")),
    Lie.of("blocked-capability-assumed", "A broker sends connection.blocked to clients that have not asked for it.",
           "connection.start-ok", _capable("connection.blocked")),
    Lie.of("block-swallowed", "A publisher is not told that the broker takes nothing in.", "connection.blocked",
           swallowed),
    Lie.of("block-reason-lost", "A publisher is not told why the broker takes nothing in.", "connection.blocked",
           changed(reason="")),
    Lie.of("blocked-connection-closed", "A publisher that is blocked loses its connection.", "connection.blocked",
           lambda said, _: [said, Said(0, spec.Connection.Close(INTERNAL, "INTERNAL_ERROR", 0, 0))]),
    Lie.of("unblock-swallowed", "A publisher is not told that the broker takes in again.", "connection.unblocked",
           swallowed),
    Lie.of("vhost-ignored", "There is one vhost for all.", "connection.open", changed(virtual_host="/")),
    Lie.of("login-named", "A refused login names the user, so that one can guess who there is.",
           "connection.start-ok connection.close", _login_named),
    Lie.of("secret-refused", "A new secret on an open connection is refused.", "connection.update-secret-ok",
           _secret_refused),
    Lie.of("anonymous-login-changed", "Anybody may log in without a password where nobody may, and the reverse.",
           "connection.start", _anonymous_changed),
    Lie.of("protocol-version-changed", "A broker says that it speaks another version of AMQP.", "connection.start",
           lambda said, _: said.but(version_minor=said.method.version_minor + 1)),
    Lie.of("frame-max-raised", "A broker agrees to frames that are too small for it.", "connection.tune-ok",
           _frames_raised),
    Lie.of("server-properties-lost", "A broker says nothing of itself.", "connection.start",
           changed(server_properties={})),
    Lie.of("client-properties-lost", "What a client says of itself is not noted.", "connection.start-ok",
           changed(client_properties={})),
    Lie.of("handshake-mended", "A broker takes what it has offered for what a client has agreed to.",
           "connection.tune connection.tune-ok", _tuned_as_offered),
    Lie.of("idle-methods-refused", "A method that has no effect closes the connection.",
           "access.request-ok channel.flow-ok basic.cancel-ok", _refused),
    Lie.of("nowait-ignored", "What needs no answer is answered.", NOWAIT,
           lambda said, _: said.but(nowait=False) if getattr(said.method, "nowait", False) else said),
    Lie.of("recover-async-answered", "A recovery that needs no answer is answered.", "basic.recover-async",
           lambda said, _: Said(said.channel, spec.Basic.Recover(said.method.requeue))),
    Lie.of("channel-numbers-limited", "A channel with a high number is refused.", "channel.open-ok",
           _high_number_refused),
    Lie.of("closing-client-served", "What a client sends after its goodbye is done.",
           "connection.close queue.declare", _served_after_goodbye),
    Lie.of("heartbeat-refused", "A broker wants no heartbeats.", "connection.tune connection.tune-ok",
           changed(heartbeat=0)),
    Lie.of("heartbeat-longer", "A broker sends heartbeats later than was agreed.", "connection.tune-ok",
           lambda said, _: said.but(heartbeat=30 * said.method.heartbeat) if said.method.heartbeat else said),
    Lie.of("heartbeat-forced", "A broker expects a heartbeat each second from a client that has agreed on none.",
           "connection.tune-ok", lambda said, _: said if said.method.heartbeat else said.but(heartbeat=1)),
)  # fmt: skip
