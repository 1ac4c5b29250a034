"""A broker in memory, and pika's event loop in front of it, for a world in which a test decides who runs when.

It keeps the promises that the clients build on, no more: routing by queue name, mandatory returns, confirms in order,
prefetch, redelivery of what was unacked, direct reply-to, alarms, closed channels. What a client has written is worked
on by a thread of the broker's own, so that a cut finds some of it not yet read; what the broker has written waits for
the client's loop, and a cut loses that too.
"""

from collections import Counter, deque
from itertools import count
from types import SimpleNamespace

from pika import BasicProperties, exceptions, spec
from pika.frame import Body, Header, Method, decode_frame

REPLY_TO = "amq.rabbitmq.reply-to"


class Broker:
    """What a test asks of the other side.

    Args:
        world: Whose threads and time.

    Attributes:
        queues: The ready messages of each queue.
        accepts: Whether it lets anybody in.
        silent: Whether it reads nothing.
        published: How often each body arrived in a queue, or at the server of "echo".
        largest: How many bytes a body may have.
        on_wake: Called when the next client hands something to its loop, once.
    """

    def __init__(self, world):
        self.world, self.queues, self.loops, self.accepts, self.silent = world, {}, [], True, False
        self.published, self.blocked, self.on_wake, self.largest = Counter(), "", None, 20
        self._addresses = count(1)
        world.threading.Thread(target=self._read, name="broker", daemon=True).start()

    def open_loop(self, parameters, name, opened, refused, closed):
        """In place of ``rmqspec.client.connection.open_loop``."""
        loop = Loop(self, name, opened, refused, closed)
        self.loops.append(loop)
        return loop

    def cut(self, name=""):
        """Ends connections as a network does: what is on its way is lost."""
        for loop in list(self.loops):
            if name in loop.name:
                loop.break_off(exceptions.StreamLostError("cut"))

    def close_channel(self, name, code=406, text="PRECONDITION_FAILED - as the test wants"):
        for loop in list(self.loops):
            if name in loop.name and loop.connection:
                loop.connection.close_channel(code, text)

    def block(self, reason):
        self.blocked = reason
        for loop in self.loops:
            if loop.connection:
                loop.come(lambda loop=loop: loop.on_blocked(reason))

    def new_queue(self, name):
        return self.queues.setdefault(name, deque())

    def message(self, body):
        return (BasicProperties(), body, False)

    def unacked(self):
        return sum(len(loop.connection.unacked) for loop in self.loops if loop.connection)

    def delete_queue(self, queue):
        del self.queues[queue]
        for loop in self.loops:
            if loop.connection:
                loop.connection.cancel(queue)

    def _read(self):
        while True:
            self.world.wait(lambda: not self.silent and any(loop.connection and loop.sent for loop in self.loops))
            for loop in list(self.loops):
                if loop.connection and loop.sent:
                    connection, work = loop.connection, loop.sent.popleft()
                    work(connection)
                    self.deliver()
                    break

    def publish(self, connection, exchange, key, properties, body):
        """Routes a message; None where nobody is bound for it."""
        if key.startswith(REPLY_TO + "."):
            for loop in self.loops:
                if loop.connection and loop.connection.address == key:
                    loop.connection.reply(properties, body)
            return True
        if key == "echo":
            self.published[body] += 1
            return self.publish(connection, "", properties.reply_to, properties, body)
        if exchange or key not in self.queues:
            return None
        self.published[body] += 1
        self.queues[key].append((properties, body, False))
        return True

    def deliver(self):
        """Hands ready messages to whoever has room."""
        for loop in self.loops:
            if loop.connection:
                loop.connection.pull()

    def forget(self, loop):
        if loop.connection:
            loop.connection.end()
            loop.connection = None
        if loop in self.loops:
            self.loops.remove(loop)
        self.deliver()


