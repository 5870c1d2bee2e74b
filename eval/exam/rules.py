"""How an exam's items are put: the rules of the protocol `items`, and what each way of prompting is made of.

Source of the ways: chain of thought (Wei et al. 2022), self-consistency (Wang et al. 2023), MedPrompt (Nori et al.
2023: examples nearest to the question, reasoning, options shuffled, a vote). Knows nothing of tasks.
"""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from engine.protocol import Rules

Prompting = Literal["zero_shot", "few_shot", "cot", "self_consistency", "medprompt"]
Scorer = Literal["strict", "legacy"]


class Way(msgspec.Struct, frozen=True):
    """What a way of prompting does: show examples (those nearest to the item), reason first, vote, shuffle options."""

    is_shown: bool = False
    is_nearest: bool = False
    is_reasoned: bool = False
    is_voted: bool = False
    is_shuffled: bool = False


WAYS: Final[Mapping[Prompting, Way]] = {
    "zero_shot": Way(),
    "few_shot": Way(is_shown=True),
    "cot": Way(is_reasoned=True),
    "self_consistency": Way(is_reasoned=True, is_voted=True),
    "medprompt": Way(is_shown=True, is_nearest=True, is_reasoned=True, is_voted=True, is_shuffled=True),
}


class ItemRules(Rules, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules of an exam of items, as `sandplay exam` puts them.

    `num_shots` examples are shown and `num_samples` answers voted on where the prompting does so; `temperature` is that
    of a single answer, `vote_temperature` that of answers that are voted on. `constrained` makes the model say one of
    the labels and nothing else, where it does not reason first. `scorer` decides which of the two scores leads.
    """

    name: str = "items"
    max_tokens: int = 256
    temperature: float = 0.0
    vote_temperature: float = 0.7
    prompting: Prompting = "zero_shot"
    num_shots: int = 5
    num_samples: int = 5
    constrained: bool = False
    scorer: Scorer = "strict"

    @property
    def way(self) -> Way:
        """What the prompting does."""
        return WAYS[self.prompting]

    def problems(self) -> list[str]:
        """Return what is out of range, one sentence each."""
        found = super().problems()
        if not 1 <= self.num_shots <= 64:
            found.append(f"protocol.num_shots must be 1..64, got {self.num_shots}: set a number in that range")
        if not 1 <= self.num_samples <= 256:
            found.append(f"protocol.num_samples must be 1..256, got {self.num_samples}: set a number in that range")
        if not 0 < self.vote_temperature <= 2:
            found.append(
                f"protocol.vote_temperature must be above 0 and at most 2, got {self.vote_temperature}: answers"
                " that are voted on must differ"
            )
        if self.constrained and self.way.is_reasoned:
            found.append(
                f"protocol.constrained must be false where the model reasons first, got prompting {self.prompting!r}:"
                " leave one of the two out"
            )
        return found
