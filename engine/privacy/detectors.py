"""The structured detector: everything personal or secret that has a form of its own; pure.

It knows no names, places or dates, and nothing that is spelled out in words. Text of any kind and size is read in time
proportional to its length.
"""

import re
from collections.abc import Iterator
from typing import Final

from engine.privacy.finding import Span, apart
from engine.privacy.numbers import CARD, IBAN, IP, NATIONAL_ID, PHONE, find_numbers
from engine.privacy.secrets import API_KEY, JWT, PRIVATE_KEY, URL, find_secrets

EMAIL: Final = "email"
KINDS: Final = (PRIVATE_KEY, JWT, API_KEY, URL, EMAIL, CARD, IBAN, IP, NATIONAL_ID, PHONE)
"""What is looked for; where two overlap, the earlier one counts."""

_EMAIL: Final = re.compile(r"(?<![\w.%+-])[\w%+-][\w.%+-]{0,63}+@(?:[^\W_][\w-]{0,62}+\.){1,8}[^\W\d_]{2,24}+(?![\w-])")


def find_personal(text: str) -> list[Span]:
    """Return what is personal or secret in a text, in order, without overlaps."""
    return apart(_found(text), text)


def _found(text: str) -> Iterator[Span]:
    yield from find_secrets(text)
    if "@" in text:
        yield from (Span(EMAIL, *found.span()) for found in _EMAIL.finditer(text))
    yield from find_numbers(text)