class Connection:
    """The broker's side of a connection, with its one channel."""

    def __init__(self, broker, loop):
        self.broker, self.loop, self.address = broker, loop, f"{REPLY_TO}.{next(broker._addresses)}"
        self.open_channel(1)

    def open_channel(self, number):
        self.number, self.queue, self.tag, self.prefetch = number, None, 0, 0
        self.unacked, self.confirms, self.next_confirm, self.parts, self.replies = {}, False, 1, None, False
        self.closed, self.own = False, getattr(self, "own", None)

    def close_channel(self, code, text):
        if self.closed:
            return
        self.end()
        channel = self.loop.channels[-1] if self.loop.channels else None
        if channel is not None:
            self.loop.come(lambda: channel.lose(exceptions.ChannelClosedByBroker(code, text)))

    def end(self):
        """All that was unacked goes back."""
        self.closed = True
        for tag in sorted(self.unacked, reverse=True):
            queue, (properties, body, _) = self.unacked.pop(tag)
            if queue in self.broker.queues:
                self.broker.queues[queue].appendleft((properties, body, True))
        self.queue = None

    def cancel(self, queue):
        if self.queue == queue:
            self.queue = None
            channel = self.loop.channels[-1]
            self.loop.come(lambda: channel.on_cancel(None))

    def pull(self):
        while self.queue and not self.closed and (ready := self.broker.queues.get(self.queue)):
            if self.prefetch and len(self.unacked) >= self.prefetch:
                return
            self.tag += 1
            message = ready.popleft()
            self.unacked[self.tag] = (self.queue, message)
            properties, body, redelivered = message
            method = spec.Basic.Deliver(self.consumer_tag, self.tag, redelivered, "", self.queue)
            self._to_consumer(method, properties, body)

    def reply(self, properties, body):
        if self.replies and not self.closed:
            self._to_consumer(spec.Basic.Deliver("", 1, False, "", self.address), properties, body)

    def _to_consumer(self, method, properties, body):
        channel = self.loop.channels[-1]
        self.loop.come(lambda: channel.is_open and channel.on_message(channel, method, properties, body))

    def consume(self, queue, tag):
        if self.closed:
            return
        if queue == REPLY_TO or queue == self.own:
            self.replies = True
        elif queue in self.broker.queues:
            self.queue, self.consumer_tag = queue, tag
        else:
            self.close_channel(404, f"NOT_FOUND - no queue '{queue}'")

    def frames(self, data):
        while data:
            consumed, frame = decode_frame(data)
            data = data[consumed:]
            assert frame.channel_number == self.number or self.closed, "504: a frame for another channel"
            if not self.closed:
                self._frame(frame)

    def _frame(self, frame):
        if isinstance(frame, Method):
            method = frame.method
            if isinstance(method, spec.Basic.Publish):
                self.parts = [method, None, b""]
                return
            self._settle(method)
        elif isinstance(frame, Header):
            self.parts[1], self.size = frame.properties, frame.body_size
        elif isinstance(frame, Body):
            self.parts[2] += frame.fragment
        if self.parts and self.parts[1] is not None and len(self.parts[2]) == self.size:
            (method, properties, body), self.parts = self.parts, None
            self._publish(method, properties, body)

    def _publish(self, method, properties, body):
        if properties.reply_to == REPLY_TO:
            properties.reply_to = self.address
        if len(body) > self.broker.largest:
            words = f"message size {len(body)} is larger than configured max size {self.broker.largest}"
            self.close_channel(406, f"PRECONDITION_FAILED - {words}")
            return
        if int(properties.expiration or 0) < 0:
            value = properties.expiration
            self.close_channel(406, f"PRECONDITION_FAILED - invalid expiration '{value}': {{value_negative,{value}}}")
            return
        routed = self.broker.publish(self, method.exchange, method.routing_key, properties, body)
        channel, tag = self.loop.channels[-1], self.next_confirm
        if routed is None and method.mandatory:
            back = spec.Basic.Return(312, "NO_ROUTE", method.exchange, method.routing_key)
            self.loop.come(lambda: channel.is_open and channel.on_return(channel, back, properties, body))
        if self.confirms:
            self.next_confirm += 1
            self.loop.come(lambda: channel.is_open and channel.on_answer(Method(self.number, spec.Basic.Ack(tag))))

    def _settle(self, method):
        tags = [
            tag for tag in self.unacked if tag == method.delivery_tag or (method.multiple and tag < method.delivery_tag)
        ]
        if not tags:
            self.close_channel(406, f"PRECONDITION_FAILED - unknown delivery tag {method.delivery_tag}")
            return
        for tag in sorted(tags, reverse=True):
            queue, (properties, body, _) = self.unacked.pop(tag)
            if isinstance(method, spec.Basic.Nack) and method.requeue:
                self.broker.queues[queue].appendleft((properties, body, True))


class Channel:
    """What a tenant of a link uses of pika's channel."""

    def __init__(self, loop, number):
        self.loop, self.channel_number, self.is_open = loop, number, True
        self.on_closed = []
        self.on_return = self.on_answer = self.on_message = self.on_cancel = lambda *_: None

    def lose(self, error):
        if self.is_open:
            self.is_open = False
            for closed in self.on_closed:
                closed(self, error)

    def close(self):
        self.is_open = False
        self.loop.send(lambda connection: connection.end())
        self.loop.come(lambda: [closed(self, exceptions.ChannelClosedByClient(200, "")) for closed in self.on_closed])

    def add_on_close_callback(self, callback):
        self.on_closed.append(callback)

    def add_on_return_callback(self, callback):
        self.on_return = callback

    def add_on_cancel_callback(self, callback):
        self.on_cancel = callback

    def confirm_delivery(self, callback):
        self.on_answer = callback
        self.loop.send(lambda connection: setattr(connection, "confirms", True))

    def basic_qos(self, prefetch_count):
        self.loop.send(lambda connection: setattr(connection, "prefetch", prefetch_count))

    def basic_consume(self, queue, on_message, auto_ack=False, consumer_tag="", arguments=None, callback=None):
        self.on_message = on_message
        self.loop.send(lambda connection: connection.consume(queue, consumer_tag))
        self._answer(callback)

    def basic_cancel(self, consumer_tag, callback=None):
        self.loop.send(lambda connection: setattr(connection, "queue", None))
        self._answer(callback)

    def _answer(self, callback):
        if callback:
            self.loop.send(lambda connection: self.loop.come(lambda: self.is_open and callback(None)))

    def queue_declare(self, queue, **_):
        self.loop.send(lambda connection: setattr(connection, "own", queue))


