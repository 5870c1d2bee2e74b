"""LoRA on CPU as matrix products, in place of vLLM's own operations there.

vLLM 0.32 gathers an adapter's weights once per token and multiplies row by row, which takes a hundred times as long, in
the last layer even for requests without an adapter. And a row without one (index -1) is given the weights of the last
slot: while an adapter lies there, requests for the base model in the same batch are sampled under it. Here rows are
grouped by slot, once per batch, and those without an adapter are left alone, as the GPU kernels do. Shapes: inputs
[rows, in], weights [slots, (1,) out, in], output [rows, >= out], indices [rows].
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import torch

Groups: TypeAlias = list[tuple[int, Any]]
"""Slots that are used, each with its rows: a slice or indices."""


def mend_lora() -> None:
    """Replace the operations in this process."""
    from vllm.lora.punica_wrapper import punica_cpu

    for operation in (bgmv_shrink, bgmv_expand, bgmv_expand_slice, sgmv_shrink, sgmv_expand, sgmv_expand_slice):
        setattr(punica_cpu, operation.__name__, operation)
    wrapper = punica_cpu.PunicaWrapperCPU
    if not hasattr(wrapper, "groups"):
        update = wrapper.update_metadata

        def update_metadata(self: Any, *mapping: Any, **named: Any) -> None:
            update(self, *mapping, **named)
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
            add_linear(self.groups, y, x, lora_a_stacked, lora_b_stacked, scale, output_slices)

        wrapper.groups = []
        wrapper.update_metadata = update_metadata
        wrapper.add_lora_linear = add_lora_linear


def group(indices: torch.Tensor) -> Groups:
    """Return the slots of a batch with the rows of each; rows without an adapter are in none."""
    slots = indices.tolist()
    used = sorted({slot for slot in slots if slot >= 0})
    if len(used) == 1 and min(slots) >= 0:
        return [(used[0], slice(0, len(slots)))]
    return [(slot, (indices == slot).nonzero(as_tuple=True)[0]) for slot in used]


def add_linear(
    groups: Groups,
    output: torch.Tensor,
    inputs: torch.Tensor,
    lora_a: Sequence[torch.Tensor],
    lora_b: Sequence[torch.Tensor],
    scale: float,
    widths: Sequence[int],
) -> None:
    """Add to each of the output's slices, of so many columns, its inputs times its lora_a and lora_b, scaled."""
    for slot, rows in groups:
        taken, start = inputs[rows], 0
        for shrink, expand, width in zip(lora_a, lora_b, widths, strict=True):
            made, columns = taken @ shrink[slot, 0].T, output[:, start : start + width]
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
        _put(output[:, :width], rows, made[:, :width], add_inputs)


def bgmv_expand_slice(
    inputs: torch.Tensor,
    weights: torch.Tensor,
    output: torch.Tensor,
    indices: torch.Tensor,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = True,
) -> None:
    """As `bgmv_expand`, into some columns of the output."""
    for rows, made in _products(inputs, weights, output, indices):
        _put(output[:, slice_offset : slice_offset + slice_size], rows, made, add_inputs)


def sgmv_shrink(
    inputs: torch.Tensor,
    weights: torch.Tensor,
    output: torch.Tensor,
    _starts: torch.Tensor,
    lengths: torch.Tensor,
    indices: torch.Tensor,
    _batches: int,
    _max_length: int,
    _num_tokens: int,
    scaling: float,
) -> None:
    """As `bgmv_shrink`, with one index for each sequence of rows."""
    bgmv_shrink(inputs, weights, output, torch.repeat_interleave(indices, lengths), scaling)


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


def sgmv_expand_slice(
    inputs: torch.Tensor,
    weights: torch.Tensor,
    output: torch.Tensor,
    _starts: torch.Tensor,
    lengths: torch.Tensor,
    indices: torch.Tensor,
    _batches: int,
    _max_length: int,
    _num_tokens: int,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = False,
) -> None:
    """As `bgmv_expand_slice`, with one index for each sequence of rows."""
    exploded = torch.repeat_interleave(indices, lengths)
    bgmv_expand_slice(inputs, weights, output, exploded, slice_offset, slice_size, add_inputs)


def _products(
    inputs: torch.Tensor, weights: torch.Tensor, output: torch.Tensor, indices: torch.Tensor
) -> Iterator[tuple[Any, torch.Tensor]]:
    """Yield the rows of each slot that is used, and their products in the output's type."""
    for slot, rows in group(indices[: inputs.shape[0]]):
        matrix = weights[slot].reshape(-1, weights.shape[-1]).to(output.dtype)
        yield rows, inputs[rows].to(output.dtype) @ matrix.T


def _put(columns: torch.Tensor, rows: Any, made: torch.Tensor, add_inputs: bool) -> None:
    if add_inputs:
        columns[rows] += made
    else:
        columns[rows] = made
