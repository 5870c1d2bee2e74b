"""Secrets in a text: keys of well-known forms, tokens, private keys, addresses with a password; pure.

Every pattern is of fixed length parts or possessive, so that any text is read in time proportional to its length.
"""

import re
from collections.abc import Iterator
from typing import Final

from engine.privacy.finding import Span

PRIVATE_KEY: Final = "private key"
JWT: Final = "jwt"
API_KEY: Final = "api key"
URL: Final = "url with credentials"
MAX_PEM_CHARS: Final = 20_000

_PEM: Final = re.compile(r"-----BEGIN ((?:[A-Z0-9]{1,12}+ ){0,3}PRIVATE KEY(?: BLOCK)?)-----")
# Of a key whose end is missing: its lines, which are base64, also with their line ends spelled out.
_PEM_BODY: Final = re.compile(r"(?:\s|\\[nr]|[A-Za-z0-9+/=]{16,}+)*+")
_JWT: Final = re.compile(
    r"(?<![\w-])eyJ[A-Za-z0-9_-]{8,}+\.eyJ[A-Za-z0-9_-]{8,}+\.(?:[A-Za-z0-9_-]{10,}+|(?![A-Za-z0-9_-]))"
)
_KEYS: Final = re.compile(
    r"(?<![A-Za-z0-9_-])(?:"
    r"sk-(?=[A-Za-z_-]*+[0-9])(?=[0-9_-]*+[A-Za-z])[A-Za-z0-9_-]{20,}+"  # OpenAI, Anthropic and the like
    r"|[rs]k_(?:live|test)_[A-Za-z0-9]{16,}+"  # Stripe
    r"|hf_[A-Za-z0-9]{30,}+"
    r"|gh[pousr]_[A-Za-z0-9]{36,}+|github_pat_[A-Za-z0-9_]{22,}+|glpat-[A-Za-z0-9_-]{20,}+"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}+"
    r"|AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"
    r"|SG\.[A-Za-z0-9_-]{16,}+\.[A-Za-z0-9_-]{16,}+"
    r"|npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])|pypi-AgE[A-Za-z0-9_-]{40,}+"
    r")"
)
_AUTHORITY: Final = re.compile(r"[^\s/?#@\"'<>\\:]{1,100}+:[^\s/?#@\"'<>\\]{1,200}+@[^\s/?#@\"'<>\\]{1,253}+")
_SCHEME: Final = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{0,20}+://")
_QUERY: Final = re.compile(
    r"[?&](?:access_token|api[_-]?key|auth|client_secret|password|passwd|secret|sig|token)=([^\s&#\"'<>\\\[]{8,}+)",
    re.IGNORECASE,
)


def find_secrets(text: str) -> Iterator[Span]:
    """Yield the secrets of a text, kind after kind."""
    if "-----BEGIN " in text:
        yield from _private_keys(text)
    if "eyJ" in text:
        yield from (Span(JWT, *found.span()) for found in _JWT.finditer(text))
    yield from (Span(API_KEY, *found.span()) for found in _KEYS.finditer(text))
    if "://" in text:
        yield from _addresses(text)
    if "=" in text:
        yield from (Span(API_KEY, *found.span(1)) for found in _QUERY.finditer(text))


def _private_keys(text: str) -> Iterator[Span]:
    for found in _PEM.finditer(text):
        last = f"-----END {found[1]}-----"
        end = text.find(last, found.end(), found.end() + MAX_PEM_CHARS)
        body = _PEM_BODY.match(text, found.end())
        yield Span(PRIVATE_KEY, found.start(), end + len(last) if end >= 0 else body.end() if body else found.end())


def _addresses(text: str) -> Iterator[Span]:
    for scheme in _SCHEME.finditer(text):
        if (found := _AUTHORITY.match(text, scheme.end())) is not None:
            yield Span(URL, scheme.start(), found.end())
