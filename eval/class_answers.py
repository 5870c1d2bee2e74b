"""Class answers: which class a reply to a classification question gives; pure.

A class is named by its label or one of its aliases, at the beginning of the reply or in an explicit statement; free
prose is not searched for class words. Invariant: as for letters, nothing is guessed: two classes, a denied one, a
refusal or none is invalid. Parsing never raises, and every pattern runs in linear time.
"""

import functools
import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from eval.answers import CUT
from eval.items import Option
from eval.plain_text import before_explanation, last_line, lines, plain

_FILLED: Final = (
    r"(?:(?:the|a|an|this|most|likely|clearly|primarily|mainly|mostly|probably|definitely|indeed|class|label|category"
    r"|signs of|symptoms of|mental disorder symptoms of|mental disorder symptoms related to|risk of|related to"
    r"|causes? of|due to) ){0,4}"
)
_NAMES: Final = (
    r"(?:answer|option|choice|label|class|category|classification|prediction|verdict|diagnosis|stress cause"
    r"|cause of stress|cause of depression|mental disorder cause|mental disorder|cause)"
)
_STATES: Final = (
    rf"\b{_NAMES}(?: (?:to|for|of|in|shown in|shown by) (?:this|the|that)(?: \w{{1,15}}){{1,3}}?)?"
    r"(?:,? (?:therefore|thus|then|hence|so),?)?"
    r"(?: ?(?:is|was|would be|should be|must be|[:=\u2192])| ?[-–—](?= )){1,3} ?"
)
_BEGINS: Final = (
    r"^(?:(?:so|therefore|thus|hence|okay|ok|sure|certainly)[,:]? )?(?:i (?:think|believe|would say)(?: that)? )?"
    rf"(?:(?:the |my )?(?:correct |right |best |final )?(?:{_NAMES} ?[:=]|option|choice|answer|label) ?)?"
)
_SHOWS: Final = (
    r"(?:\b(?:shows?|showing|indicates?|suggests?|exhibits?|displays?)|related to|\bdue to"
    r"|\b(?:classified|label(?:l)?ed|categori[sz]ed) as) "
)
_DENIED_BEFORE: Final = re.compile(
    r"(?:\b(?:not|never|cannot|neither|nor|without|if|whether|unless|instead of|rather than)\b|n't\b)[^.,;:\n]{0,24}$",
    re.IGNORECASE,
)
_LOOK_BACK: Final = 40
_CLOSED: Final = re.compile(r"['’)\]]?(?: ?$| ?\n|[),;:!]|\.(?!\w)| [-–—] )")
_RUNS_ON: Final = re.compile(
    r" (?:the|this|that|these|it|there|he|she|they|i|based|because|since|according|poster|post|is the)\b", re.IGNORECASE
)
_JOINED: Final = re.compile(r" ?(?:[/&+]|and |or )", re.IGNORECASE)
_OPEN: Final = re.compile(r"(?:-(?!related)|['’]s\b| of\b|/(?=\w))", re.IGNORECASE)
_REFUSES: Final = re.compile(
    r"[,.]? ?(?:but )?i(?:'m| am)? (?:cannot|can't|can not|won't|will not|unable|not able|do not|don't|am unable)",
    re.IGNORECASE,
)


class _Patterns(NamedTuple):
    """The compiled patterns of one tuple of classes."""

    begins: re.Pattern[str]
    states: re.Pattern[str]
    shows: re.Pattern[str]
    beside: re.Pattern[str]
    label_by_phrase: dict[str, str]


def parse_class(
    options: Sequence[Option], text: str, *, is_cut_off: bool = False, is_final: bool = False
) -> str | None:
    """Return the class that a reply gives, None when it is invalid.

    A label may be followed by reasoning, which is not looked at. `is_final` reads the last explicit statement, or else
    the last line: for replies that reason first; cut off, such a reply has not come to its answer.
    """
    reply = plain(text, is_end=is_final)
    if not reply or (is_final and is_cut_off):
        return None
    patterns = _patterns(tuple(options))
    if not is_final:
        return _direct(patterns, f"{reply}{CUT}" if is_cut_off else reply)
    stated = list(_given(patterns, patterns.states, reply))
    return _only(stated[-1]) if stated else _direct(patterns, last_line(reply))


def _only(labels: frozenset[str]) -> str | None:
    return next(iter(labels)) if len(labels) == 1 else None


def _direct(patterns: _Patterns, reply: str) -> str | None:
    """Read the beginning, else explicit statements, else what the text before the reasoning says is shown."""
    head = before_explanation(reply)
    begun = [labels for line in lines(head) for labels in _given(patterns, patterns.begins, line)]
    stated = list(_given(patterns, patterns.states, head))
    if begun or stated:
        return _only(frozenset().union(*begun, *stated))
    return _only(frozenset().union(*_given(patterns, patterns.shows, head)))


def _given(patterns: _Patterns, pattern: re.Pattern[str], text: str) -> Iterator[frozenset[str]]:
    """Yield the classes that each match gives: more than one where others are joined to it."""
    for found in pattern.finditer(text):
        if not _DENIED_BEFORE.search(text[max(0, found.start() - _LOOK_BACK) : found.start()]) and _ends(
            found, text, is_begin=pattern is patterns.begins
        ):
            yield frozenset(_joined(patterns, found, text))


def _ends(found: re.Match[str], text: str, *, is_begin: bool) -> bool:
    """Whether a class is named, not a word that begins something else ("no idea", "none of these")."""
    phrase, end = found["phrase"], found.end("phrase")
    if text.startswith(CUT, end) or text.startswith("?", end):
        return False
    is_short = phrase.casefold() in ("yes", "no", "maybe", "none")
    if is_short and _REFUSES.match(text, end):
        return False
    if _CLOSED.match(text, end):
        return True
    if is_short or (is_begin and " " not in phrase):  # "Job loss is ..." begins with no class
        return _RUNS_ON.match(text, end) is not None or (is_begin and _JOINED.match(text, end) is not None)
    return _OPEN.match(text, end) is None


def _joined(patterns: _Patterns, found: re.Match[str], text: str) -> Iterator[str]:
    further: re.Match[str] | None = found
    while further:
        yield patterns.label_by_phrase[further["phrase"].casefold()]
        further = patterns.beside.match(text, further.end("phrase"))


@functools.lru_cache(maxsize=64)
def _patterns(options: tuple[Option, ...]) -> _Patterns:
    by_phrase = {
        plain(phrase).casefold(): option.label
        for option in reversed(options)
        for phrase in (*option.aliases, option.text, option.label)
    }
    longest_first = sorted((one for one in by_phrase if one), key=len, reverse=True)
    token = rf"['‘(\[]?(?P<phrase>{'|'.join(map(re.escape, longest_first))})(?!\w)"
    flags = re.IGNORECASE
    return _Patterns(
        begins=re.compile(rf"{_BEGINS}{_FILLED}{token}", flags),
        states=re.compile(rf"{_STATES}{_FILLED}{token}", flags),
        shows=re.compile(rf"{_SHOWS}{_FILLED}{token}", flags),
        beside=re.compile(
            rf"['’)\]]?(?: ?[,;./&+]| and/or| and| or| but)(?: and| or| but| also)? ?{_FILLED}{token}", flags
        ),
        label_by_phrase=by_phrase,
    )
