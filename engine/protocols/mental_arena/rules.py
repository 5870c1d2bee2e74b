"""The `[protocol]` table of MentalArena, and what its switches cost in calls.

With R guided exchanges, F feedback calls and k attempts per kind of plan, an episode asks

    patient + therapist   1 + 2 * exchanges + (R + 1) * P + 2R + 4 + 2 * (k_treatment + k_medicine)
    judge                 C + F + (k_treatment + k_medicine) + 1

P is 4 with `cognition` plus 1 with `behaviour`, and 0 without `decoder`; C is 1 with `behaviour`. At the defaults this
is the published 20 + 7R + F + 3(k_t + k_m): 26 calls at least, 109 at most in `reference` mode and 107 in `corrected`,
which asks for no feedback after the last decode. Feedback that is asked for and not delivered (`feedback`) costs the
same. Re-asks come on top and only in `corrected` mode.
"""

from typing import Final, Literal

from engine.protocol import Rules

REFERENCE_CUT: Final = 0.9
"""The published cut; it belongs to mean-pooled bert-base-uncased."""

UNFITTED_CUT: Final = 0.5
"""Stands in where `similarity = "auto"` and no cut was fitted (a plan without an embedder); outcomes flag it."""

EVERY_ROUND: Final = 1.0
"""A cut that plays every guided round: nothing reaches it but a text that repeats its gold word for word."""

NUM_GROUPS: Final = 5
MAX_SCORE: Final = 10


class ArenaRules(Rules, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules of one MentalArena run.

    `mode`: `corrected` keeps what each role sees apart; `reference` is the published call graph with one shared
    history. `exchanges` follow the patient's opening; up to `max_decoder_rounds` more are guided by feedback while a
    decoded field is less similar to its gold than `similarity` (`auto`: fitted to the embedder, 0.9 in `reference`). A
    plan is tried up to `max_tries` times, until a score reaches `good_score` (1..10). `reply_sentences` caps utterances
    (0: the prompts' own limit). Switches: `cognition` (the cognitive diagram in the persona, four probes), `behaviour`
    (principles, one probe), `decoder` (probes, feedback, guided exchanges), `core_beliefs`, `style` (in the persona),
    `state_update` (the outcome of the best plan so far is the state the next plan meets). With `feedback =
    "undelivered"` the judge is asked as ever and the therapist is given none of it. `reference` mode, as published,
    knows neither core beliefs nor style nor state, and never delivers.
    """

    mode: Literal["corrected", "reference"] = "corrected"
    exchanges: int = 4
    max_decoder_rounds: int = 5
    similarity: float | Literal["auto"] = "auto"
    max_tries: int = 7
    good_score: int = 9
    reply_sentences: int = 0
    cognition: bool = True
    behaviour: bool = True
    decoder: bool = True
    core_beliefs: bool = True
    style: bool = True
    state_update: bool = False
    feedback: Literal["delivered", "undelivered"] = "delivered"

    def problems(self) -> list[str]:
        """Return what is out of range, one sentence each."""
        found = super().problems()
        ranges = {
            "exchanges": (1, 100),
            "max_decoder_rounds": (0, 100),
            "max_tries": (1, 100),
            "good_score": (1, MAX_SCORE),
            "reply_sentences": (0, 50),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                found.append(f"protocol.{name} must be {low}..{high}, got {value}: set a number in that range")
        return found + self._odd_values() + self._odd_pairs()

    def _odd_values(self) -> list[str]:
        if self.similarity == "auto" or 0 <= self.similarity <= 1:
            return []
        return [f'protocol.similarity must be "auto" or 0..1, got {self.similarity}: set a cosine, or "auto"']

    def _odd_pairs(self) -> list[str]:
        found = []
        if self.decoder and not (self.cognition or self.behaviour):
            found.append(
                "protocol.decoder must have something to decode, got cognition = false and behaviour = false: "
                "set decoder = false, or switch one of them on"
            )
        if self.state_update and self.mode == "reference":
            found.append(
                "protocol.state_update must be false in reference mode, got true: "
                'set it to false, or mode = "corrected"'
            )
        if self.feedback == "undelivered" and (self.mode == "reference" or not self.decoder):
            where = "in reference mode, which delivers none" if self.mode == "reference" else "without a decoder"
            found.append(
                f'protocol.feedback must be "delivered" {where}, got "undelivered": '
                'leave it out, or set mode = "corrected" and decoder = true'
            )
        return found

    @property
    def num_probes(self) -> int:
        """Probes per decode."""
        return (4 * self.cognition + self.behaviour) if self.decoder else 0

    @property
    def switches(self) -> dict[str, bool]:
        """The switches as they take effect."""
        is_corrected = self.mode == "corrected"
        return {
            "cognition": self.cognition,
            "behaviour": self.behaviour,
            "decoder": self.decoder,
            "core_beliefs": self.core_beliefs and self.cognition and is_corrected,
            "style": self.style and is_corrected,
            "state_update": self.state_update and is_corrected,
        }

    def cut(self, fitted: float | None) -> tuple[float, str]:
        """Return the cut and where it is from: `rules`, `reference`, `fitted` or `unfitted`."""
        if self.similarity != "auto":
            return float(self.similarity), "rules"
        if self.mode == "reference":
            return REFERENCE_CUT, "reference"
        return (fitted, "fitted") if fitted is not None else (UNFITTED_CUT, "unfitted")

    def num_calls(self, rounds: int, feedback: int, treatments: int, medicines: int) -> tuple[int, int]:
        """Return the calls to patient and therapist, and to the judge, of an episode without re-asks."""
        tries = treatments + medicines
        talk = 1 + 2 * self.exchanges + (rounds + 1) * self.num_probes + 2 * rounds
        return talk + 4 + 2 * tries, self.behaviour + feedback + tries + 1


PERSONA_TOKENS: Final = 1900
"""A patient's system text with principles and style, generously."""

EXPERT_TOKENS: Final = 300
"""The therapist's system text and a short instruction."""

TURN_TOKENS: Final = 160
"""A typical utterance or answer: replies seldom use all of `max_tokens`."""


def needed_context(rules: Rules) -> int:
    """Return the window in tokens that an episode under these rules is known to need, rounded up to 1024.

    An estimate from typical lengths: the longest view of any role plus one completion.
    """
    if not isinstance(rules, ArenaRules):
        raise TypeError(f"rules must be ArenaRules, got {type(rules).__name__}")
    turn = min(TURN_TOKENS, rules.max_tokens)
    rounds = rules.max_decoder_rounds if rules.decoder else 0
    exchanges = rules.exchanges + rounds
    talk = (1 + 2 * exchanges) * turn
    if rules.mode == "reference":
        # The persona is sent again at every patient turn, the expert's text at every call of the therapist but the
        # probes, and every probe, plan and answer stays in the history.
        need = talk + (1 + exchanges) * 1150 + exchanges * EXPERT_TOKENS
        need += (rounds + 1) * rules.num_probes * (turn + 60) + 2 * (turn + EXPERT_TOKENS + 50)
        need += 2 * rules.max_tries * (turn + EXPERT_TOKENS + 70)
    else:
        need = PERSONA_TOKENS + talk + (rules.max_tries - 1) * turn + EXPERT_TOKENS
    return -(-(need + rules.max_tokens) // 1024) * 1024
