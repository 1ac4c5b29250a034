"""Threads, locks and time that a test decides about: real threads, of which one runs at a time.

The code under test is the shipped one. Its modules get the primitives of a ``World`` in place of ``threading``,
``time`` and ``SimpleQueue``. Each of their operations, and each line of the traced files, is a point at which another
thread may go on; which one does is decided by two lists of numbers, so that hypothesis can draw a schedule, repeat it
and make it simpler. No lists means: each thread runs until it waits. Time stands still while any thread can run.
"""

import contextlib
import gc
import itertools
import queue
import sys
import threading
import types
from collections import deque
from pathlib import Path

STEPS = 200_000  # points of an example; more is a thread that never waits


class Stuck(AssertionError):
    """No thread can run, no time will change that, and somebody still waits."""


class _End(BaseException):
    """The example is over: what still runs is unwound."""


@contextlib.contextmanager
def _no_collection():
    """Collects no cycles for a while: what an earlier example left would be finalized here, and at any line.

    A finalizer of a traced file is points, too; within the start of a real thread they would hand the baton to a
    thread that waits for a lock of the interpreter's own, for ever.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class World:
    """One example.

    Args:
        preemptions: Pairs: after so many points, the thread of this number among those that could run goes on.
        picks: When a thread waits, which of those that can run goes on; 0 where the list is over.
        traced: Part of the path of files in which each line is a point.
    """

    def __init__(self, preemptions=(), picks=(), traced="rmqspec/client"):
        self.now, self.over, self.failure = 0.0, False, None
        self._preemptions, self._picks = iter(preemptions), iter(picks)
        self._traced, self._known = str(Path(traced)), {}
        self._threads, self._steps, self._deciding = [], 0, False
        self._reload()
        self.threading = types.SimpleNamespace(
            Lock=self._here(lambda: Lock(self), threading.Lock),
            RLock=self._here(lambda: Lock(self, reentrant=True), threading.RLock),
            Condition=self._here(lambda lock=None: Condition(self, lock), threading.Condition),
            Event=self._here(lambda: Event(self), threading.Event),
            Thread=lambda *args, **named: Thread(self, *args, **named),
            current_thread=lambda: self.current,
            main_thread=lambda: self._threads[0],
            get_ident=lambda: id(self.current),
        )
        self.time = types.SimpleNamespace(monotonic=lambda: self.now, time=lambda: self.now, sleep=self.pause)
        self.random = types.SimpleNamespace(uniform=lambda low, high: (low + high) / 2)

    def run(self, main):
        """Runs a function as the first thread, until it returns.

        Raises:
            Stuck: It cannot return.
        """
        first = Thread(self, target=main, name="main")
        self.first = self.current = first
        with _no_collection():
            first.start()
            first.baton.put(None)
            first.real.join(60)
            assert not first.real.is_alive(), "the simulation itself hangs"
            for thread in list(self._threads):
                thread.real.join(10)
                assert not thread.real.is_alive(), f"{thread.name} could not be unwound"
        if self.failure:
            raise self.failure

    def postpone(self):
        """Until ``decide`` each thread runs until it waits: what is looked for comes late in a life."""
        self._later = self._preemptions, self._picks
        self._preemptions = self._picks = iter(())
        self._reload()

    def decide(self):
        """From here on the lists decide."""
        self._preemptions, self._picks = self._later
        self._reload()

    def _here(self, simulated, real):
        """For the threads of this world the one; for those of the test session, which also use a module, the other."""
        threads = self._threads
        return lambda *args: (
            simulated(*args) if any(one.real is threading.current_thread() for one in threads) else real(*args)
        )

    def point(self):
        """Another thread may go on here."""
        if self.over:
            raise _End
        self._steps += 1
        if self._steps > STEPS:
            self._fail(Stuck("a thread never waits"))
        self._gap -= 1
        if self._gap <= 0:
            which = self._which
            self._reload()
            others = [thread for thread in self._able() if thread is not self.current]
            if others:
                self._switch(others[which % len(others)])

    def wait(self, ready, timeout=None):
        """Waits until something is so, or for so many seconds; returns whether it is so."""
        me = self.current
        self.point()
        me.ready, me.until = ready, None if timeout is None else self.now + max(timeout, 0.0)
        able = self._passing_time()
        if me not in able or not self._is_so(me):
            following = able[next(self._picks, 0) % len(able)]
            if following is not me:
                self._switch(following)
        result = self._is_so(me)
        me.ready = me.until = None
        return result

    def _is_so(self, thread):
        self._deciding = True
        try:
            return bool(thread.ready())
        finally:
            self._deciding = False

    def _passing_time(self):
        """The threads that can run, after as much time as it takes until one can; none if that is never."""
        while not (able := self._able()):
            ends = [thread.until for thread in self._threads if thread.until is not None]
            if not ends:
                self._fail(Stuck("everybody waits: " + ", ".join(thread.name for thread in self._threads)))
            self.now = max(self.now, min(ends))
        return able

    def pause(self, seconds):
        self.wait(lambda: False, seconds)

    def trace(self, frame, event, _):
        """Makes each line of the traced files a point; for ``sys.settrace``."""
        if event == "call":
            path = frame.f_code.co_filename
            if path not in self._known:
                self._known[path] = self._traced in path
            return self.trace if self._known[path] else None
        if event == "line" and not self.over and not self._deciding:
            self.point()
        return self.trace

    def _reload(self):
        self._gap, self._which = next(self._preemptions, (STEPS * 2, 0))

    def _able(self):
        """The threads that can run. Asking may run lines of the traced files; they are no points."""
        self._deciding = True
        try:
            return [
                thread
                for thread in self._threads
                if thread.ready is None or (thread.until is not None and thread.until <= self.now) or thread.ready()
            ]
        finally:
            self._deciding = False

    def _switch(self, following):
        me, self.current = self.current, following
        following.baton.put(None)
        me.baton.get()
        if self.over:
            raise _End

    def _fail(self, error):
        self.failure = self.failure or error
        self.end()
        raise _End

    def end(self):
        """Unwinds all threads but the one that calls."""
        self.over = True
        for thread in self._threads:
            if thread is not self.current:
                thread.baton.put(None)

    def ended(self, thread):
        """A thread is over; somebody else goes on."""
        self._threads.remove(thread)
        if self.over:
            return
        with contextlib.suppress(_End):
            able = self._passing_time()
            self.current = able[next(self._picks, 0) % len(able)]
            self.current.baton.put(None)

    @contextlib.contextmanager
    def inside(self, monkeypatch, places, **others):
        """Gives modules the primitives of this world.

        Args:
            monkeypatch: pytest's.
            places: What ``places_in`` has found in them; to look for each world anew takes longer than all else.
            others: What else they are given, by name.
        """
        given = {
            "threading": self.threading,
            "time": self.time,
            "random": self.random,
            "SimpleQueue": lambda: SimpleQueue(self),
            **others,
        }
        with monkeypatch.context() as patch:
            for module, name in places:
                patch.setattr(module, name, given[name] if name in given else Condition(self, None))
            yield


def places_in(modules, *others):
    """Where modules have primitives of Python's, or one of these other names: pairs of module and name."""
    names = {"threading", "time", "random", "SimpleQueue", *others}
    return [
        (module, name)
        for module in modules
        for name, value in vars(module).items()
        if name in names or isinstance(value, threading.Condition)
    ]


