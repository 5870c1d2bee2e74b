"""The loss of a model on rows that it is not trained on: the mean over all taught tokens, on all workers together.

Imports torch: for workers alone.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch

from training.batches import TokenBatch

Inputs = dict[str, Any]


def held_out_loss(engine: Any, batches: Iterable[TokenBatch], collate: Callable[[TokenBatch], Inputs]) -> float:
    """Return the mean loss (nats per taught token); all workers call it together, with as many batches each.

    `engine` is a DeepSpeed engine around a model with TRL's fused head. Draws no random numbers. NaN when no token is
    taught.
    """
    engine.eval()
    sums = torch.zeros(2, dtype=torch.float64)
    with torch.no_grad():
        for batch in batches:
            outputs = engine(**collate(batch), use_cache=False, fused_lm_head=True)
            sums += torch.stack([-outputs.log_probs.double().sum(), outputs.label_mask.sum().double()]).cpu()
    total, number = add_up(sums.tolist(), engine.device)
    return total / number if number else float("nan")


def add_up(values: list[float], device: Any) -> list[float]:
    """Return the sums of numbers over all workers; all call it together."""
    # On the device, where NCCL needs them; float32 would lose counts beyond 16 million.
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(tensor)
    found: list[float] = tensor.tolist()
    return found
