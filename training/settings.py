"""Settings of sample conversion: the `[samples]` table, and what may follow `sandplay samples` as `a=b`."""

from typing import Final, Literal, get_args

import msgspec

Format = Literal["messages", "prompt-completion", "text", "preference"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)

ANSWERS: Final = ("diagnosis", "treatment", "medication")
"""The paper's three rows of an episode."""

PLAN: Final = "plan"
WARMUP: Final = "warmup"


class SampleSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What becomes a sample, and what is dropped.

    `kinds` are `diagnosis`, `treatment`, `medication`, `plan` (preference pairs), `warmup` (cognitive models of cases)
    or a role, whose turns are then taught (`patient`, `therapist`). `min_score` drops answers to plans scored lower, or
    not at all; 0 keeps all. `min_margin` is how much better the chosen plan of a pair must be scored. `max_tokens`
    counts the whole row. With `mixed` episodes that were played on several weight versions are taken too. `near` is the
    Jaccard similarity of word 3-grams from which on two rows are one; 1 drops equal rows alone. `legacy` reproduces the
    published conversion, its defects included; no other filter then applies.
    """

    kinds: tuple[str, ...] = ANSWERS
    legacy: bool = False
    min_score: float = 0.0
    min_margin: int = 2
    max_tokens: int = 2048
    near: float = 0.9
    mixed: bool = False

    def problems(self, where: str = "samples.") -> list[str]:
        """Return what is out of range, one sentence each."""
        found = []
        if not self.kinds:
            found.append(f"{where}kinds must name at least one kind, got none: leave it out for the paper's three")
        if not 0 <= self.min_score <= 10:
            found.append(f"{where}min_score must be 0..10, got {self.min_score}")
        if not 1 <= self.min_margin <= 9:
            found.append(f"{where}min_margin must be 1..9, got {self.min_margin}")
        if self.max_tokens < 1:
            found.append(f"{where}max_tokens must be at least 1, got {self.max_tokens}")
        if not 0.5 <= self.near <= 1:
            found.append(f"{where}near must be 0.5..1, got {self.near}: 1 drops equal rows alone")
        if self.legacy and (others := [kind for kind in self.kinds if kind not in ANSWERS]):
            found.append(f"{where}legacy knows only {', '.join(ANSWERS)}, got {', '.join(others)}: remove one of both")
        return found
