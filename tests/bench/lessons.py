"""How fast the lessons are: the first result, the median test, the whole course.

Everything is measured in one run on one broker, beside a yardstick: what a bare pika program needs on that broker to
connect, declare a queue, publish one confirmed message, get it, and close. Ratios to it can be compared between
machines; seconds cannot.

usage: python tests/bench/lessons.py [pytest arguments]
"""

import json
import statistics
import sys
import time

import pika
import pytest

YARDSTICK_ROUNDS = 50


class Stopwatch:
    """A pytest plugin that notes when the broker was up and how long each test that ran took, its fixtures included."""

    def __init__(self):
        self.ready = self.first = self.end = 0.0
        self.durations, self.ran, self.restarts = {}, set(), set()
        self.yardstick, self.broker = [], ""

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self, session):
        from rmqspec.tools.plugin.broker import BROKER

        broker = session.config.stash[BROKER]
        self.broker = str(broker.identity)
        self.yardstick = [bare_round(broker.endpoint.url()) for _ in range(YARDSTICK_ROUNDS)]
        self.ready = time.perf_counter()

    def pytest_collection_modifyitems(self, items):
        slow = ("disposable_broker", "run")  # brokers that restart, processes of their own
        self.restarts = {item.nodeid for item in items if set(slow) & set(item.fixturenames)}

    def pytest_runtest_logreport(self, report):
        self.durations[report.nodeid] = self.durations.get(report.nodeid, 0.0) + report.duration
        if (
            report.when == "call" and not report.skipped
        ):  # what is not run takes no time, and says nothing of the others
            self.ran.add(report.nodeid)
            self.first = self.first or time.perf_counter()

    def pytest_sessionfinish(self):
        self.end = time.perf_counter()

    def figures(self):
        quick = [self.durations[node_id] for node_id in self.ran - self.restarts]
        yardstick = statistics.median(self.yardstick)
        return {
            "broker": self.broker,
            "tests": len(self.ran),
            "first_result_s": round(self.first - self.ready, 3),
            "course_s": round(self.end - self.ready, 1),
            "median_test_ms": round(statistics.median(quick) * 1000, 1),
            "p90_test_ms": round(statistics.quantiles(quick, n=10)[-1] * 1000, 1),
            "bare_pika_ms": round(yardstick * 1000, 1),
            "median_to_bare_pika": round(statistics.median(quick) / yardstick, 2),
        }


def bare_round(url):
    begin = time.perf_counter()
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("yardstick", durable=True)
    channel.basic_publish("", "yardstick", b"one")
    channel.basic_get("yardstick", auto_ack=True)
    channel.queue_delete("yardstick")
    connection.close()
    return time.perf_counter() - begin


def main():
    stopwatch = Stopwatch()
    code = pytest.main(["-q", *(sys.argv[1:] or ["tests/lessons"])], plugins=[stopwatch])
    figures = stopwatch.figures()
    for name, value in figures.items():
        print(f"{name:>22}  {value}")
    print(json.dumps(figures))
    return code


if __name__ == "__main__":
    sys.exit(main())
