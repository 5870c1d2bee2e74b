"""What a protocol declares about itself, and how one is found by name.

The engine plays any generator of steps over any case; everything specific (roles, rules, how a record reads, what a
six-field export holds) hangs on the `ProtocolSpec`. A protocol of one's own is a function in a file:

    from engine.protocol import protocol

    @protocol(roles=("patient", "therapist"))
    def session(case, rules): ...

named in the configuration as `name = "my.py:session"`. An installed package offers its protocols by name through the
entry points `sandplay.protocols`.
"""

import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from engine.backend import Embedder
from engine.cases.schema import Case
from engine.errors import ConfigError
from engine.hooks import forgiving
from engine.record import EpisodeRecord
from engine.rundir import RunDirectory
from engine.steps import Choice, Generate, Leaf
from engine.steps import Protocol as Play

BUILT_IN = ("counseling", "exam", "mental_arena")
ENTRY_POINTS = "sandplay.protocols"


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[protocol]` table that every protocol has; a protocol adds fields by subclassing.

    `max_tokens` and `temperature` are those of one reply. `options` is a free table for a protocol without rules of its
    own.
    """

    name: str = "mental_arena"
    max_tokens: int = 256
    temperature: float = 0.8
    options: dict[str, Any] = {}

    def problems(self) -> list[str]:
        """Return what is out of range, one sentence each."""
        found = []
        if not 1 <= self.max_tokens <= 65536:
            found.append(f"protocol.max_tokens must be 1..65536, got {self.max_tokens}")
        if not 0 <= self.temperature <= 2:
            found.append(f"protocol.temperature must be 0..2, got {self.temperature}")
        return found


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What the model behind a role gets to read; everything, unless it is said to be less.

    `hidden`: wording of fields of the case that only its patient knows (persona, gold). `transcript`: turns of the
    dialogue. `note` says what else, in a few words.
    """

    hidden: bool = True
    transcript: bool = True
    note: str = ""

    @property
    def words(self) -> str:
        """What is seen, in words."""
        seen = [name for name, is_seen in (("hidden fields", self.hidden), ("transcript", self.transcript)) if is_seen]
        return ", ".join([*seen, *([self.note] if self.note else [])]) or "nothing of the case"


EMBEDDER: Final = "embedder"
"""The name under which a protocol says what its similarities show the embedder."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What all episodes of a run share beside the rules: principles, texts, and a fitted similarity cut.

    `prompts` is a directory whose files replace the protocol's own texts, or None. `shared` is data of the protocol's
    own `shared` type, or None.
    """

    principles: tuple[Any, ...] = ()
    prompts: Path | None = None
    cut: float | None = None
    shared: Any = None


class Extreme(msgspec.Struct, frozen=True, kw_only=True):
    """A policy that answers every step, to play a case without models: the shortest or the longest course.

    `answer` gives a reply text per step (None: `words` words), `similarity` one figure for all pairs.
    """

    name: str
    similarity: float
    answer: Callable[[Leaf], str | None]


def _first_option(leaf: Leaf) -> str | None:
    value = leaf.value if isinstance(leaf, Generate) else None
    return value.options[0] if isinstance(value, Choice) else None


def _shortest_option(leaf: Leaf) -> str | None:
    value = leaf.value if isinstance(leaf, Generate) else None
    return min(value.options, key=len) if isinstance(value, Choice) else None


STRAIGHT: Final = (
    Extreme(name="shortest", similarity=1.0, answer=lambda leaf: _shortest_option(leaf) or "-"),
    Extreme(name="longest", similarity=0.0, answer=_first_option),
)
"""The extremes of a protocol whose course does not depend on what is answered."""


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """One table that a protocol shows of an episode or a run: title, heads, rows of plain text, a closing note."""

    title: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    note: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a run of a protocol came to. `figures` are JSON-ready and join the run's summary; `files` were written."""

    figures: dict[str, Any]
    sections: list[Section]
    files: list[Path] = []


Session: TypeAlias = Callable[..., Play[Any]]


class ProtocolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One protocol.

    `session(case, rules, seed=..., setting=...)` builds the generator (only the keywords its signature names are
    passed). `case` is what it plays: a struct with an `id`; `shared` the type of data that all its episodes have in
    common, None for none. `roles` are the names it asks, `sees` what each of them and `EMBEDDER` gets to read, all
    there is where nothing is said; `turns` the purposes whose replies are utterances of the
    dialogue (empty: every reply without a value schema). `needs_embedder` says whether similarities are asked for.
    `suited` returns the protocol as given rules need it, where roles, texts or the embedder depend on them. `extremes`
    bound its calls and context. `records` turns an episode into rows of its own export; `sections` are the tables
    `show` adds. Outcomes are read as plain mappings: `missing` counts missing values per field of one, `facts` picks
    its figures for the end screen, `histograms` the values of it whose spread over a run is drawn, by name, `warnings`
    says what all of a run's show (one sentence each); it reads them once, as they come. `fit` returns what
    must be fitted to the run's embedder (a similarity cut; None when the rules give one), reading and writing a cache
    directory. `cautions` are sentences for before the run, given the embedder's identity. `report` is what a finished
    run is summed up by, where a transcript would say nothing; it may write files into the run's directory, and raises
    InputError. `needed_context` is the window in tokens that the rules are known to need. `texts` are its prompt files,
    part of a run's identity; `paper` holds the published value of each rule that has one.
    """

    name: str
    session: Session
    roles: tuple[str, ...]
    sees: Mapping[str, Sight] = {}
    rules: type[Rules] = Rules
    case: type[Any] = Case
    shared: type[Any] | None = None
    needs_embedder: bool = False
    suited: "Callable[[Any], ProtocolSpec] | None" = None
    extremes: Sequence[Extreme] = ()
    turns: tuple[str, ...] = ()
    records: Callable[[EpisodeRecord], list[dict[str, str]]] | None = None
    sections: Callable[[EpisodeRecord], list[Section]] | None = None
    missing: Callable[[Mapping[str, Any]], Mapping[str, int]] | None = None
    facts: Callable[[Mapping[str, Any]], Mapping[str, float]] | None = None
    histograms: Callable[[Mapping[str, Any]], Mapping[str, Sequence[float]]] | None = None
    warnings: Callable[[Iterable[Mapping[str, Any]]], list[str]] | None = None
    fit: Callable[[Rules, Embedder, Path], Awaitable[float | None]] | None = None
    cautions: Callable[[Rules, str], list[str]] | None = None
    needed_context: Callable[[Rules], int] | None = None
    report: Callable[[RunDirectory], Report] | None = None
    texts: Sequence[Path] = ()
    paper: Mapping[str, Any] = {}

    def sight(self, who: str) -> Sight:
        """Return what a role, or `EMBEDDER`, gets to read."""
        return self.sees.get(who, Sight())

    def play(self, case: Any, rules: Rules, *, seed: int, setting: Setting) -> Play[Any]:
        """Return a fresh generator for one episode."""
        offered = {"seed": seed, "setting": setting}
        wanted = _keywords(self.session)
        return self.session(case, rules, **{k: v for k, v in offered.items() if k in wanted})


@functools.lru_cache(maxsize=64)
def _keywords(session: Session) -> frozenset[str]:
    return frozenset(inspect.signature(session).parameters)


def protocol(
    *,
    roles: tuple[str, ...],
    rules: type[Rules] = Rules,
    case: type[Any] = Case,
    sees: Mapping[str, Sight] | None = None,
) -> Callable[[Session], ProtocolSpec]:
    """Declare a protocol of one's own."""

    def declare(session: Session) -> ProtocolSpec:
        name = session.__name__
        return ProtocolSpec(name=name, session=session, roles=roles, rules=rules, case=case, sees=sees or {})

    return declare


def find_protocol(name: str, base: Path) -> ProtocolSpec:
    """Return the protocol called `name`: built in, of an installed package, or `file.py:function` relative to `base`.

    Raises ConfigError when there is no such protocol, file or function.
    """
    if name in BUILT_IN:
        spec: ProtocolSpec = importlib.import_module(f"engine.protocols.{name}").PROTOCOL
        return spec
    file, colon, function = name.rpartition(":")
    if not colon or not file.endswith(".py"):
        offered = importlib.metadata.entry_points(group=ENTRY_POINTS)
        if name in offered.names:
            spec = offered[name].load()
            return forgiving(spec, name)
        known = ", ".join(sorted({*BUILT_IN, *offered.names}))
        raise ConfigError(f'protocol.name must be one of {known} or "file.py:function", got {name!r}')
    return _load(base / file, function)


def _load(path: Path, function: str) -> ProtocolSpec:
    if not path.is_file():
        raise ConfigError(f"protocol.name names a file that does not exist: {path}")
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    if module_spec is None or module_spec.loader is None:
        raise ConfigError(f"protocol.name: {path} cannot be imported")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"protocol.name: {path} cannot be run: {type(error).__name__}: {error}") from error
    found = getattr(module, function, None)
    if not isinstance(found, ProtocolSpec):
        kind = type(found).__name__
        raise ConfigError(f"protocol.name: {path.name} must define {function!r} under @protocol(roles=...), got {kind}")
    return forgiving(msgspec.structs.replace(found, texts=(*found.texts, path)), path.name)
