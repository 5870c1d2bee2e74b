"""Answers: which option a reply gives; pure.

The chain: the reply made plain, then a letter by explicit patterns, then an option's exact text, else None: *invalid*.
Invariant: nothing is guessed. A reply that gives two different answers, none, a refusal, or is empty is invalid; so is
one cut off before its answer is complete. A reply is hostile text: parsing never raises on it, and every pattern runs
in linear time. Knows nothing of right answers.
"""

import functools
import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from eval.items import Option
from eval.plain_text import before_explanation, key, last_line, lines, plain, sentence

CUT: Final = "\u2026"
"""Put behind a reply that was cut off, so that what ends there counts as unfinished."""
_WORDS: Final = frozenset("AI")
"""Labels that are words too: they need punctuation behind them, as lower-case letters do."""

_STATES: Final = (
    r"\b(?:answer|option|choice|response|alternative|letter)(?: (?:to|for) (?:this|the|that)(?: \w{1,15}){1,3}?| here)?"
    r"(?:,? (?:therefore|thus|then|hence|so),?)?"
    r"(?: ?(?:is|was|would be|should be|must be|[:=\u2192])| ?[-–—](?= )){1,3} ?"
    r"(?:(?:most |very )?(?:likely|probably|clearly|definitely|certainly|therefore|thus|simply|indeed) )?"
    r"(?:the )?(?:correct |best |right )?(?:(?:option|choice|answer|letter|alternative):? )?"
    r"(?!(?:is|was|would|should|must)\b)"
)
_CHOOSES: Final = (
    r"\b(?:choose|chose|select|selected|pick|picked|go with|went with|choosing|selecting)(?: the)?"
    r"(?: (?:option|answer|choice|letter):?)? "
)
_IS_BEST: Final = (
    r"[)\]]? (?:is|would be|must be) (?:clearly |definitely |therefore |thus )?(?:the )?(?:most |single )?"
    r"(?:correct|right|best|likely|appropriate|accurate)\b"
)
_BEGINS: Final = (
    r"^(?:(?:so|therefore|thus|hence|okay|ok|sure|certainly)[,:]? )?(?:(?:the|my) )?(?:(?:correct|right|best|final) )?"
    r"(?:(?:option|choice|answer|letter):? ?)?"
)
_CLOSED: Final = re.compile(r"[)\]}]?(?: ?$| ?\n|[)\],;:!}$]|\.(?!\w)| [-–—] | (?:because|since)\b)")
_DENIED: Final = re.compile(
    r"[)\]]?[.,:]? ?(?:is|was|can|could|would|does|seems)(?:n't| (?:clearly |definitely )?(?:not|never|no|in(?:correct"
    r"|valid|appropriate)|wrong|false|unlikely|out)\b)"
    r"|[)\]]?: ?(?:no|not|wrong|incorrect|false)\b",
    re.IGNORECASE,
)
# Before a statement: denied or conditional. Before a letter: one of several, or part of a name ("vitamin B").
_UNSTATED: Final = re.compile(
    r"(?:\b(?:not|never|cannot|neither|nor|without|if|whether|unless)\b|n't\b)[^.,;:\n]{0,24}$", re.IGNORECASE
)
_NOT_ALONE: Final = re.compile(
    r"(?:\b(?:not|nor|neither|or|and|than|vitamin|hepatitis|type|group|stage|class|factor|grade|patient|statement"
    r"|assertion|influenza|cluster)|\b[A-J]\)?[,/]) ?(?:(?:option|choice) )?$",
    re.IGNORECASE,
)
_LOOK_BACK: Final = 48


class _Patterns(NamedTuple):
    """The compiled patterns of one tuple of labels."""

    states: re.Pattern[str]
    chooses: re.Pattern[str]
    is_best: re.Pattern[str]
    begins: re.Pattern[str]
    listed: re.Pattern[str]
    beside: re.Pattern[str]


class _Given(NamedTuple):
    """The labels that one place of a reply gives, and where it stands."""

    start: int
    labels: frozenset[str]


