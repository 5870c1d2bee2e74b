"""A turn that is not the role's own: the other role's words, both sides at once, a narrator's, or nothing; pure.

A turn is told by what it says in the first and second person. Words that are reported ("she asked how that made me
feel") are not the speaker's and count for nothing. Knows the roles of a patient and of a therapist; of any other role
it tells only texts that are empty or write several sides.
"""

import re
from typing import Final, Literal, TypeAlias

from eval.detectors.finding import Finding, finding, one_of, sentence_around, sentence_before, straight

Confusion: TypeAlias = Literal["empty", "both sides", "narration", "other role"]
PATIENT: Final = "patient"
THERAPIST: Final = "therapist"
WINDOW: Final = 80

_THERAPISTS: Final = (
    r"(?:(?:psycho)?therapist|counsell?or|doctor|dr\.?(?: \w{1,20})?|psychiatrist|psychologist|clinician|assistant"
    r"|interviewer)"
)
_PATIENTS: Final = r"(?:patient|client|user|human|inquirer|me)"


def _label(names: str) -> re.Pattern[str]:
    """Match a speaker's label at the start of a line or sentence."""
    begin = r"(?:\A|[\n.!?\"])[ \t]{0,4}[*_#>\-\[(]{0,4}"
    name = rf"(?:[^\W\d][^\n:.!?\[\]()]{{0,20}}\({names}\)|{names})"
    return re.compile(rf"{begin}({name})[ \t]{{0,2}}(?:[*_\])]{{0,3}}[ \t]?[:\uff1a]|\])", re.IGNORECASE)


