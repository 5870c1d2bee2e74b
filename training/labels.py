"""Names of illnesses in common words: what many spellings of one diagnosis have in common; pure.

Models write "Doctor 2's diagnosis of Major Depressive Disorder (MDD), moderate": a corpus of those has hundreds of
labels for a dozen illnesses. Known names and their short forms become one; any other name is only tidied. Invariant:
canonical names are their own canonical names.
"""

import re
from typing import Final

# Canonical name, and what else it goes by: a pattern over lower-case text, and short forms in capitals.
_NAMES: Final[dict[str, tuple[str, str]]] = {
    "major depressive disorder": (
        r"major depress(?:ive|ion)(?: disorder| episode)?|clinical depression|unipolar depression",
        "MDD",
    ),
    "persistent depressive disorder": (r"persistent depressive(?: disorder)?|dysthymi[ac]\w*(?: disorder)?", "PDD"),
    "depression": (r"depression|depressive (?:disorder|episode|symptoms)", ""),
    "generalized anxiety disorder": (r"generali[sz]ed anxiety(?: disorder)?", "GAD"),
    "social anxiety disorder": (r"social (?:anxiety|phobia)(?: disorder)?", "SAD"),
    "separation anxiety disorder": (r"separation anxiety(?: disorder)?", ""),
    "illness anxiety disorder": (r"(?:illness|health) anxiety(?: disorder)?|hypochondri\w+", ""),
    "panic disorder": (r"panic disorder|panic attacks?", ""),
    "agoraphobia": (r"agoraphobi\w+", ""),
    "anxiety disorder": (r"anxiety(?: disorder)?", ""),
    "post-traumatic stress disorder": (r"(?:complex )?post[- ]?traumatic stress(?: disorder)?", "C-PTSD|CPTSD|PTSD"),
    "acute stress disorder": (r"acute stress(?: disorder)?", ""),
    "adjustment disorder": (r"adjustment disorder", ""),
    "obsessive-compulsive personality disorder": (r"obsessive[- ]compulsive personality(?: disorder)?", "OCPD"),
    "obsessive-compulsive disorder": (r"obsessive[- ]compulsive(?: disorder)?", "OCD"),
    "bipolar II disorder": (r"bipolar (?:disorder )?(?:type )?(?:ii|2)\b(?: disorder)?", ""),
    "bipolar I disorder": (r"bipolar (?:disorder )?(?:type )?(?:i|1)\b(?: disorder)?", ""),
    "bipolar disorder": (r"bipolar(?: affective)?(?: disorder)?|manic[- ]depress\w+", ""),
    "cyclothymic disorder": (r"cyclothymi\w+(?: disorder)?", ""),
    "borderline personality disorder": (r"(?:borderline|emotionally unstable) personality(?: disorder)?", "BPD"),
    "avoidant personality disorder": (r"avoidant personality(?: disorder)?", "AVPD|AvPD"),
    "dependent personality disorder": (r"dependent personality(?: disorder)?", ""),
    "narcissistic personality disorder": (r"narcissistic personality(?: disorder)?", "NPD"),
    "schizoaffective disorder": (r"schizoaffective(?: disorder)?", ""),
    "schizophrenia": (r"schizophreni\w+", ""),
    "psychotic disorder": (r"psychotic disorder|psychosis", ""),
    "attention-deficit/hyperactivity disorder": (
        r"attention[- ]deficit(?:[/ -]+hyperactivity)?(?: disorder)?",
        "ADHD|ADD",
    ),
    "autism spectrum disorder": (r"autis(?:m|tic)(?: spectrum)?(?: disorder)?", "ASD"),
    "substance use disorder": (
        r"(?:substance|opioid|drug|cannabis)[- ](?:use|abuse|dependence|addiction)(?: disorder)?",
        "SUD",
    ),
    "alcohol use disorder": (r"alcohol(?:ism|[- ](?:use|abuse|dependence))(?: disorder)?", "AUD"),
    "anorexia nervosa": (r"anorexia(?: nervosa)?", ""),
    "bulimia nervosa": (r"bulimia(?: nervosa)?", ""),
    "binge-eating disorder": (r"binge[- ]eating(?: disorder)?", "BED"),
    "insomnia": (r"insomnia(?: disorder)?", ""),
    "prolonged grief disorder": (r"(?:prolonged|complicated) grief(?: disorder)?", ""),
    "body dysmorphic disorder": (r"body dysmorphi[ac]\w*(?: disorder)?", "BDD"),
    "dissociative disorder": (r"dissociative(?: identity)?(?: disorder)?", "DID"),
}
_PATTERNS: Final = [
    (name, re.compile(rf"\b(?i:{words})" + (rf"|\b(?:{short})\b" if short else "")))
    for name, (words, short) in _NAMES.items()
]
_WHOSE: Final = re.compile(r"\b(?:doctor|dr\.?|clinician|therapist|opinion)(?:['’]s)? ?#?\d?(?:['’]s)?", re.IGNORECASE)
_AROUND: Final = re.compile(
    r"\b(?:the|patient|has|have|is|are|of|by|with|diagnos\w+|opinion|assessment|more|most|accurate|likely|suitable"
    r"|correct|better|i|think|believe|agree|prefer|a|an|that|both)\b",
    re.IGNORECASE,
)
_EDGES: Final = " \t\n.,:;!?*_`'\"“”()-–"


def canonical_label(text: str) -> str:
    """Return the illness that a diagnosis names, "" when it names none.

    Of several illnesses the one named first counts, of two at one place the longer name: the main diagnosis stands in
    front.
    """
    found = [
        (match.start(), -len(match[0]), name)
        for name, pattern in _PATTERNS
        if (match := pattern.search(text)) is not None
    ]
    if found:
        return min(found)[2]
    return "" if _is_unresolved(text) else " ".join(_WHOSE.sub(" ", text).split()).strip(_EDGES)


def _is_unresolved(text: str) -> bool:
    """Whether a text only says whose diagnosis it is ("Doctor 1 is more accurate"), or nothing at all."""
    return not _AROUND.sub(" ", _WHOSE.sub(" ", text)).strip(_EDGES)
