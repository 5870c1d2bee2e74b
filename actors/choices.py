"""Probabilities of the options of a choice, from the log probabilities along the sampled tokens.

A grammar lets any tokenization of an option pass, so options form a tree of token texts. Mass is summed branch by
branch; a branch that fits several options is split only where sampling went along it. Options in branches that were
not looked into are left out: the figures given are exact as far as the engine's log probabilities reach.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence


def option_probabilities(
    options: Sequence[str],
    token_ids: Sequence[int],
    log_probabilities: Sequence[Mapping[int, float]],
    text_of: Callable[[int], str],
    end_ids: Iterable[int],
) -> dict[str, float]:
    """Return option -> probability under the distribution that was sampled from (temperature and top-p included).

    `log_probabilities` holds one mapping of token id to log probability per sampled token; `end_ids` end a turn.
    """
    ends = frozenset(end_ids)
    found = dict.fromkeys(options, 0.0)
    unknown: set[str] = set()
    prefix, mass = "", 1.0
    for token_id, row in zip(token_ids, log_probabilities, strict=False):
        branches = {i: mass * math.exp(value) for i, value in row.items() if value > -math.inf}
        for other, share in branches.items():
            if other != token_id:
                _settle(other in ends, prefix if other in ends else prefix + text_of(other), share, found, unknown)
        mass = branches.get(token_id, 0.0)
        if token_id in ends:
            _settle(True, prefix, mass, found, unknown)
            break
        prefix += text_of(token_id)
        if sum(option.startswith(prefix) for option in options) < 2:
            _settle(False, prefix, mass, found, unknown)
            break
    else:
        unknown.update(option for option in options if option.startswith(prefix))
    return {option: value for option, value in found.items() if option not in unknown}


def _settle(is_end: bool, prefix: str, share: float, found: dict[str, float], unknown: set[str]) -> None:
    fitting = [option for option in found if option == prefix or (not is_end and option.startswith(prefix))]
    if len(fitting) == 1:
        found[fitting[0]] += share
    elif share > 0:
        unknown.update(fitting)


def token_ids_of_options(options: Sequence[str], ids_by_text: Mapping[str, int], end_ids: Iterable[int]) -> list[int]:
    """Return every token that may occur in some tokenization of an option, and the end tokens, sorted."""
    pieces = {option[i:j] for option in options for i in range(len(option)) for j in range(i + 1, len(option) + 1)}
    return sorted({ids_by_text[piece] for piece in pieces if piece in ids_by_text} | set(end_ids))
