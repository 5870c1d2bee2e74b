"""Training states: values come back as they were, states are whole or absent, the last two stay."""

import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import RunError
from training.state_file import StateCard, States, read_values, write_values

plain = st.none() | st.booleans() | st.integers(-(2**53), 2**63 - 1) | st.floats(allow_nan=False) | st.text()
keys = st.integers(0, 9) | st.text(max_size=3)
values = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4).map(OrderedDict)
    ),
    max_leaves=20,
)


def kinds(value: Any) -> Any:
    """The types of a value, all the way down."""
    if isinstance(value, dict):
        return type(value), [(type(key), key, kinds(one)) for key, one in value.items()]
    return (type(value), [kinds(one) for one in value]) if isinstance(value, list | tuple) else type(value)


@given(values)
def test_plain_values_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.mktemp("state") / "rank-0"
    write_values(path, value)
    found = read_values(path)
    assert found == value and kinds(found) == kinds(value)


def test_tensors_keep_dtype_shape_and_value_and_nothing_of_what_they_look_into(tmp_path: Path) -> None:
    whole = torch.arange(100_000, dtype=torch.float32)
    tied = torch.randn(3, 4)
    before = {
        "view": whole[10:13],
        "tied": [tied, tied],
        "turned": tied.t(),
        "scalar": torch.tensor(3, dtype=torch.int64),
        "empty": torch.empty(0, dtype=torch.bfloat16),
        "parameter": torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16)),
        "bytes": torch.get_rng_state(),
        "kinds": (torch.float16, torch.Size([2, 3]), math.inf, -math.inf),
    }
    write_values(tmp_path / "rank-0", before)
    found = read_values(tmp_path / "rank-0")
    assert found["kinds"] == before["kinds"] and type(found["kinds"][1]) is torch.Size
    for name in ("view", "turned", "scalar", "empty", "parameter", "bytes"):
        one: Any = before[name]
        assert torch.equal(found[name], one) and found[name].dtype == one.dtype
    assert torch.equal(found["tied"][1], tied)
    assert (tmp_path / "rank-0.safetensors").stat().st_size < 20_000
    write_values(tmp_path / "rank-0", [math.nan])
    assert math.isnan(read_values(tmp_path / "rank-0")[0])


class Scaler:
    """Something that only a pickle would keep."""


@pytest.mark.parametrize("value", [{"a": [Scaler()]}, {"a": [{1, 2}]}, {"a": [b"x"]}])
def test_anything_else_is_refused_with_its_place(tmp_path: Path, value: Any) -> None:
    with pytest.raises(TypeError, match=r"state\['a'\]\[0\] must be made of plain values"):
        write_values(tmp_path / "rank-0", value)


def test_a_state_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    write_values(tmp_path / "rank-0", {"a": torch.ones(100)})
    file = tmp_path / "rank-0.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(RunError, match="must be a whole training state"):
        read_values(tmp_path / "rank-0")
    write_values(tmp_path / "rank-0", {"a": torch.ones(1)})
    (tmp_path / "rank-0.json").write_text('{"dict": [["a", {"tensor": "t7"}]]}')
    with pytest.raises(RunError, match="must be a whole training state"):
        read_values(tmp_path / "rank-0")
    with pytest.raises(RunError, match="must be a whole training state"):
        read_values(tmp_path / "rank-1")


def test_a_state_counts_once_it_is_committed_and_the_last_two_stay(tmp_path: Path) -> None:
    states = States(tmp_path / "state")
    assert states.last() is None
    for step in (5, 10, 15):
        states.begin(step)
        write_values(states.place(step) / "rank-0", step)
        last = states.last()
        assert last is None or last.name == f"step-{step - 5:08d}"
        states.commit(StateCard(step=step, workers=1))
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["step-00000010", "step-00000015"]
    states.begin(20)  # and its writer dies
    last = states.last()
    assert last is not None and states.card(last) == StateCard(step=15, workers=1)
    assert read_values(last / "rank-0") == 15
    states.begin(20)
    assert [path.name for path in (tmp_path / "state").glob(".*")] == [".step-00000020.tmp"]
    (last / "state.json").unlink()
    with pytest.raises(RunError, match="must be a whole training state"):
        states.card(last)
    states.remove()
    assert not (tmp_path / "state").exists()
