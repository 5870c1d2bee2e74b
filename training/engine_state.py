"""What a worker must keep to go on as if it had never stopped: its part of the ZeRO optimizer, and random states.

Master weights and moments are those of the worker's own partition: a state fits as many workers as wrote it. Frozen
weights are not kept, they come from the model. Imports torch and DeepSpeed's view of it: for workers alone.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch

_COUNTERS: Final = ("global_steps", "global_samples", "micro_steps", "skipped_steps")
# Made anew with the optimizer, never changed in training without fp16, or only a description.
_NOT_KEPT: Final = frozenset({"loss_scaler", "zero_stage", "param_slice_mappings"})


def capture_engine(engine: Any) -> dict[str, Any]:
    """Return the state of a DeepSpeed engine between two steps; all workers call it together."""
    with _partitioned(engine):
        kept = {name: value for name, value in engine.optimizer.state_dict().items() if name not in _NOT_KEPT}
    state = {"optimizer": kept, "counters": {name: getattr(engine, name) for name in _COUNTERS}}
    if not engine.zero_optimization():
        state["weights"] = dict(_trained(engine))
    return state


def restore_engine(engine: Any, state: dict[str, Any], rank: int, world: int) -> None:
    """Put a captured state into a new engine of the same kind; all workers call it together."""
    for name, value in state["counters"].items():
        setattr(engine, name, value)
    optimizer = engine.optimizer
    if not engine.zero_optimization():
        with torch.no_grad():
            for name, parameter in _trained(engine):
                parameter.copy_(state["weights"][name])
        optimizer.load_state_dict(state["optimizer"])
        return
    own = {**state["optimizer"], "loss_scaler": optimizer.loss_scaler}
    partitions = [own if index == rank else None for index in range(world)]
    with _partitioned(engine):
        optimizer.load_state_dict(partitions, load_optimizer_states=True, load_from_fp32_weights=True)
    if engine.zero_optimization_stage() < 3:
        optimizer.update_lp_params()


@contextmanager
def _partitioned(engine: Any) -> Iterator[None]:
    """Under ZeRO-3 no parameter may be gathered while its partition is read or written."""
    prologue = getattr(engine.optimizer, "checkpoint_event_prologue", None)
    if prologue is not None:
        prologue()
    yield
    epilogue = getattr(engine.optimizer, "checkpoint_event_epilogue", None)
    if epilogue is not None:
        epilogue()


def _trained(engine: Any) -> Iterator[tuple[str, Any]]:
    return ((name, one) for name, one in engine.module.named_parameters() if one.requires_grad)


# ---------------------------------------------------------------- random states


def capture_random() -> dict[str, Any]:
    """Return the states of all generators that training may draw from."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "python": random.getstate(),
        "numpy": (str(kind), [int(key) for key in keys], int(position), int(has_gauss), float(cached)),
    }


def restore_random(state: dict[str, Any]) -> None:
    """Put the generators where they were."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