def parse_letter(
    options: Sequence[Option], text: str, *, is_cut_off: bool = False, is_final: bool = False
) -> str | None:
    """Return the label that a reply to a multiple-choice question gives, None when it is invalid.

    `is_final` reads the last explicit statement ("the answer is B"), or else the last line: for replies that reason
    first; cut off, such a reply has not come to its answer.
    """
    reply = plain(text, is_end=is_final)
    if not reply or (is_final and is_cut_off):
        return None
    if not is_final:
        return _direct(options, f"{reply}{CUT}" if is_cut_off else reply)
    stated = _statements(options, reply)
    return _only(stated[-1].labels) if stated else _direct(options, last_line(reply))


def _only(labels: frozenset[str] | set[str]) -> str | None:
    return next(iter(labels)) if len(labels) == 1 else None


def _direct(options: Sequence[Option], reply: str) -> str | None:
    """Read a reply that is to begin with its answer: everything it gives must be the same option."""
    head = before_explanation(reply)
    texts = _by_text(options)
    bare = key(head)
    by_letter = {option.label.casefold(): option.label for option in options}
    if bare in by_letter:
        return by_letter[bare]
    for whole in (bare, key(reply)):
        if whole in texts:
            return texts[whole]
    labels = set(_leading(options, head))
    labels.update(label for given in _statements(options, reply) for label in given.labels)
    labels.update(_texts_given(options, texts, head))
    answer = _only(labels)
    return None if answer is not None and _begins_as_another(options, bare, answer) else answer


def _by_text(options: Sequence[Option]) -> dict[str, str | None]:
    """Return label by normalised text; None for a text that two options share, which names neither."""
    found: dict[str, str | None] = {}
    for option in options:
        text = key(plain(option.text))
        if text:
            found[text] = None if text in found else option.label
    return found


def _texts_given(options: Sequence[Option], texts: dict[str, str | None], head: str) -> Iterator[str]:
    """Yield the options whose exact text is a line of the head, its letter aside, or that line's first sentence."""
    begins = _patterns(tuple(option.label for option in options)).begins
    for line in lines(head):
        found = begins.match(line)
        parts = [line, sentence(line)]
        if found:
            rest = line[found.end() :].lstrip(" )].:,-–—")
            parts += [rest, sentence(rest)]
        for part in parts:
            label = texts.get(key(part))
            if label is not None:
                yield label


def _begins_as_another(options: Sequence[Option], bare: str, answer: str) -> bool:
    """Whether the supposed letter only begins another option's text ("E. coli is found ...")."""
    prefix = answer.casefold()
    for option in options:
        text = key(plain(option.text))
        if option.label != answer and text.startswith((f"{prefix}.", f"{prefix} ")) and bare.startswith(text):
            return True
    return False


def _leading(options: Sequence[Option], head: str) -> Iterator[str]:
    """Yield the labels at the beginning of a line, those joined to them, and those of lists within a line."""
    labels = tuple(option.label for option in options)
    patterns = _patterns(labels)
    by_letter = {label.casefold(): label for label in labels}
    texts = _by_text(options)
    for found in patterns.begins.finditer(head):
        rest = _rest(texts, head, found.end()).lstrip(" )].:,-–—")
        label = by_letter[found["label"].casefold()]
        if _is_letter(found, head) or (found["label"] == label and texts.get(key(rest)) == label):
            yield label
            if key(rest) in by_letter:  # "A: B" is an answer B as well as a letter A
                yield by_letter[key(rest)]
            elif texts.get(key(rest)) != label:
                yield from _joined(patterns, by_letter, head, found.end())
    # Of a list within the first line every letter counts; such a letter alone is no answer.
    first = head.partition("\n")[0]
    for found in patterns.listed.finditer(first) if patterns.begins.match(first) else ():
        if not _NOT_ALONE.search(first[max(0, found.start() - _LOOK_BACK) : found.start()].rstrip("(")):
            yield by_letter[found["label"].casefold()]