class Thread:
    numbers = itertools.count(1)

    def __init__(self, world, group=None, target=None, name=None, args=(), kwargs=None, *, daemon=None):
        self.world, self.target, self.args, self.kwargs = world, target, args, kwargs or {}
        self.name, self.daemon = name or f"thread {next(self.numbers)}", daemon
        self.baton, self.ready, self.until, self.alive = queue.SimpleQueue(), None, None, False
        self.ident = id(self)
        self.real = threading.Thread(target=self._run, name=f"simulated {self.name}", daemon=True)

    def start(self):
        first = not self.world._threads
        self.world._threads.append(self)
        self.alive = True
        self.real.start()
        if not first:
            self.world.point()

    def _run(self):
        self.baton.get()
        try:
            if not self.world.over:
                sys.settrace(self.world.trace)
                self.target(*self.args, **self.kwargs)
        except _End:
            pass
        except BaseException as error:
            self.world.failure = self.world.failure or error
        finally:
            sys.settrace(None)
            self.alive = False
            if (self is self.world.first or self.world.failure) and not self.world.over:
                self.world.end()
            self.world.ended(self)

    def join(self, timeout=None):
        assert self is not self.world.current
        self.world.wait(lambda: not self.alive, timeout)

    def is_alive(self):
        return self.alive


