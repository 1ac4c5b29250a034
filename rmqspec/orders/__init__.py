"""The order-processing system: what a small shop does with queues. Every concept of the lessons is at work here."""

from rmqspec.orders.analytics import Analytics
from rmqspec.orders.dead_letters import REASON_HEADER, park, replay
from rmqspec.orders.inbox import Inbox
from rmqspec.orders.inventory import InventoryServer, stock_of
from rmqspec.orders.log_consumer import LogConsumer
from rmqspec.orders.messages import Completed, InvalidMessage, Item, Log, Order, parse
from rmqspec.orders.notification import Notification
from rmqspec.orders.producer import Producer, read_orders, sample_orders
from rmqspec.orders.topology import order_system, retry_ladder
from rmqspec.orders.worker import Failures, Worker

__all__ = [
    "REASON_HEADER",
    "Analytics",
    "Completed",
    "Failures",
    "Inbox",
    "InvalidMessage",
    "InventoryServer",
    "Item",
    "Log",
    "LogConsumer",
    "Notification",
    "Order",
    "Producer",
    "Worker",
    "order_system",
    "park",
    "parse",
    "read_orders",
    "replay",
    "retry_ladder",
    "sample_orders",
    "stock_of",
]
