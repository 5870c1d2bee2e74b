"""A logits processor for vLLM that makes an engine sample given token ids: recorded runs replayed token by token.

A request that brings `extra_args["forced_ids"]` samples exactly these, whatever the model says; every other request is
untouched. Loaded only into engines whose specification asks for it, by vLLM itself, in each of its processes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from vllm.v1.sample.logits_processor import LogitsProcessor, process_dict_updates

FORCED_IDS: Final = "forced_ids"
PROCESSOR: Final = "actors.forcing:ForcedTokens"
_CERTAIN: Final = 1e9
"""A logit that leaves every other token no probability in float32, at any temperature and under any mask."""

Row = tuple[Sequence[int], Sequence[int]]
"""The ids to force, and the engine's own growing list of ids sampled so far."""


def read_forced(parameters: Any) -> list[int] | None:
    """Return the ids a request wants forced, None without. Raises ValueError when they are no list of token ids."""
    extra = parameters.extra_args
    found = extra.get(FORCED_IDS) if extra else None
    if found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(i, int) and i >= 0 for i in found):
        raise ValueError(f"{FORCED_IDS} must be a list of token ids, got {type(found).__name__}: send integers >= 0")
    return found


def next_tokens(rows: Mapping[int, Row]) -> tuple[list[int], list[int]]:
    """Return batch rows and the token to force in each; rows whose ids are used up sample freely."""
    open_rows = [(row, forced[len(made)]) for row, (forced, made) in rows.items() if len(made) < len(forced)]
    return [row for row, _ in open_rows], [token for _, token in open_rows]


class ForcedTokens(LogitsProcessor):  # type: ignore[misc]  # vllm is not followed
    """The processor. Costs one dictionary lookup a step while no request wants anything forced."""

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        self._rows: dict[int, Row] = {}

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuse malformed ids at the front end. Raises ValueError."""
        read_forced(sampling_params)

    def is_argmax_invariant(self) -> bool:
        """Return False: greedy requests are forced too."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follow requests as they enter, leave and move within the batch."""
        process_dict_updates(self._rows, batch_update, _row)

    def apply(self, logits: Any) -> Any:
        """Change `logits` (batch rows x vocabulary) in place."""
        if self._rows:
            rows, tokens = next_tokens(self._rows)
            if rows:
                logits[rows, tokens] = _CERTAIN
        return logits


def _row(parameters: Any, _prompt_ids: Sequence[int] | None, made: Sequence[int]) -> Row | None:
    forced = read_forced(parameters)
    return None if forced is None else (forced, made)
