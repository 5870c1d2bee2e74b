import pytest

from engine.ordering import Order


@pytest.mark.parametrize(("is_tail", "first"), [(False, 9), (True, 2)])
def test_depth_goes_first_until_none_waits_to_start(is_tail: bool, first: int) -> None:
    order = Order()
    order.is_tail = is_tail
    assert min((5, 2, 9), key=order.priority) == first
