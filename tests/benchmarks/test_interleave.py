from benchmarks.interleave import interleave


def test_contenders_take_turns_and_each_repeat_begins_with_another() -> None:
    order: list[str] = []

    def contender(name: str) -> int:
        order.append(name)
        return len(order)

    found = interleave({"a": lambda: contender("a"), "b": lambda: contender("b")}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": [1, 4, 5], "b": [2, 3, 6]}


def test_no_repeats_measure_nothing() -> None:
    assert interleave({"a": lambda: 1}, 0) == {"a": []}
