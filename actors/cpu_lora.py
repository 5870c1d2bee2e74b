"""LoRA on CPU as matrix products, in place of vLLM's own operations there.

vLLM 0.32 gathers an adapter's weights once per token and multiplies row by row, which takes a hundred times as long, in
the last layer even for requests without an adapter. And a row without one (index -1) is given the weights of the last
slot: while an adapter lies there, requests for the base model in the same batch are sampled under it. Here rows are
grouped by slot, once per batch, and those without an adapter are left alone, as the GPU kernels do. Shapes: inputs
[rows, in], weights [slots, (1,) out, in], output [rows, >= out], indices [rows]. Linear layers go through
`add_lora_linear`; the operations serve heads and embeddings. Adapters sharded over devices are not used here.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import torch

Groups: TypeAlias = list[tuple[int, Any]]
"""Slots that are used, each with its rows: a slice or indices."""


def mend_lora() -> None:
    """Replace the operations in this process; once more changes nothing."""
    from vllm.lora.punica_wrapper import punica_cpu

    for operation in (bgmv_shrink, bgmv_expand, sgmv_expand):
        setattr(punica_cpu, operation.__name__, operation)
    punica_cpu.PunicaWrapperCPU.groups = []  # until the first batch
    for method in (update_metadata, add_lora_linear):
        setattr(punica_cpu.PunicaWrapperCPU, method.__name__, method)


def group(indices: torch.Tensor) -> Groups:
    """Return the slots of a batch with the rows of each; rows without an adapter are in none."""
    slots = indices.tolist()
    used = sorted({slot for slot in slots if slot >= 0})
    if len(used) == 1 and min(slots) >= 0:
        return [(used[0], slice(0, len(slots)))]
    return [(slot, (indices == slot).nonzero(as_tuple=True)[0]) for slot in used]


def update_metadata(self: Any, *mapping: Any, **named: Any) -> None:
    """As vLLM's, of the wrapper `self`; the batch is grouped as well."""
    from vllm.lora.punica_wrapper.punica_base import PunicaWrapperBase

    PunicaWrapperBase.update_metadata(self, *mapping, **named)
    self.groups = group(self.token_lora_indices)


def add_lora_linear(
    self: Any,
    y: torch.Tensor,
    x: torch.Tensor,
    lora_a_stacked: Sequence[torch.Tensor],
    lora_b_stacked: Sequence[torch.Tensor],
    scale: float,
    output_slices: Sequence[int],
    **_: Any,
) -> None:
    """Add to each slice of y, of so many columns, x times its lora_a and lora_b, scaled; `self.groups` says where."""
    for slot, rows in self.groups:
        taken, start = x[rows], 0
        for shrink, expand, width in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
            made, columns = taken @ shrink[slot, 0].T, y[:, start : start + width]
            if isinstance(rows, slice):
                columns[rows].addmm_(made, expand[slot, 0].T, alpha=scale)
            else:
                columns.index_add_(0, rows, made @ expand[slot, 0].T, alpha=scale)
            start += width


def bgmv_shrink(
    inputs: torch.Tensor, weights: torch.Tensor, output: torch.Tensor, indices: torch.Tensor, scaling: float = 1.0
) -> None:
    """Write inputs times lora_a, scaled."""
    for rows, made in _products(inputs, weights, output, indices):
        output[rows, : made.shape[1]] = scaling * made


def bgmv_expand(
    inputs: torch.Tensor, weights: torch.Tensor, output: torch.Tensor, indices: torch.Tensor, add_inputs: bool = True
) -> None:
    """Add inputs times lora_b to the output, or write it there; what either has more columns is padding."""
    for rows, made in _products(inputs, weights, output, indices):
        width = min(made.shape[1], output.shape[1])
        before = output[rows, :width] if add_inputs else 0
        output[rows, :width] = before + made[:, :width]


def sgmv_expand(
    inputs: torch.Tensor,
    weights: torch.Tensor,
    output: torch.Tensor,
    _starts: torch.Tensor,
    lengths: torch.Tensor,
    indices: torch.Tensor,
    _batches: int,
    _max_length: int,
    _num_tokens: int,
    add_inputs: bool = False,
) -> None:
    """As `bgmv_expand`, with one index for each sequence of rows."""
    bgmv_expand(inputs, weights, output, torch.repeat_interleave(indices, lengths), add_inputs)


def _products(
    inputs: torch.Tensor, weights: torch.Tensor, output: torch.Tensor, indices: torch.Tensor
) -> Iterator[tuple[Any, torch.Tensor]]:
    """Yield the rows of each slot that is used, and their products in the output's type."""
    for slot, rows in group(indices[: inputs.shape[0]]):
        matrix = weights[slot].reshape(-1, weights.shape[-1]).to(output.dtype)
        yield rows, inputs[rows].to(output.dtype) @ matrix.T
