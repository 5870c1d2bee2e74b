"""Plain text: a reply without markup, in the form in which it is compared with an option's text; pure, linear time.

Invariant: two texts with the same key differ in case, spacing, markup and surrounding punctuation only, never in a
sign, a digit or a word.
"""

import re
from typing import Final

_FULL_WIDTH: Final = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_CHARACTERS: Final = {
    **_FULL_WIDTH,
    **dict.fromkeys(map(ord, '“”„«»"`*'), None),
    **dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\ufe0f"), None),
    **dict.fromkeys(map(ord, "‘’"), "'"),
    **dict.fromkeys(map(ord, "\u00a0\u2007\u202f\u3000\t"), " "),
    **dict.fromkeys(map(ord, "\r\u2028\u2029\u0085\x0b\x0c"), "\n"),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2212"), "-"),
}
MAX_CHARS: Final = 20_000
"""Characters of a reply that are read; what is beyond does not hold its answer."""
_THOUGHT: Final = ("<think>", "</think>")
_LATEX: Final = re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf)\{([^{}\n]{0,200})\}")
_TAG: Final = re.compile(r"</?(?:answer|final|final_answer|label|output)>", re.IGNORECASE)
_SPACES: Final = re.compile(r" {2,}")
_LINE_MARKS: Final = re.compile(r"^[ >#]*(?:[-•·] )?[ ]*", re.MULTILINE)
_EXPLANATION: Final = re.compile(
    r"\b(?:reasoning|explanation|rationale|justification) ?:|\b(?:because|since)\b"
    r"|\n(?:reasoning|explanation|rationale)\b",
    re.IGNORECASE,
)
_ARTICLE: Final = re.compile(r"(?:the|an|a) (?=\S)")
_SENTENCE_END: Final = re.compile(r"[.!;](?= )")
_LEFT: Final = " \n'([{$_:,;!"
_RIGHT: Final = " \n')]}$_:,;!."


def plain(text: str, *, is_end: bool = False) -> str:
    """Return a reply without markdown, tags, quotes, odd spaces and the thoughts a reasoning model put before it.

    A thought that never ends leaves nothing. Of a very long reply the beginning is kept, or with `is_end` the end.
    """
    begin, end = _THOUGHT
    if end in text:
        text = text.rpartition(end)[2]
    text = text.partition(begin)[0]
    text = text[-MAX_CHARS:] if is_end else text[:MAX_CHARS]
    text = text.translate(_CHARACTERS).replace("__", "")
    for _ in range(2):
        text = _LATEX.sub(r"\1", text)
    text = _SPACES.sub(" ", _TAG.sub(" ", text))
    return _LINE_MARKS.sub("", text).strip()


def key(text: str) -> str:
    """Return a plain text as compared: without case, article, surrounding brackets and closing punctuation."""
    bare = " ".join(text.casefold().split()).lstrip(_LEFT).rstrip(_RIGHT)
    return _ARTICLE.sub("", bare, count=1) if _ARTICLE.match(bare) else bare


def before_explanation(text: str) -> str:
    """Return what stands before "Reasoning:" or the like, "because" and "since"."""
    found = _EXPLANATION.search(text)
    return text[: found.start()].rstrip() if found else text


def sentence(text: str) -> str:
    """Return the first sentence; a decimal point ends none."""
    found = _SENTENCE_END.search(text)
    return text[: found.start()] if found else text


def lines(text: str) -> list[str]:
    """Return the lines that say something."""
    return [line.strip() for line in text.split("\n") if line.strip()]


def last_line(text: str) -> str:
    """Return the last line that says something."""
    said = lines(text)
    return said[-1] if said else ""
