"""Talking to a broker well: connection, topology, publisher, consumer, calls. Knows pika, knows no orders."""

from rmqspec.client.connection import Channel, Connection, connect, open_connections
from rmqspec.client.consumer import Consumer, Delivery, Outcome
from rmqspec.client.content import Content
from rmqspec.client.message import Confirmed, Message, persistent
from rmqspec.client.publisher import Publisher
from rmqspec.client.retry import RetryLadder
from rmqspec.client.rpc import RpcClient
from rmqspec.client.rpc_server import RpcServer
from rmqspec.client.settings import Settings
from rmqspec.client.topology import Binding, Exchange, ExchangeBinding, Queue, Topology

__all__ = [
    "Binding",
    "Channel",
    "Confirmed",
    "Connection",
    "Consumer",
    "Content",
    "Delivery",
    "Exchange",
    "ExchangeBinding",
    "Message",
    "Outcome",
    "Publisher",
    "Queue",
    "RetryLadder",
    "RpcClient",
    "RpcServer",
    "Settings",
    "Topology",
    "connect",
    "open_connections",
    "persistent",
]
