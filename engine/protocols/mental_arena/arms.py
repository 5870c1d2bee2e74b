"""The arms of an ablation: one episode played whole, and with one thing taken from it, at equal turns; pure.

Every arm has exchanges + max_decoder_rounds exchanges, so that what differs is how they were steered and never how
many there were. That holds because a cut of 1 lets no field pass: every guided round is played.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.errors import InputError
from engine.protocols.mental_arena.rules import EVERY_ROUND, ArenaRules

FULL: Final = "full"
ARMS: Final[Mapping[str, str]] = {
    FULL: "everything as configured, every guided round played",
    "no_cognition": "the patient knows no cognitive diagram, and none is decoded",
    "no_behaviour": "the patient talks by no principles, and none are decoded",
    "no_decoder": "no round is guided; one decode at the end only measures",
    "undelivered": "feedback is asked for and never given to the therapist",
}
"""Name of each arm, and what it is."""


def arm_settings(rules: ArenaRules, names: Sequence[str] = tuple(ARMS)) -> dict[str, dict[str, Any]]:
    """Return what each arm sets in the `[protocol]` table, `full` first, whether it was named or not.

    Raises InputError with every reason why these rules have no such arms.
    """
    names = tuple(dict.fromkeys((FULL, *names)))
    problems = [*_unknown(names), *_unfit(rules), *_equal(rules, names)]
    if problems:
        raise InputError(problems)
    settings: dict[str, dict[str, Any]] = {
        FULL: {},
        "no_cognition": {"cognition": False},
        "no_behaviour": {"behaviour": False},
        "no_decoder": {"exchanges": rules.exchanges + rules.max_decoder_rounds, "max_decoder_rounds": 0},
        "undelivered": {"feedback": "undelivered"},
    }
    return {name: {"similarity": EVERY_ROUND, **settings[name]} for name in names}


def _unknown(names: Sequence[str]) -> list[str]:
    found = [f"an arm must be one of {', '.join(ARMS)}, got {name!r}: correct --arms" for name in set(names) - {*ARMS}]
    if len(names) < 2:
        found.append(f"an ablation must have an arm beside {FULL}, got none: name one of {', '.join([*ARMS][1:])}")
    return sorted(found)


def _unfit(rules: ArenaRules) -> list[str]:
    found = []
    if rules.mode != "corrected":
        found.append(
            f'protocol.mode must be "corrected" in an ablation, got "{rules.mode}", '
            "which delivers no feedback and shows the therapist the persona: set it"
        )
    if not rules.decoder:
        found.append("protocol.decoder must be true in an ablation, got false: leave it out, the arms switch it")
    if rules.max_decoder_rounds < 1:
        found.append("protocol.max_decoder_rounds must be 1 or more in an ablation, got 0: no round would be guided")
    return found


def _equal(rules: ArenaRules, names: Sequence[str]) -> list[str]:
    """Say which arms take away what the configuration does not have."""
    lacking = {
        "no_cognition": not rules.cognition and "cognition = false",
        "no_behaviour": not rules.behaviour and "behaviour = false",
        "undelivered": rules.feedback == "undelivered" and 'feedback = "undelivered"',
    }
    return [
        f"the arm {name} must differ from {FULL}, got {found} in the configuration: leave it out of --arms"
        for name, found in lacking.items()
        if found and name in names
    ]
