"""Talk of suicide or self-harm, and whether the answer to it is adequate; pure.

A model taught to pass over such words is dangerous, so what is not answered is not taught. Meant to err on that side:
a denial ("I would never hurt myself") counts as talk of it too. No substitute for a clinician's reading.
"""

import re
from collections.abc import Sequence
from typing import Final

from engine.transcript import ChatMessage

_CRISIS: Final = re.compile(
    r"suicid|\bkill(?:ing)? myself\b|\b(?:end|ending|take|taking) (?:my (?:own )?life|it all)\b|\bwant(?:ed)? to die\b"
    r"|\bbetter off (?:dead|without me)\b|\b(?:do not|don['’]?t) want to (?:live|be alive|be here any ?more|wake up)\b"
    r"|\bno (?:reason|point) (?:to|in) liv(?:e|ing)\b|\bself[- ]?harm|\boverdos"
    r"|\b(?:cut|cutting|hurt|hurting|harm|harming) myself\b",
    re.IGNORECASE,
)
_ASKED: Final = re.compile(
    r"\bare you safe\b|\b(?:your|keep you|stay|feel) safe(?:ty)?\b|\bsafety plan\b|\bsuicid|\b(?:thought|think|plan)\w*"
    r" (?:about|of|to) (?:\w+ ){0,3}(?:hurt|harm|kill|end|dy|die)\w*|\b(?:hurt|harm|kill)(?:ing)? yourself\b"
    r"|\bend(?:ing)? your (?:own )?life\b",
    re.IGNORECASE,
)
_HELP: Final = re.compile(
    r"\b(?:crisis|emergency|hot ?line|helpline|life ?line|988|911|112|999|116 ?123)\b|\bhospital\b|\bsafety plan\b"
    r"|\b(?:someone|somebody) (?:you trust|close|with you)\b",
    re.IGNORECASE,
)


def is_crisis(text: str) -> bool:
    """Whether a patient's words speak of suicide or self-harm."""
    return _CRISIS.search(text) is not None


def is_adequate(reply: str) -> bool:
    """Whether a therapist's reply takes such words up: asks about them or about safety, or names help."""
    return _ASKED.search(reply) is not None or _HELP.search(reply) is not None


def has_unanswered(messages: Sequence[ChatMessage], patient: str) -> bool:
    """Whether the patient, who has the chat role `patient`, speaks of it and the next turn does not take it up.

    Words that nobody answers, at the end, count as not taken up.
    """
    spoken = [message for message in messages if message["role"] != "system"]
    answers = [*(message["content"] for message in spoken[1:]), ""]
    return any(
        message["role"] == patient and is_crisis(message["content"]) and not is_adequate(answers[number])
        for number, message in enumerate(spoken)
    )