class Lock:
    def __init__(self, world, reentrant=False):
        self.world, self.reentrant, self.owner, self.depth = world, reentrant, None, 0

    def acquire(self, blocking=True, timeout=-1):
        world = self.world
        if self.reentrant and self.owner is world.current:
            self.depth += 1
            return True
        if blocking:
            if not world.wait(lambda: self.owner is None, None if timeout < 0 else timeout):
                return False
        elif self.owner is not None:
            return False
        self.owner, self.depth = world.current, 1
        return True

    def release(self):
        self.depth -= 1
        if not self.depth:
            self.owner = None
            if not self.world.over:
                self.world.point()

    def locked(self):
        return self.owner is not None

    def __enter__(self):
        self.acquire()
        return self

    def __exit__(self, *_):
        self.release()


class Condition:
    def __init__(self, world, lock):
        self.world, self.lock, self.waiters = world, lock or Lock(world, reentrant=True), deque()
        self.acquire, self.release = self.lock.acquire, self.lock.release

    def __enter__(self):
        self.lock.acquire()
        return self

    def __exit__(self, *_):
        self.lock.release()

    def wait(self, timeout=None):
        waiter = _Waiter()
        self.waiters.append(waiter)
        depth, self.lock.depth, self.lock.owner = self.lock.depth, 0, None
        try:
            return self.world.wait(lambda: waiter.notified, timeout)
        finally:
            if not self.world.over:
                self.world.wait(lambda: self.lock.owner is None)
            self.lock.owner, self.lock.depth = self.world.current, depth
            if waiter in self.waiters:
                self.waiters.remove(waiter)

    def wait_for(self, predicate, timeout=None):
        until = None if timeout is None else self.world.now + timeout
        while not (result := predicate()):
            left = None if until is None else until - self.world.now
            if left is not None and left <= 0:
                break
            self.wait(left)
        return result

    def notify(self, count=1):
        for _ in range(min(count, len(self.waiters))):
            self.waiters.popleft().notified = True

    def notify_all(self):
        self.notify(len(self.waiters))


class _Waiter:
    notified = False


class Event:
    def __init__(self, world):
        self.world, self.flag = world, False

    def is_set(self):
        return self.flag

    def set(self):
        self.flag = True
        if not self.world.over:
            self.world.point()

    def clear(self):
        self.flag = False

    def wait(self, timeout=None):
        return self.world.wait(lambda: self.flag, timeout)


class SimpleQueue:
    def __init__(self, world):
        self.world, self.items = world, deque()

    def put(self, item, block=True, timeout=None):
        self.items.append(item)
        self.world.point()

    def get(self, block=True, timeout=None):
        if not (self.world.wait(lambda: bool(self.items), timeout if block else 0.0)):
            raise queue.Empty
        return self.items.popleft()

    def get_nowait(self):
        return self.get(block=False)

    def empty(self):
        return not self.items

    def qsize(self):
        return len(self.items)
