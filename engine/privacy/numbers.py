"""Numbers that point to a person: cards, accounts, national ids, phones, addresses of machines; pure.

A number counts for its form and, where it has one, its check digits; without either only behind a word such as "call".
Knows the forms of some countries, not of all.
"""

import re
from collections.abc import Callable, Iterator
from ipaddress import AddressValueError, IPv6Address
from typing import Final

from engine.privacy.checksums import is_cpf, is_dni, is_luhn, is_mod_97, is_nhs, is_nir, is_verhoeff
from engine.privacy.finding import Span

CARD: Final = "card"
IBAN: Final = "iban"
NATIONAL_ID: Final = "national id"
PHONE: Final = "phone"
IP: Final = "ip address"

_NOT_DIGIT: Final = re.compile(r"[^0-9]")
_FREE: Final = r"(?<![\w.,:/+-])"
"""Stands before a number that is not the tail of something longer."""
_ENDS: Final = r"(?![\w@]|[.,:/-]\d)"

_CARDS: Final = (
    re.compile(_FREE + r"\d{4}([ -])\d{4}\1\d{4}\1\d{4}\1\d{3}" + _ENDS, re.ASCII),
    re.compile(_FREE + r"\d{4}([ -])\d{4}\1\d{4}\1\d{4}" + _ENDS, re.ASCII),
    re.compile(_FREE + r"\d{4}([ -])\d{6}\1\d{4,5}" + _ENDS, re.ASCII),
    re.compile(_FREE + r"\d{13,19}" + _ENDS, re.ASCII),
)
# By first digits, the numbers that are issued: Visa, Mastercard, Amex, Diners, JCB, Discover, UnionPay, Maestro.
_ISSUED: Final = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]\d{2}|2(?:22[1-9]|2[3-9]\d|[3-6]\d{2}|7[01]\d|720))\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[689]\d)\d{11,16}|35(?:2[89]|[3-8]\d)\d{12,15}|(?:6011|64[4-9]\d|65\d{2})\d{12,15}|62\d{14,17}"
    r"|(?:50|5[6-9]|6\d)\d{11,17}"
)
_IBAN_LENGTHS: Final = {
    **{"AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "CH": 21},
    **{"CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18},
    **{"FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23},
    **{"IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27},
    **{"MD": 24, "ME": 22, "MK": 19, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25},
    **{"QA": 29, "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TN": 24, "TR": 26, "UA": 29},
    **{"VA": 22, "XK": 20},
}
_IBAN: Final = re.compile(r"(?<![A-Za-z0-9])([A-Za-z]{2})[0-9]{2}(?= ?[A-Za-z0-9])")
_IBAN_BODIES: Final = {
    length: re.compile(rf"[A-Za-z0-9]{{4}}(?: ?[A-Za-z0-9]){{{length - 4}}}(?![A-Za-z0-9])")
    for length in set(_IBAN_LENGTHS.values())
}
_MAX_IBANS: Final = 2000
"""Of candidates with a wrong check in one text: beyond them no more are weighed, so that no text takes long."""


def _sure(_: str) -> bool:
    return True


_IDS: Final[tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...]] = (
    # United States: social security.
    (re.compile(_FREE + r"(?!000|666|9)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}" + _ENDS, re.ASCII), _sure),
    (re.compile(r"(?i:\bssn|social security)[^\d\n]{0,25}+(?!000|666|9)\d{3}(?!00)\d{2}(?!0000)\d{4}" + _ENDS), _sure),
    # United Kingdom: national insurance, and the NHS number behind its name.
    (
        re.compile(
            r"(?<!\w)(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D](?!\w)",
            re.ASCII,
        ),
        _sure,
    ),
    (re.compile(r"(?i:\bnhs)[^\d\n]{0,25}+\d{3}([ -]?)\d{3}\1\d{4}" + _ENDS, re.ASCII), is_nhs),
    # Canada, India, Brazil, France, Spain: by their check digits.
    (re.compile(_FREE + r"[1-79]\d{2}([ -])\d{3}\1\d{3}" + _ENDS, re.ASCII), is_luhn),
    (re.compile(_FREE + r"[2-9]\d{3}([ -])\d{4}\1\d{4}" + _ENDS, re.ASCII), is_verhoeff),
    (re.compile(_FREE + r"\d{3}\.\d{3}\.\d{3}-\d{2}" + _ENDS, re.ASCII), is_cpf),
    (re.compile(_FREE + r"[12] ?\d{2} ?[0-9]\d ?\d{2} ?\d{3} ?\d{3} ?\d{2}" + _ENDS, re.ASCII), is_nir),
)
_DNI: Final = re.compile(r"(?<![\w.-])(?:\d{8}|[XYZ]-?\d{7})-?[A-HJ-NP-TV-Z](?![\w-])", re.ASCII)

_ABROAD: Final = re.compile(r"(?<![\w+])\+[1-9](?:[ .\-/()]{0,2}+\d){7,14}+(?!\d)", re.ASCII)
_ABROAD_00: Final = re.compile(_FREE + r"(?<!\d )00[1-9]\d{0,2}[ .\-/(](?:[ .\-/()]{0,2}+\d){6,13}+" + _ENDS, re.ASCII)
_AMERICAN: Final = re.compile(
    _FREE + r"(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}(?=([ .-])\d{3}\1)[ .-])[2-9]\d{2}[ .-]\d{4}" + _ENDS,
    re.ASCII,
)
_NATIONAL: Final = re.compile(
    _FREE + r"(?<!\d )\(?0[1-9]\d{0,4}\)?(?: ?[.\-/] ?| )\d{2,8}+(?:([ .-])\d{2,8}+(?:\1\d{2,8}+){0,3}+)?+" + _ENDS,
    re.ASCII,
)
_BEHIND_CUE: Final = re.compile(
    r"(?i:\b(?:tel|telephone|phone|mobile|cell|cellphone|call|ring|text|whatsapp|fax))\b[^\d\n]{0,25}+"
    r"(\d{10,15}|\d{3}[ .-]\d{4})" + _ENDS,
    re.ASCII,
)
_DATE: Final = re.compile(r"\d{1,2}([.\-/ ])\d{1,2}\1(?:19|20)\d{2}(?!\d)|\d{2}[.:]\d{2}(?:-| - )\d{2}[.:]\d{2}")
_MIN_NATIONAL, _MAX_NATIONAL = 9, 12

_V4: Final = re.compile(r"(?<![\w.-])\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?![\w-]|\.\w)", re.ASCII)
_V6: Final = re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f:]{0,5}:)[0-9A-Fa-f:]{6,39}+(?![\w:]|\.\d)", re.ASCII)
_VERSION: Final = re.compile(r"\b(?:version|release|ver?\.?|build|section|chapter) ?$", re.IGNORECASE)


def find_numbers(text: str) -> Iterator[Span]:
    """Yield the numbers of a text that point to a person, the surest kinds first."""
    if not any(char in text for char in "0123456789"):
        return
    yield from _cards(text)
    yield from _ibans(text)
    yield from _machines(text)
    yield from _national_ids(text)
    yield from _phones(text)


def _cards(text: str) -> Iterator[Span]:
    for pattern in _CARDS:
        for found in pattern.finditer(text):
            digits = _digits(found[0])
            if _ISSUED.fullmatch(digits) and is_luhn(digits):
                yield Span(CARD, *found.span())


def _ibans(text: str) -> Iterator[Span]:
    num_wrong = 0
    for found in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(found[1].upper())
        body = _IBAN_BODIES[length].match(text, found.start()) if length is not None else None
        if body is None:
            continue
        if is_mod_97(body[0].replace(" ", "").upper()):
            yield Span(IBAN, *body.span())
        elif (num_wrong := num_wrong + 1) > _MAX_IBANS:
            return


def _national_ids(text: str) -> Iterator[Span]:
    for pattern, is_right in _IDS:
        for found in pattern.finditer(text):
            if is_right(_digits(found[0])):
                yield Span(NATIONAL_ID, *found.span())
    for found in _DNI.finditer(text):
        if is_dni(found[0].replace("-", "")):
            yield Span(NATIONAL_ID, *found.span())


def _phones(text: str) -> Iterator[Span]:
    for pattern in (_ABROAD, _ABROAD_00, _AMERICAN):
        yield from (Span(PHONE, *found.span()) for found in pattern.finditer(text))
    for found in _NATIONAL.finditer(text):
        is_long_enough = _MIN_NATIONAL <= len(_digits(found[0])) <= _MAX_NATIONAL
        if is_long_enough and _DATE.match(text, found.start()) is None:
            yield Span(PHONE, *found.span())
    yield from (Span(PHONE, *found.span(1)) for found in _BEHIND_CUE.finditer(text))


def _machines(text: str) -> Iterator[Span]:
    for found in _V4.finditer(text):
        if _is_v4(found[0]) and not _VERSION.search(text[max(0, found.start() - 10) : found.start()]):
            yield Span(IP, *found.span())
    if text.count(":") > 1:
        for found in _V6.finditer(text):
            if _is_v6(found[0]):
                yield Span(IP, *found.span())


def _is_v4(address: str) -> bool:
    """Whether it is the address of some machine other than the one it is read on."""
    parts = address.split(".")
    is_whole = all(int(part) < 256 and (part == "0" or part[0] != "0") for part in parts)
    return is_whole and parts[0] != "127" and address != "0.0.0.0"


def _is_v6(address: str) -> bool:
    try:
        found = IPv6Address(address)
    except AddressValueError:
        return False
    return not (found.is_loopback or found.is_unspecified)


def _digits(text: str) -> str:
    return _NOT_DIGIT.sub("", text)
