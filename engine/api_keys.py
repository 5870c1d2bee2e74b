"""API keys: which names may stand for them, reading one from its environment variable, and hiding it in texts.

Invariant: a configuration holds the *name* of a variable, and no message, file or record ever holds its value. Messages
come from everywhere (servers, libraries, a protocol's own code), so the variables that hold keys are known to the whole
process: those that a configuration names, and those that are called like keys.
"""

import base64
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from engine.errors import InputError
from engine.privacy.finding import apart, redact
from engine.privacy.secrets import URL, find_secrets

HIDDEN: Final = "***"
MIN_KEY: Final = 16
"""A shorter value is no key but a word that means "none": hiding it everywhere would only garble texts."""
MIN_PART: Final = 8
"""So many first characters of a key are hidden as well: servers and libraries cut what they quote."""
FIELD: Final = "api_key_env"

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CALLED_SO: Final = re.compile(r"(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD)$", re.IGNORECASE)
_RUN: Final = re.compile(r"(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{16,}")
"""Letters and digits in one run: words of a variable's name are shorter, or parted by underscores."""
_LIKE: Final = re.compile(r"\b(?:sk|key|token)-[\w*-]{6,}|(?<=Bearer )\S+", re.IGNORECASE)
_variables: set[str] = set()


def hide(text: str) -> str:
    """Return a text without any key of this process: whole, cut, percent-encoded or in base64."""
    for key in _keys():
        text = without(text, key)
    return text


def hide_like(text: str) -> str:
    """Return a text without what looks like a key, whosever it is."""
    return _LIKE.sub(HIDDEN, text)


def hide_known(text: str) -> str:
    """Return a text without what has the form of a well-known kind of key, whosever it is: its kind stands there."""
    return redact(text, lambda part: apart(find_secrets(part), part))


def without(text: str, key: str) -> str:
    """Return a text without a key in any of its forms, or the first characters of one."""
    forms = list(_forms(key))
    # Whole ones first: in a key that repeats itself, its first characters are found in its middle as well.
    for form in forms:
        text = text.replace(form, HIDDEN)
    for form in forms:
        text = _without_form(text, form)
    return text


def without_whole(data: bytes, key: str) -> bytes:
    """Return what a server sent without the key as it stands; shorter values than keys have are left."""
    return data.replace(key.encode(), HIDDEN.encode()) if len(key) >= MIN_KEY else data


def shown(value: object) -> str:
    """Return a value for a message about bad input; what looks like a key is described instead."""
    text = value if isinstance(value, str) else repr(value)
    if _RUN.search(text) and len(text.split()) == 1 and not _is_path(text):
        return f"a text of {len(text)} characters that looks like a key"
    return hide(hide_like(repr(value)))


def name_problem(where: str, name: str) -> str | None:
    """Return what is wrong with the name of a variable, without quoting what may be the key itself."""
    if _NAME.fullmatch(name) and not _RUN.search(name):
        return None
    kind = "nothing" if not name else f"a text of {len(name)} characters that is no such name"
    if _RUN.search(name) or _LIKE.search(name):
        kind = f"a text of {len(name)} characters that looks like a key"
    remedy = "export the key, and name the variable here; a key that was written down is best replaced"
    return f"{where} must be the name of an environment variable, got {kind}: {remedy}"


def table_problems(table: Mapping[str, Any]) -> list[str]:
    """Return one sentence per field of a flat configuration that holds a key or what has the form of one, or names a
    variable no key can be in.

    The variables that it names are known as those of keys from now on.
    """
    found: list[str] = []
    for name, value in table.items():
        if name.rpartition(".")[2] == FIELD and isinstance(value, str):
            problem = name_problem(name, value)
            found += [problem] if problem else []
            if problem is None:
                know(value)
    for name, value in table.items():
        text = str(value)
        if name.rpartition(".")[2] == FIELD:
            continue
        if any(key in text for key in _keys()):
            found.append(
                f"{name} must hold no key, got one that an environment variable holds: set {FIELD} to its name"
            )
        elif _holds_known(text):
            found.append(
                f"{name} must hold no key, got what looks like one: export it, and set {FIELD} to its variable's name"
            )
    return found


def _holds_known(text: str) -> bool:
    """Whether a value holds what nothing else can be; a name of words that begins like a key may be a model's."""
    return any(span.kind == URL or _RUN.search(text[span.start : span.end]) for span in find_secrets(text))


def know(variable: str) -> None:
    """Hide the value of this environment variable from now on."""
    _variables.add(variable)


def read_key(variable: str, owner: str, where: str = FIELD) -> str:
    """Return the key of `owner` from a variable that is named at `where`. Raises InputError, which quotes no key."""
    if problem := name_problem(where, variable):
        raise InputError(problem)
    know(variable)
    key = os.environ.get(variable, "").strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        found = "one that no header can carry" if key else "nothing"
        raise InputError(f"{variable} must hold the API key of {owner}, got {found}: export {variable}=...")
    return key


def _keys() -> list[str]:
    """Return the keys that are in the environment now, longest first: one may begin another."""
    named = {value for name, value in os.environ.items() if name in _variables or _CALLED_SO.search(name)}
    # A value with a line break is no key that anything takes, but its lines may be quoted one by one.
    parts = {part for value in named for part in (value.strip(), *value.split())}
    return sorted((part for part in parts if len(part) >= MIN_KEY), key=len, reverse=True)


def _forms(key: str) -> Iterator[str]:
    yield key
    if (percent := quote(key, safe="")) != key:
        yield percent
    data = key.encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            # Where the key begins in what was encoded decides its letters; those at the ends also hold its neighbours.
            letters = encode(b"\0" * shift + data).decode().rstrip("=")
            yield letters[(0, 2, 3)[shift] : len(letters) - 1]


def _without_form(text: str, form: str) -> str:
    head = form[:MIN_PART]
    kept: list[str] = []
    at = 0
    while head and (begin := text.find(head, at)) >= 0:
        same = os.path.commonprefix([text[begin : begin + len(form)], form])
        kept += [text[at:begin], HIDDEN]
        at = begin + len(same)
    return "".join([*kept, text[at:]])


def _is_path(text: str) -> bool:
    return "/" in text
