"""LoRA on CPU as matrix products, in place of vLLM's own operations there.

vLLM 0.32 gathers an adapter's weights once per token and multiplies row by row, which takes a hundred times as long, in
the last layer even for requests without an adapter. And a row without one (index -1) is given the weights of the last
slot: while an adapter lies there, requests for the base model in the same batch are sampled under it. Here rows are
grouped by slot, and those without an adapter are left alone, as the GPU kernels do. Shapes: inputs [rows, in], weights
[slots, (1,) out, in], output [rows, >= out], indices [rows].
"""

from collections.abc import Iterator
from typing import Any

import torch


def mend_lora() -> None:
    """Replace the operations in this process."""
    from vllm.lora.punica_wrapper import punica_cpu

    for operation in (bgmv_shrink, bgmv_expand, bgmv_expand_slice, sgmv_shrink, sgmv_expand, sgmv_expand_slice):
        setattr(punica_cpu, operation.__name__, operation)


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
    indices = indices[: inputs.shape[0]]
    first = int(indices[0]) if len(indices) else -1
    if bool((indices == first).all()):
        groups: list[tuple[int, Any]] = [(first, slice(0, inputs.shape[0]))]
    else:
        groups = [(slot, (indices == slot).nonzero(as_tuple=True)[0]) for slot in indices.unique().tolist()]
    for slot, rows in groups:
        if slot >= 0:
            matrix = weights[slot].reshape(-1, weights.shape[-1]).to(output.dtype)
            yield rows, inputs[rows].to(output.dtype) @ matrix.T


def _put(columns: torch.Tensor, rows: Any, made: torch.Tensor, add_inputs: bool) -> None:
    if add_inputs:
        columns[rows] += made
    else:
        columns[rows] = made
