"""The order system's pure parts: what is an order, which orders fail, which are made up."""

import json

import pytest

from rmqspec.orders import Failures, InvalidMessage, Item, Order, parse, read_orders, sample_orders

VALID = {"order_id": "A1", "customer": "Ada", "items": [{"sku": "mouse", "quantity": 2, "unit_price_cents": 2450}]}


def changed(**fields):
    return json.dumps({**VALID, **fields}).encode()


def with_item(**fields):
    return changed(items=[{**VALID["items"][0], **fields}])


class TestOrder:
    """What the worker takes for an order."""

    def test_is_read_from_its_own_json(self):
        """Producer and worker share the type; what one writes the other reads."""
        order = Order(order_id="A1", customer="Ada", items=(Item(sku="mouse", quantity=2, unit_price_cents=2450),))

        assert parse(Order, order.to_json()) == order
        assert order.total_cents == 4900

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            pytest.param(b"nonsense", "Invalid JSON", id="not_json"),
            pytest.param(b"", "Invalid JSON", id="empty"),
            pytest.param(b"\xff\xfe{}", "Invalid JSON", id="not_utf8"),
            pytest.param(b"[]", "should be an object", id="a_list"),
            pytest.param(b"{}", "order_id: Field required", id="no_fields"),
            pytest.param(changed(order_id=7), "order_id: Input should be a valid string", id="number_for_text"),
            pytest.param(
                with_item(quantity="2"), "items.0.quantity: Input should be a valid integer", id="text_for_number"
            ),
            pytest.param(with_item(quantity=-1), "items.0.quantity: Input should be greater than 0", id="negative"),
            pytest.param(with_item(quantity=True), "items.0.quantity: Input should be a valid integer", id="boolean"),
            pytest.param(changed(items=[]), "at least 1 item", id="no_items"),
            pytest.param(changed(discount=5), "discount: Extra inputs are not permitted", id="unknown_field"),
            pytest.param(b" " * 10_000_000, "Invalid JSON", id="ten_megabytes_of_nothing"),
        ],
    )
    def test_is_refused_with_the_reason(self, body, reason):
        """The reason travels in a header to whoever looks at the dead letters, so it is short and says where."""
        with pytest.raises(InvalidMessage) as refusal:
            parse(Order, body)

        assert reason in str(refusal.value)
        assert len(str(refusal.value)) <= 500


class TestFailures:
    """Which orders fail."""

    def test_hit_the_same_orders_for_every_worker(self):
        """The verdict is a function of seed and order: two workers, another order of work, the same failures."""
        ids = [f"{number}" for number in range(200)]

        first = [order_id for order_id in ids if Failures(0.3, 5).hits(order_id)]
        again = [order_id for order_id in reversed(ids) if Failures(0.3, 5).hits(order_id)]

        assert first == again[::-1]
        assert 30 < len(first) < 90

    def test_hit_other_orders_with_another_seed(self):
        """One lucky seed would hide a mistake for ever."""
        hits = [{number for number in range(200) if Failures(0.3, seed).hits(str(number))} for seed in (1, 2)]

        assert hits[0] != hits[1]

    @pytest.mark.parametrize(("rate", "expected"), [(0.0, 0), (1.0, 50)], ids=["none", "all"])
    def test_hit_none_or_all_at_the_ends_of_the_rate(self, rate, expected):
        """Lessons count on it: a rate of one fails each order, a rate of nought not one."""
        assert sum(Failures(rate).hits(str(number)) for number in range(50)) == expected


class TestSampleOrders:
    """Orders that are made up."""

    def test_repeat_with_their_seed(self):
        """A run that showed something odd can be run again."""
        assert list(sample_orders(20, 3)) == list(sample_orders(20, 3))
        assert list(sample_orders(20, 3)) != list(sample_orders(20, 4))

    def test_have_ids_of_their_own(self):
        """Counting by ids is how the lessons find what was lost or came twice."""
        assert len({order.order_id for order in sample_orders(500)}) == 500


class TestReadOrders:
    """Orders from JSON Lines."""

    def test_tell_the_line_that_is_no_order_and_go_on(self):
        """One bad line in a file of a thousand must not hold up the rest."""
        lines = [changed(), b"\n", b"nonsense\n", changed(order_id="A2")]

        first, wrong, last = read_orders(lines)

        assert (first.order_id, last.order_id) == ("A1", "A2")
        assert "line 3 is not an order" in str(wrong)
