"""Data as it is read in: every text of it looked through, and, where that is wanted, replaced; pure.

A finding says where and of which kind, never what: the value is shown by its first characters and its length.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from engine.config_sections import PrivacyConfig
from engine.errors import InputError
from engine.privacy.detectors import find_personal
from engine.privacy.finding import Detector, masked, redact

T = TypeVar("T")
ID: Final = "id"
"""The field that names a record: it is part of names of files and episodes, and cannot be replaced."""
NUMBERS: Final = range(10**12, 10**16)
"""Numbers that are looked at as texts are: those of cards have so many digits, seeds and most ids have more."""
NUM_SHOWN: Final = 3
MAX_REFUSED: Final = 200


class Finding(msgspec.Struct, frozen=True, gc=False):
    """What was found, and where: the record by number and name, the field in it, and the value as it may be shown."""

    kind: str
    number: int
    record: str
    field: str
    shown: str

    @property
    def line(self) -> str:
        """The finding in words."""
        return f"{self.record}, {self.field}: {self.kind} {self.shown}"


class Screened(msgspec.Struct, frozen=True):
    """What came of looking through: `findings` in order, and whether they were replaced."""

    findings: tuple[Finding, ...] = ()
    is_redacted: bool = False

    def __add__(self, other: "Screened") -> "Screened":
        return Screened(self.findings + other.findings, self.is_redacted or other.is_redacted)

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each kind, most frequent first."""
        return dict(Counter(one.kind for one in self.findings).most_common())

    @property
    def sentence(self) -> str:
        """What is to be said of it; "" without findings."""
        if not self.findings:
            return ""
        counts = ", ".join(f"{number:,} {kind}" for kind, number in self.counts.items())
        places = "; ".join(one.line for one in self.findings[:NUM_SHOWN])
        more = "; ..." if len(self.findings) > NUM_SHOWN else ""
        done = (
            "they were replaced"
            if self.is_redacted
            else 'privacy.scan = "redact" replaces them, "block" refuses, "off" does not look'
        )
        return f"what is read in holds personal data or secrets ({counts}): {places}{more}; {done}"


def detector_of(name: str) -> Detector:
    """Return a detector by its name in the configuration. Raises InputError when its package is missing."""
    if name == "presidio":
        from engine.privacy.presidio import open_presidio

        return open_presidio()
    return find_personal


def screen(records: Sequence[T], kind: type[T], settings: PrivacyConfig, what: str) -> tuple[list[T], Screened]:
    """Look through records of one struct type; return them, replaced where `privacy.scan` says so, and what was found.

    `what` is what a record is called. Raises InputError with the places under `scan = "block"`, for a finding in an id
    that would have to be replaced, and for a field that cannot hold what replaces it.
    """
    if settings.scan == "off":
        return list(records), Screened()
    detect = detector_of(settings.detector)
    findings: list[Finding] = []
    plain = [msgspec.to_builtins(record) for record in records]
    for number, record in enumerate(plain, 1):
        findings += look_through(record, _name(record, what, number, detect), detect, number)
    if not findings or settings.scan == "warn":
        return list(records), Screened(tuple(findings))
    if problems := _refused(findings, settings.scan):
        raise InputError(problems)
    changed = {one.number for one in findings}
    kept = [
        _replaced(record, kind, f"{what} {number}", detect) if number in changed else records[number - 1]
        for number, record in enumerate(plain, 1)
    ]
    return kept, Screened(tuple(findings), is_redacted=True)


def _name(record: Any, what: str, number: int, detect: Detector) -> str:
    """Return how a record is called: its number, and its id as far as that may be shown."""
    name = str(record.get(ID, "")) if isinstance(record, Mapping) else ""
    return f"{what} {number} ({redact(name, detect)})" if name else f"{what} {number}"


def _refused(findings: Sequence[Finding], scan: str) -> list[str]:
    """Return what is wrong with findings under a policy that does not only warn."""
    if scan == "block":
        rule = "must hold no personal data or secret (privacy.scan)"
        found = [f"{one.record}, {one.field}: {rule}, got {one.kind} {one.shown}: remove it" for one in findings]
    else:
        rule = "must hold nothing that would have to be replaced (privacy.scan)"
        found = [
            f"{one.record}, {one.field}: {rule}, got {one.kind} {one.shown}: rename it"
            for one in findings
            if one.field == ID
        ]
    more = [f"and {len(found) - MAX_REFUSED} findings more"] if len(found) > MAX_REFUSED else []
    return [*found[:MAX_REFUSED], *more]


def _replaced(record: Any, kind: type[T], name: str, detect: Detector) -> T:
    try:
        return msgspec.convert(replaced(record, detect) | ({ID: record[ID]} if ID in record else {}), kind)
    except InputError as alike:
        raise InputError([f"{name}: {problem}" for problem in alike.problems]) from None
    except msgspec.ValidationError as unfit:
        raise InputError(f"{name}: must hold what replaces a finding, got {unfit}: correct the record") from None


def look_through(value: Any, record: str, detect: Detector, number: int = 0) -> Iterator[Finding]:
    """Yield what is found in the texts of plain data, the record of that name and number."""
    for field, text in texts_of(value):
        for span in detect(text):
            yield Finding(span.kind, number, record, redact(field, detect) or "text", masked(text, span))


def texts_of(value: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """Yield the texts of plain data, names and long numbers among them, each with the dotted name of its field."""
    if isinstance(value, str):
        yield field, value
    elif _is_long(value):
        yield field, str(value)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if not _is_field(key):
                yield from texts_of(key, f"{field}, a name in it".lstrip(", "))
            yield from texts_of(inner, f"{field}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts_of(inner, field)


def replaced(value: Any, detect: Detector) -> Any:
    """Return plain data with every finding in its texts replaced. Raises InputError where two names become one."""
    if isinstance(value, str):
        return redact(value, detect)
    if _is_long(value):
        return value if (text := redact(str(value), detect)) == str(value) else text
    if isinstance(value, Mapping):
        found = {
            key if _is_field(key) else replaced(key, detect): replaced(inner, detect) for key, inner in value.items()
        }
        if len(found) < len(value):
            raise InputError("names must differ once findings in them are replaced, got two that do not: rename them")
        return found
    if isinstance(value, list | tuple):
        return [replaced(inner, detect) for inner in value]
    return value


def _is_field(key: Any) -> bool:
    """Whether a name may be that of a field, which is no text; what has a form of its own is none."""
    return isinstance(key, str) and key.isidentifier()


def _is_long(value: Any) -> bool:
    return isinstance(value, int) and value in NUMBERS