class IoLoop:
    """The loop itself: callbacks of other threads, timers, and what arrives. A loss comes before all of them."""

    def __init__(self, loop):
        self.loop, self.world, self.stopped = loop, loop.world, False
        self.arrived, self.callbacks, self.timers, self.numbers = deque(), deque(), [], count()

    def start(self):
        self.stopped = False
        while not self.stopped:
            until = max(0.0, min(self.timers)[0] - self.world.now) if self.timers else None
            self.world.wait(lambda: self.stopped or self.loop.broken or self.callbacks or self.arrived, until)
            self._turn()

    def _turn(self):
        if self.loop.broken:
            self.loop.lose()
        elif self.timers and min(self.timers)[0] <= self.world.now:
            timer = min(self.timers)
            self.timers.remove(timer)
            timer[2]()
        elif self.callbacks:
            self.callbacks.popleft()()
        elif self.arrived:
            self.arrived.popleft()()

    def stop(self):
        self.stopped = True

    def close(self):
        self.loop.broker.forget(self.loop)

    def add_callback_threadsafe(self, callback):
        self.world.point()
        self.callbacks.append(callback)
        struck, self.loop.broker.on_wake = self.loop.broker.on_wake, None
        if struck:
            struck()
        self.world.point()

    def call_later(self, seconds, callback):
        timer = (self.world.now + seconds, next(self.numbers), callback)
        self.timers.append(timer)
        return timer

    def remove_timeout(self, timer):
        if timer in self.timers:
            self.timers.remove(timer)


class Loop:
    """What a link uses of pika's connection."""

    body_limit, unsent = 1000, 0

    def __init__(self, broker, name, opened, refused, closed):
        self.broker, self.world, self.name = broker, broker.world, name
        self._opened, self._refused, self._closed = opened, refused, closed
        self.connection, self.channels, self.sent, self.broken, self._blocked = None, [], deque(), None, []
        self.is_open = self.is_closed = self._let_in = False
        self.ioloop = IoLoop(self)
        self.come(self._connect)

    def come(self, event):
        """Something arrives from the broker."""
        self.ioloop.arrived.append(event)

    def send(self, work):
        """Something is on its way to the broker."""
        if not self.broken:
            self.sent.append(work)

    def break_off(self, error):
        if not self.broken and not self.is_closed:
            self.broken = error
            self.sent.clear()
            self.broker.forget(self)

    def lose(self):
        error, self.broken = self.broken, None
        self.is_open, self.is_closed = False, True
        self.ioloop.arrived.clear()
        for channel in self.channels:
            channel.lose(error)
        (self._closed if self._let_in else self._refused)(error)

    def _connect(self):
        if self.broker.silent:
            self.ioloop.call_later(0.1, self._connect)
        elif not self.broker.accepts:
            self.broken = exceptions.AMQPConnectionError("nobody listens")
        else:
            self.connection = Connection(self.broker, self)
            self.is_open = self._let_in = True
            self._opened(self)
            if self.broker.blocked:
                self.come(lambda: self.on_blocked(self.broker.blocked))

    def add_on_connection_blocked_callback(self, callback):
        self._blocked.append(callback)

    def add_on_connection_unblocked_callback(self, callback):
        self._blocked.append(callback)

    def on_blocked(self, reason):
        if self._blocked:
            blocked, unblocked = self._blocked
            frame = SimpleNamespace(method=SimpleNamespace(reason=reason))
            (blocked if reason else unblocked)(self, frame)

    def channel(self, on_open_callback):
        def open_it(connection):
            connection.open_channel(len(self.channels) + 1)
            channel = Channel(self, connection.number)
            self.channels.append(channel)
            self.come(lambda: on_open_callback(channel))

        self.send(open_it)

    def close(self):
        assert self._let_in, "pika does not bear to be closed while it is connecting"
        self.is_open = False
        for channel in self.channels:
            channel.lose(exceptions.ChannelClosedByClient(200, ""))
        self.send(lambda _: self.break_off(exceptions.ConnectionClosedByClient(200, "")))

    def cut(self):
        self.break_off(exceptions.StreamLostError("the broker does not answer"))

    def write(self, pieces):
        data = b"".join(pieces)
        self.send(lambda connection: connection.frames(data))
