"""LoRA on CPU: the products that vLLM's own operations make, row by row, and rows without an adapter left alone."""

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from actors import cpu_lora

pytestmark = [
    pytest.mark.timeout(200),  # importing vLLM alone takes a while
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # and warns about itself
]
NAMES = ("bgmv_shrink", "bgmv_expand", "sgmv_expand")
WITH, MIXED, WITHOUT = [1, 1, 1, 1, 1], [0, -1, 1, 0, -1], [-1] * 5


def theirs(name: str) -> Callable[..., None]:
    from vllm.lora.ops import torch_ops

    found: Callable[..., None] = getattr(torch_ops, name)
    return found


def operands(made: int, taken: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    inputs = torch.randn(5, taken, generator=draws).to(dtype)
    return inputs, torch.randn(2, 1, made, taken, generator=draws).to(dtype)


@pytest.mark.parametrize("name", NAMES)
def test_vllm_calls_them_as_it_calls_its_own(name: str) -> None:
    from vllm.lora.punica_wrapper import punica_cpu

    ours = inspect.signature(getattr(cpu_lora, name)).parameters.values()
    original = inspect.signature(theirs(name)).parameters.values()
    assert [one.default for one in ours] == [one.default for one in original]
    assert hasattr(punica_cpu, name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("indices", [WITH, MIXED, WITHOUT], ids=["with", "mixed", "without"])
@pytest.mark.parametrize("name", NAMES)
def test_each_row_gets_its_own_adapter_and_a_row_without_one_nothing(
    name: str, indices: list[int], dtype: torch.dtype
) -> None:
    inputs, weights = operands(6, 4, dtype)
    rows = torch.tensor(indices)
    more: tuple[Any, ...] = {"shrink": (2.0,), "expand": (True,)}[name.split("_")[-1]]
    where: tuple[Any, ...] = (rows,)
    if name.startswith("sgmv"):
        where = (torch.arange(5), torch.ones(5, dtype=torch.long), rows, 5, 1, 5)
    ours, original = torch.ones(5, 8, dtype=dtype), torch.ones(5, 8, dtype=dtype)
    getattr(cpu_lora, name)(inputs, weights, ours, *where, *more)
    theirs(name)(inputs, weights, original, *where, *more)
    has_one = rows >= 0
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    assert torch.allclose(ours[has_one], original[has_one], atol=tolerance, rtol=tolerance)
    assert torch.equal(ours[~has_one], torch.ones(int((~has_one).sum()), 8, dtype=dtype))


@pytest.mark.parametrize("indices", [WITH, MIXED, WITHOUT], ids=["with", "mixed", "without"])
def test_a_linear_layer_of_three_slices_gets_what_vllm_s_operations_give(indices: list[int]) -> None:
    rows, widths = torch.tensor(indices), (6, 3, 3)
    inputs, first = operands(4, 8, torch.float32)
    lora_a = (first, first + 1, first - 1)
    lora_b = tuple(operands(width, 4, torch.float32)[1] for width in widths)
    ours, original = torch.ones(5, 12), torch.ones(5, 12)
    wrapper = SimpleNamespace(groups=cpu_lora.group(rows))
    cpu_lora.add_lora_linear(wrapper, ours, inputs, lora_a, lora_b, 2.0, widths)
    start = 0
    for shrink, expand, width in zip(lora_a, lora_b, widths, strict=True):
        made = torch.zeros(5, 4)
        theirs("bgmv_shrink")(inputs, shrink, made, rows, 2.0)
        theirs("bgmv_expand_slice")(made, expand, original, rows, start, width)
        start += width
    has_one = rows >= 0
    assert torch.allclose(ours[has_one], original[has_one], atol=1e-4)
    assert torch.equal(ours[~has_one], torch.ones(int((~has_one).sum()), 12))


def test_what_is_written_and_not_added_replaces_what_was_there() -> None:
    inputs, weights = operands(6, 4, torch.float32)
    output = torch.full((5, 8), 9.0)
    cpu_lora.bgmv_expand(inputs, weights, output, torch.tensor(MIXED), add_inputs=False)
    assert torch.allclose(output[2, :6], weights[1, 0] @ inputs[2]) and output[1].eq(9.0).all()


def test_an_engine_is_mended_in_its_own_processes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.lora.layers import LoRAMapping
    from vllm.lora.punica_wrapper import punica_cpu

    from actors.launch import engine_environment
    from actors.spec import ModelSpec
    from actors.vllm_plugin import CPU_LORA, register

    for name in NAMES:
        monkeypatch.setattr(punica_cpu, name, getattr(punica_cpu, name))
    wrapper = punica_cpu.PunicaWrapperCPU
    monkeypatch.setattr(wrapper, "groups", [], raising=False)
    for name in ("update_metadata", "add_lora_linear"):
        monkeypatch.setattr(wrapper, name, getattr(wrapper, name))
    before, linear = punica_cpu.bgmv_shrink, wrapper.add_lora_linear
    plain, lora = (ModelSpec(name="m", path="/m", max_lora_rank=rank) for rank in (0, 8))
    assert CPU_LORA not in engine_environment(plain, is_cpu=True) and CPU_LORA not in engine_environment(
        lora, is_cpu=False
    )
    register()
    assert punica_cpu.bgmv_shrink is before and wrapper.add_lora_linear is linear
    monkeypatch.setenv(CPU_LORA, engine_environment(lora, is_cpu=True)[CPU_LORA])
    register()
    assert punica_cpu.bgmv_shrink is cpu_lora.bgmv_shrink
    made = wrapper(8, 8, "cpu")
    made.update_metadata(LoRAMapping((1, 0, 1), (1, 0), False), [None, 1], 2, 10)
    assert [(slot, rows.tolist()) for slot, rows in made.groups] == [(1, [0, 2])]
    output = torch.zeros(3, 6)
    inputs, weights = operands(4, 8, torch.float32)
    made.add_lora_linear(output, inputs[:3], (weights,), (operands(6, 4, torch.float32)[1],), 1.0, (6,))
    assert output[1].eq(0).all() and output[[0, 2]].ne(0).all()
