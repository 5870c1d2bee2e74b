"""A model that falls out of its role: it refuses, or says that it is a machine; pure.

A therapist's boundary ("I can't prescribe that") and a patient's despair ("I can't do this any more") are no refusals:
what is declined must be the request, the conversation or the role itself.
"""

from typing import Final

from eval.detectors.finding import Finding, finding, one_of, straight

_CANNOT: Final = (
    r"\bi(?:'m| am)? (?:sorry,? (?:but )?i )?(?:can't|cannot|can not|won't|will not|(?:am )?unable to"
    r"|(?:am )?not able to|don't feel comfortable|(?:must|have to) decline to)"
)
_MACHINE: Final = (
    r"(?:ai|a\.i\.|artificial intelligence|(?:large |ai )?language model|(?:ai|virtual|digital) (?:assistant|model)"
    r"|chat ?bot|computer program)"
)
_AS_MACHINE: Final = one_of(
    rf"\bas an? {_MACHINE}\b",
    rf"\bi(?:'m| am) (?:just |only |merely |actually |really )?an? {_MACHINE}\b",
    r"\bi (?:don't|do not|can't|cannot) have personal (?:feelings|emotions|experiences|opinions)\b",
    r"\bi was (?:trained|created|developed|made) by (?:openai|anthropic|google|meta|hugging ?face|alibaba)\b",
)
_DECLINED: Final = one_of(
    rf"{_CANNOT} (?:help|assist|helping|assisting)(?: you)? (?:with|in) (?:that|this|your|such|these|those)\b",
    rf"{_CANNOT} (?:fulfill?|comply with|complete|answer|process|respond to|accommodate)"
    r" (?:that|this|your|such|any)\b",
    rf"{_CANNOT} (?:generat\w{{1,3}}|creat\w{{1,3}}|writ\w{{1,3}}|produc\w{{1,3}}|provid\w{{1,3}}|giv\w{{1,3}}|offer)"
    r" (?:you )?(?:with )?(?:that|this|such|explicit content|harmful content|a response"
    r"|(?:any |the )?(?:kind |type |sort )?(?:of )?(?:medical |mental health |professional |legal |such ){0,3}"
    r"(?:advice|content|information|assistance|instructions|dialogue|material))\b"
    r"(?! (?:tablet|pill|medication|drug|dose|week|day|time|prescription|guarantee|promise)s?)",
    rf"{_CANNOT} (?:continu\w{{1,3}}|participat\w{{1,3}}|engag\w{{1,3}}|tak\w{{1,3}} part)"
    r" (?:with|in) (?:this|that|such|the|any|a)"
    r"(?: \w{1,12})? ?(?:role|play|roleplay|scenario|conversation|topic|request|discussion|simulation)",
    rf"{_CANNOT} (?:role-?play(?:ing)?|pretend(?:ing)? to be|tak(?:e|ing) on (?:the|that|this) (?:role|persona)"
    r"|act(?:ing)? as|simulat(?:e|ing))\b",
    r"\bi must (?:respectfully |politely )?decline\b(?! (?:the|your) (?:invitation|offer|gift))",
)
_POLICY: Final = one_of(
    r"\b(?:against|violat\w{1,3}|outside|breach\w{0,3}) (?:of )?(?:my|our|the|openai) "
    r"(?:guidelines|polic(?:y|ies)|programming|content|safety|usage)\b",
    r"\bmy (?:guidelines|programming|training data|safety guidelines|content policy)\b",
    r"\b(?:not|isn't) appropriate for me to (?:role-?play|pretend|continue|generate|act as|simulate)\b",
)
_KINDS: Final = {"as machine": _AS_MACHINE, "declined": _DECLINED, "policy": _POLICY}


def refusal(text: str) -> Finding | None:
    """Return the first sign that a turn refuses or names itself a machine, None when there is none."""
    plain = straight(text)
    for kind, cues in _KINDS.items():
        if (cue := cues.search(plain)) is not None:
            return finding(kind, text, *cue.span())
    return None