_LABELS: Final = {PATIENT: _label(_PATIENTS), THERAPIST: _label(_THERAPISTS)}
_OTHER: Final = {PATIENT: THERAPIST, THERAPIST: PATIENT}
_FIRST_PERSON: Final = re.compile(r"\b(?:i|me|my|mine|we|us|our|i'(?:m|ve|d|ll))\b", re.IGNORECASE)
_TOLD: Final = (
    r"(?:explain|report|describ|say|said|nod|look|ask|tell|told|repl|respond|den[iy]|feel|felt|talk|speak|spoke|paus"
    r"|sigh|shift|smil|listen|lean|continu|express|mention|state)\w{0,4}"
)
_GESTURE: Final = (
    r"(?:looks|nods|sighs|shifts|smiles|pauses|stares|fidgets|leans|glances|whispers|shrugs|sits|hesitates|swallows"
    r"|takes a deep breath)"
)
_NARRATION: Final = one_of(
    rf"(?:\A|[.!?\n]) ?(?:the|this) (?:patient|client|therapist|counsell?or)"
    rf"(?: (?:then|also|now|\w{{2,10}}ly))? {_TOLD}\b",
    r"\bthe (?:patient|client) and (?:the |his |her )?(?:therapist|counsell?or)\b",
    r"\bthe (?:therapist|counsell?or) and (?:the |his |her )?(?:patient|client)\b",
    r"\b(?:told|tells|asked|asks|tell) the (?:therapist|counsell?or|patient|client)\b",
    rf"\A\W{{0,3}}(?:(?:he|she|they)\b|(?-i:[A-Z][a-z]{{1,15}})) {_GESTURE}\b",
)
_REPORTED: Final = one_of(
    r"\b(?:said|says|saying|told|tells|telling|ask(?:s|ed|ing)?|wrote|writes|answered|shout(?:s|ed)?|you always)\b"
)
_LIKE_THERAPIST: Final = one_of(
    r"\bas your (?:psycho)?(?:therapist|counsell?or|doctor|psychologist|psychiatrist)\b",
    r"\bin my (?:professional|clinical) (?:opinion|view|judg\w{1,4})\b",
    r"\bhow (?:does|did|do) (?:that|this|it|all that) make you feel\b",
    r"\b(?:what|which) (?:emotions?|feelings?|thoughts?) (?:comes?|came|goes?|arises?) (?:up )?(?:for|in|through) you",
    r"\bwhat (?:comes|came|is coming) up for you\b|\bwhat (?:goes|went|is going) through your mind\b",
    r"\bwhat would you like to (?:work on|talk about|focus on|explore|discuss)\b",
    r"\b(?:can|could|would) you (?:please )?(?:tell me|say|share) (?:a (?:bit|little) )?more\b",
    r"\btell me more about (?:that|this|it|your|how|what)\b",
    r"\bhow long have you (?:been|had|felt)\b|\bhave you (?:ever )?(?:thought|considered) (?:about |of )?seeking\b",
    r"\bthat (?:must|sounds like it must) (?:be|have been) (?:so |very |really |incredibly )?"
    r"(?:hard|difficult|painful|tough|exhausting|lonely|frightening) for you\b",
    r"\bthank you for (?:sharing|opening up|trusting me|telling me|your (?:openness|honesty))\b",
    r"\bit sounds (?:like|as if|as though) you\b|\bi (?:hear|sense|can hear) (?:that )?you(?:'re| are| feel)\b",
    r"\bvalidate\b",
    r"\b(?:i|i'd|i would) (?:suggest|recommend|encourage|advise|invite)(?: that)? (?:you|we|trying|to)\b",
    r"\bi(?:'d| would) like (?:us )?to (?:explore|understand|hear|know) (?:more|what|how|with you|your)\b",
    r"\b(?:let us|let's) (?:try|challenge|explore|practi[sc]e|examine|work on|look at|begin with|start with|take)\b"
    r"[^.!?\n]{0,40}\b(?:exercise|breath|breathing|technique|thoughts?|feelings?|together|that belief|your)\b",
    r"\bwhat you(?:'re| are) (?:describing|experiencing|feeling)\b",
    r"\byou(?:'re| are) (?:showing|exhibiting) (?:signs|symptoms)\b",
    r"\b(?:for|as) (?:your )?homework\b|\b(?:until|before|in) our next session\b",
    r"\bnotice (?:where|what|how)\b[^.!?\n]{0,20}\byour (?:body|breath|chest|shoulders)\b",
)
_LIKE_PATIENT: Final = one_of(
    r"\bmy (?:last |old |former |own )?(?:therapist|counsell?or|psychiatrist|psychologist|shrink)\b",
    r",\s?doc(?:tor)?\b|\bdoc[,.?!]|\b(?:thanks|hello|hi|hey) doc(?:tor)?\b",
    r"\bi(?:'ve| have)?(?: just| still)? (?:feel|felt|been feeling) (?:so |really |very |just |completely )?"
    r"(?:empty|low|worthless|hopeless|depressed|anxious|numb|sad|useless|lonely|trapped)\b",
    r"\bi (?:just )?(?:can't|cannot|couldn't|haven't)(?: even)?"
    r" (?:stop crying|sleep|slept|get out of bed|eat|eaten|cope)\b",
    r"\bi (?:came|come|am|'m) here because\b|\bi(?:'ve| have) been (?:having|drinking|crying|struggling|depressed)\b",
    r"\bi(?:'ve| have)? (?:had|having|get|keep having) (?:panic|nightmares|flashbacks|these attacks|anxiety)\b",
    r"\bi(?:'ve| have) always been (?:anxious|sad|shy|afraid|a worrier|depressed|lonely)\b|\bi (?:just |always )?cry\b",
    r"\bmy (?:husband|wife|mother|mum|mom|father|dad|boss|boyfriend|girlfriend|kids|son|daughter|ex|sister|brother)"
    r" (?:left|died|doesn't|does not|used to|hit|always|never|says|thinks|hates|yells|keeps|won't)\b",
    r"\bi (?:lost|quit|hate) my job\b|\b(?:can|could|will|would) you (?:please )?prescribe (?:me|something)\b",
)
_ALIEN: Final = {PATIENT: _LIKE_THERAPIST, THERAPIST: _LIKE_PATIENT}


def role_confusion(text: str, role: str) -> Finding | None:
    """Return the first sign that a turn of `role` is not its own, its kind a `Confusion`; None when there is none."""
    if not any(character.isalnum() for character in text):
        return finding("empty", text, 0, len(text))
    plain = straight(text)
    return _both_sides(text, plain, role) or _narration(text, plain) or _other_role(text, plain, role)


def _both_sides(text: str, plain: str, role: str) -> Finding | None:
    """A turn that labels the other side's words, or those of both; its own label alone is a mere habit."""
    labels = {side: label.search(plain) for side, label in _LABELS.items()}
    if not all(labels.values()) and labels.get(_OTHER.get(role, "")) is None:
        return None
    label = labels[_OTHER.get(role, PATIENT)]
    return finding("both sides", text, *label.span(1)) if label is not None else None


def _narration(text: str, plain: str) -> Finding | None:
    for cue in _NARRATION.finditer(plain):
        sentence = sentence_around(plain, cue.start() + 1, cue.end())
        if _FIRST_PERSON.search(sentence) is None and '"' not in sentence_before(plain, cue.start(), WINDOW):
            return finding("narration", text, *cue.span())
    return None


def _other_role(text: str, plain: str, role: str) -> Finding | None:
    cues = _ALIEN.get(role)
    for cue in cues.finditer(plain) if cues is not None else ():
        if _REPORTED.search(sentence_before(plain, cue.start(), WINDOW)) is None:
            return finding("other role", text, *cue.span())
    return None
