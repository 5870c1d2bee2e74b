"""Legacy scoring: the rules by which MentalArena and IMHI scored replies, defects included; pure.

Kept so that a published figure can be compared with one of the same rule. No score of our own is made with these: an
empty reply is right under two of them. Sources: MentalArena's evaluation script and IMHI's rule-based scorer; of the
latter's two published variants, the one that reads the text before "Reasoning:".
"""

from collections.abc import Callable
from typing import Final

import msgspec

from eval.items import Item

REASONING: Final = "Reasoning:"


class LegacyMark(msgspec.Struct, frozen=True):
    """What a published rule makes of one reply.

    `is_default` says that no keyword was found and the rule's default class taken ("OOD"); `is_unread` that the rule
    cannot read the published gold text, upon which the published scorer ends without a result.
    """

    is_right: bool
    is_default: bool = False
    is_unread: bool = False


LegacyRule = Callable[[Item, str], LegacyMark]


def medqa_rule(item: Item, text: str) -> LegacyMark:
    """MedQA and MMLU: the first character where there is a full stop or only one, else either text in the other."""
    reply = text.strip()
    if "." in reply or len(reply) == 1:
        return LegacyMark(reply[0] == item.gold)
    return LegacyMark(reply in item.gold_text or item.gold_text in reply)


def medmcqa_rule(item: Item, text: str) -> LegacyMark:
    """MedMCQA: as MedQA, but the second branch compares with the gold letter, which may stand anywhere."""
    reply = text.strip()
    if "." in reply or len(reply) == 1:
        return LegacyMark(reply[0] == item.gold)
    return LegacyMark(reply in item.gold or item.gold in reply)


def pubmedqa_rule(item: Item, text: str) -> LegacyMark:
    """PubMedQA: the gold word anywhere behind the first "explanation.", unless both "yes" and "no" occur."""
    _, marker, tail = text.partition("explanation.")
    reply = (tail if marker else text).strip().lower()
    return LegacyMark(item.gold.lower() in reply and not ("yes" in reply and "no" in reply))


class KeywordRule(msgspec.Struct, frozen=True):
    """IMHI's rule: the first keyword found before "Reasoning:" decides, ignoring case; else the default class.

    `keywords` pairs a keyword with the label it stands for, `gold_keywords` are those by which the published gold text
    is read where they differ.
    """

    keywords: tuple[tuple[str, str], ...]
    default: str
    gold_keywords: tuple[tuple[str, str], ...] = ()

    def __call__(self, item: Item, text: str) -> LegacyMark:
        """Return the mark of one reply."""
        gold = _first(self.gold_keywords or self.keywords, item.gold_text)
        answer = _first(self.keywords, text)
        return LegacyMark(
            is_right=gold is not None and (answer or self.default) == gold,
            is_default=answer is None,
            is_unread=gold is None,
        )


def _first(keywords: tuple[tuple[str, str], ...], text: str) -> str | None:
    head = text.split(REASONING, 1)[0].lower()
    return next((label for keyword, label in keywords if keyword in head), None)


BINARY_RULE: Final = KeywordRule((("yes", "yes"), ("no", "no")), default="no")
"""IMHI's yes/no sets; "no" is found inside "not" and "know" as well."""
