"""The fence: hostile text as data inside a prompt; pure.

    BEGIN TRANSCRIPT 5d41402abc4b2a76
    1 patient | I have not slept.
    1 patient | Not for days.
    END TRANSCRIPT 5d41402abc4b2a76

Invariants: every line inside begins with a label of ours and a bar, whatever breaks lines in the text; the mark is a
hash of the lines and stands nowhere in them, spaced or spelled otherwise; nothing in them looks like a mark, a tag or a
control token of a chat template. So no text ends its fence, and none speaks from outside it. Knows nothing of judges.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import count
from typing import Final

from engine.transcript import clean
from engine.views import neutralize

MARK_BYTES: Final = 8
MAX_LABEL_CHARS: Final = 40
LONG_RUN: Final = 12
"""Letters and digits in a row, a digit among them, that could pass for a mark: broken up."""

BAR: Final = " | "

_PIECE: Final = LONG_RUN - 4
_GAP: Final = re.compile(r"[^\S\n]{4,}")
# Joiners and variation selectors shape other scripts and emoji; next to ASCII they only hide what is spelled.
_JOINERS: Final = "\u034f\u17b4\u17b5\u200c\u200d\u2800\ufe00-\ufe0f\U000e0100-\U000e01ef"
_HIDING: Final = re.compile(rf"[\u115f\u1160\u3164\uffa0]|(?<=[\x00-\x7f])[{_JOINERS}]+")
_LONG: Final = re.compile(rf"(?:\w[{_JOINERS}]*){{{LONG_RUN},}}")
# What opens a tag or a control token, look-alikes of the bracket and the bar included, or spells a character by its
# code: a line break, say. Without its first character apart there is neither.
_OPENING: Final = re.compile(
    rf"[<‹〈⟨❮˂ᐸ](?=[{_JOINERS}]*[/!?|ǀ∣│¦\w])"
    r"|\[(?=/?[A-Z_]{2,40}\d{0,4}\])|\\(?=[nruvxf0-9])|&(?=#?\w{1,10};)|%(?=[0-9a-f]{2})",
    re.IGNORECASE,
)
_NOT_LABEL: Final = re.compile(r"[^\w.-]+|ǀ+")
_NOT_WORD: Final = re.compile(r"[\W_]+")


def fence(title: str, texts: Iterable[tuple[str, str]]) -> str:
    """Return texts as fenced lines. `title` is ours; `texts` holds (label, text) pairs, both of any origin."""
    labelled = [(safe_label(label), text) for label, text in texts]
    body = "\n".join(f"{label}{BAR}{line}" for label, text in labelled for line in safe_lines(text))
    mark = find_mark(f"{title}\n{body}", body)
    return f"BEGIN {title} {mark}\n{body}\nEND {title} {mark}"


def find_mark(seed: str, text: str) -> str:
    """Return the first mark derived from `seed` that does not stand in `text`, in any spelling."""
    folded = fold(text)
    return next(mark for mark in _marks(seed) if mark not in folded)


def _marks(seed: str) -> Iterator[str]:
    """Yield marks: hexadecimal hashes with a digit, so that nothing defused can be one."""
    data = seed.encode("utf-8", "replace")
    for number in count():
        mark = blake2b(data, digest_size=MARK_BYTES, salt=number.to_bytes(4, "big")).hexdigest()
        if any(character.isdigit() for character in mark):
            yield mark


def fold(text: str) -> str:
    """Return the letters and digits of a text, compatible characters made one, without case and gaps."""
    return _NOT_WORD.sub("", unicodedata.normalize("NFKC", text).casefold())


def safe_label(label: str) -> str:
    """Return a label as words without a bar; "?" when nothing is left."""
    return _NOT_LABEL.sub(" ", defuse(unicodedata.normalize("NFKC", label))).strip()[:MAX_LABEL_CHARS].strip() or "?"


def safe_lines(text: str) -> Iterator[str]:
    """Yield the lines of a text, defused; of blank lines in a row only the first. At least one."""
    was_blank = False
    for line in defuse(text).strip().split("\n"):
        is_blank = not line.strip()
        if not (is_blank and was_blank):
            yield line.rstrip()
        was_blank = is_blank


def defuse(text: str) -> str:
    """Return `text` readable but harmless: no control characters, control tokens, tags, or runs that could be marks.

    Lines and words are kept; a line is rewritten with compatible characters only where they spell a token or a tag.
    """
    plain = _HIDING.sub("", clean(text))
    return "\n".join(map(_defused_line, _GAP.sub("   ", plain).split("\n")))


def _defused_line(line: str) -> str:
    line = _LONG.sub(_broken_run, _without_tokens(line))
    if line.isascii():
        return line
    folded = _HIDING.sub("", " ".join(unicodedata.normalize("NFKC", line).split()))
    harmless = _LONG.sub(_broken_run, _without_tokens(folded))
    return line if harmless == folded else harmless


def _without_tokens(line: str) -> str:
    return neutralize(_OPENING.sub(lambda found: f"{found[0]} ", line))


def _broken_run(run: re.Match[str]) -> str:
    """Break up a long run that holds a digit; words stay whole."""
    text = run[0]
    if not any(character.isdigit() for character in text):
        return text
    return " ".join(text[start : start + _PIECE] for start in range(0, len(text), _PIECE))