def _statements(options: Sequence[Option], reply: str) -> list[_Given]:
    """Return what each explicit statement of an answer gives, in order; those that give nothing readable are left."""
    labels = tuple(option.label for option in options)
    patterns = _patterns(labels)
    by_letter = {label.casefold(): label for label in labels}
    texts = _by_text(options)
    given = [*_stated_texts(texts, patterns, reply)]
    for pattern in (patterns.states, patterns.chooses, patterns.is_best):
        for found in pattern.finditer(reply):
            label = found["label"]
            if label and _is_stated(found, reply) and ("lead" not in found.re.groupindex or _is_letter(found, reply)):
                beside = _joined(patterns, by_letter, reply, found.end("label"))
                given.append(_Given(found.start(), frozenset({by_letter[label.casefold()], *beside})))
    return sorted(given, key=lambda one: one.start)


def _stated_texts(texts: dict[str, str | None], patterns: _Patterns, reply: str) -> Iterator[_Given]:
    """Yield the options that an explicit statement gives by their text."""
    for found in patterns.states.finditer(reply):
        if not _is_stated(found, reply):
            continue
        rest = _rest(texts, reply, found.end("lead"))
        for part in (rest, sentence(rest), before_explanation(rest), before_explanation(sentence(rest))):
            label = texts.get(key(part))
            if label is not None:
                yield _Given(found.start(), frozenset({label}))
                break


def _rest(texts: dict[str, str | None], reply: str, start: int) -> str:
    """Return the rest of the line, no longer than is needed to tell that it is no option's text."""
    reach = max(map(len, texts), default=0) + _LOOK_BACK
    return reply[start : start + reach].partition("\n")[0]


def _is_stated(found: re.Match[str], reply: str) -> bool:
    before = reply[max(0, found.start() - _LOOK_BACK) : found.start()]
    if "lead" not in found.re.groupindex:
        return not _UNSTATED.search(before) and not _NOT_ALONE.search(before)
    is_denied = found["label"] and _DENIED.match(reply, found.end("label"))
    return not is_denied and not _UNSTATED.search(before)


def _is_letter(found: re.Match[str], text: str) -> bool:
    """Whether a matched letter is one, not a word or the beginning of a text: by what stands behind it."""
    letter, end = found["label"], found.end("label")
    if _DENIED.match(text, end) or text.startswith("?", end):
        return False
    if _CLOSED.match(text, end):
        return True
    is_statement = "lead" in found.re.groupindex
    return is_statement and letter.isupper() and letter not in _WORDS and text.startswith(" ", end)


def _joined(patterns: _Patterns, by_letter: dict[str, str], text: str, start: int) -> Iterator[str]:
    """Yield further letters joined to the one that ends at `start` ("A or B", "A, C", "A/B")."""
    while found := patterns.beside.match(text, start):
        if not _is_letter(found, text) and not found["label"].isupper():
            return
        yield by_letter[found["label"].casefold()]
        start = found.end("label")


@functools.lru_cache(maxsize=64)
def _patterns(labels: tuple[str, ...]) -> _Patterns:
    label = "|".join(re.escape(one) for one in sorted(labels, key=len, reverse=True))
    token = rf"[(\[{{$]?(?P<label>{label})(?![\w'’])"
    upper = rf"(?-i:{label})"
    flags = re.IGNORECASE | re.MULTILINE
    return _Patterns(
        # The letter is optional: without it the statement may give an option's text.
        states=re.compile(rf"(?P<lead>{_STATES})(?:{token})?", flags),
        chooses=re.compile(rf"(?P<lead>{_CHOOSES}){token}", flags),
        is_best=re.compile(rf"(?<![\w'’-])(?P<label>{upper}){_IS_BEST}", flags),
        begins=re.compile(rf"{_BEGINS}{token}", flags),
        listed=re.compile(rf"(?:(?<=[ (])(?P<label>{upper})(?=\)|\. \w))", flags),
        beside=re.compile(rf"[)\]}}]?(?: ?[,;/&+]| and/or| and| or)(?: and| or)?(?: option| choice)? ?{token}", flags),
    )
