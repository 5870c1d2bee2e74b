"""From a configuration to a plan: everything a run needs, resolved and checked before anything is touched.

A plan is data; it starts nothing. Problems of the configuration, the cases and the principles are reported together.
`freeze` turns a plan into the files of a run directory, `thaw` reads it back and refuses inputs that changed.
"""

import difflib
import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import tomli_w

from engine import config as configuration
from engine.cases.datasets import Dataset, is_dataset
from engine.cases.loaders import load_cases
from engine.cases.principles import PrincipleGroup, load_principles
from engine.cases.schema import Case
from engine.cases.typed import GIVEN, load_typed
from engine.config import Config
from engine.config_decode import decode
from engine.config_sections import PrivacyConfig, VllmConfig
from engine.errors import ConfigError, InputError, ProtocolDrift
from engine.privacy.screening import Screened, screen
from engine.protocol import ProtocolSpec, Rules, Setting, find_protocol
from engine.record import EpisodeKey
from engine.recording import Identity
from engine.roster import Roster
from engine.rundir import RunDirectory
from engine.steps import Protocol as Play

T = TypeVar("T")
R = TypeVar("R", bound=Rules)
PATH_KEYS = (("cases", "source"), ("principles", "source"), ("", "prompts"))
FITTED = "inputs/fitted.json"
SHARED = "inputs/shared.json"
TEXTS = "inputs/texts.json"
OURS = ("bundled", "sampled")
WORDS = ("", *OURS, GIVEN)


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """What was fitted for this run: the similarity cut, and the embedder it holds for."""

    cut: float | None = None
    embedder: str = ""


class Given(msgspec.Struct, frozen=True):
    """Cases that a command made itself, with `cases.source = "given"`, and what its protocol's episodes share."""

    cases: list[Any]
    shared: Any = None


class Plan(msgspec.Struct, kw_only=True):
    """One run, resolved. `table` is the whole configuration with every default; `cases` are in playing order.

    `cases` and `shared` are of the protocol's own types. `commits` are those of the data sets that cases and principles
    were read from, by setting. `expected_context` is how long a role's context may be expected to become, in tokens,
    None while nobody forecast it. `personal` is what of all this looked like personal data or a secret when it was
    read in.
    """

    config: Config
    spec: ProtocolSpec
    rules: Rules
    table: dict[str, Any]
    cases: list[Any]
    principles: list[PrincipleGroup]
    commits: dict[str, str] = {}
    shared: Any = None
    fitted: Fitted = Fitted()
    expected_context: int | None = None
    personal: Screened = Screened()

    @property
    def num_episodes(self) -> int:
        """Episodes of the first try: cases times repeats."""
        return len(self.cases) * self.config.cases.repeats

    @property
    def setting(self) -> Setting:
        """What all episodes share."""
        prompts = Path(self.config.prompts) if self.config.prompts else None
        return Setting(principles=tuple(self.principles), prompts=prompts, cut=self.fitted.cut, shared=self.shared)

    def roster(self, extra: Iterable[EpisodeKey] = ()) -> Roster:
        """Return the episodes of the first try, and `extra` tries behind them."""
        return Roster([case.id for case in self.cases], self.config.cases.repeats, extra)

    def texts(self) -> dict[str, str]:
        """Return the protocol's text files and own code as used, by name."""
        override = {path.name: path for path in _files(self.setting.prompts)}
        return {path.name: override.get(path.name, path).read_text("utf-8") for path in self.spec.texts}


class RunCast:
    """Turns an episode key into an identity and a generator, for one plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._cases = {case.id: case for case in plan.cases}
        self._setting = plan.setting
        # One text for all repeats of a case, however many of them are live.
        self._case_json = functools.lru_cache(maxsize=4096)(self._encode_case)
        self._models = {role: plan.table["models"][name]["model"] for role, name in plan.config.roles.items()}

    def _encode_case(self, case: str) -> str:
        return msgspec.json.encode(self._cases[case]).decode()

    def identity(self, key: EpisodeKey, started_at: float) -> Identity:
        """Return what the record says of the episode."""
        return Identity(
            key=key,
            seed=seed_of(self._plan.config.seed, key),
            protocol=self._plan.spec.name,
            case=self._case_json(key.case),
            models=self._models,
            started_at=started_at,
        )

    def play(self, key: EpisodeKey) -> Play[Any]:
        """Return a fresh generator."""
        seed = seed_of(self._plan.config.seed, key)
        return self._plan.spec.play(self._cases[key.case], self._plan.rules, seed=seed, setting=self._setting)


def seed_of(run_seed: int, key: EpisodeKey) -> int:
    """Return the episode's own seed: 63 bits that depend on the run's seed and the key alone."""
    digest = hashlib.blake2b(f"{run_seed} {key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def make_plan(
    table: Mapping[str, Any],
    base: Path,
    kept: Path | None = None,
    given: Given | None = None,
    datasets: Mapping[str, Dataset] | None = None,
) -> Plan:
    """Resolve a configuration table; relative paths hold from `base`. Raises InputError with every problem found.

    `kept` is a run's inputs directory: its copies of cases and principles stand in for sources that are gone, or that
    were `given`. `datasets` says where those of the hub lie, by section; nothing is fetched here.
    """
    found_here = datasets or {}
    problems: list[str] = []
    table = absolute_paths(table, base)
    config = _collect(problems, lambda: configuration.load(table))
    name = str(dict(table.get("protocol", {})).get("name", "mental_arena"))
    spec = _collect(problems, lambda: find_protocol(name, base))
    rules = None
    if (found := spec) is not None:
        rules = _collect(problems, lambda: read_rules(found.rules, table.get("protocol", {})))
        spec = found.suited(rules) if found.suited is not None and rules is not None else found
    read = None
    if config is not None:
        chosen = config
        read = _read(chosen, spec, kept, given, found_here, problems)
        if spec is not None:
            problems += configuration.role_problems(chosen, spec.roles, spec.name)
    if problems or config is None or spec is None or rules is None or read is None:
        raise ConfigError(problems)
    return Plan(
        config=config,
        spec=spec,
        rules=rules,
        table=configuration.to_table(config, rules),
        cases=read.cases,
        principles=read.principles,
        shared=read.shared,
        commits={f"{section}.source": dataset.commit for section, dataset in found_here.items()},
        personal=read.personal,
    )


class _Read:
    """What a plan reads from outside, looked through for what is personal."""

    def __init__(self, settings: PrivacyConfig) -> None:
        self.cases: list[Any] = []
        self.principles: list[PrincipleGroup] = []
        self.shared: Any = None
        self.personal = Screened()
        self._settings = settings

    def screened(self, records: Sequence[T], kind: type[T], what: str) -> list[T]:
        """Return records as they may be used. Raises InputError."""
        found, personal = screen(records, kind, self._settings, what)
        self.personal += personal
        return found


def _read(
    config: Config,
    spec: ProtocolSpec | None,
    kept: Path | None,
    given: Given | None,
    datasets: Mapping[str, Dataset],
    problems: list[str],
) -> _Read:
    """Read cases, principles and what episodes share; problems are added to the list."""
    read, kind = _Read(config.privacy), spec.case if spec is not None else Case
    cases = _collect(problems, lambda: _cases(config, kind, kept, given, datasets))
    source = config.principles.source
    groups = _collect(problems, lambda: load_principles(_source(source, kept, "principles.json", datasets)))
    read.cases, read.principles = cases or [], groups or []
    read.shared = given.shared if given is not None else _kept_shared(spec, kept)
    # What ships or is made from a seed is of invented people.
    if config.cases.source not in OURS:
        read.cases = _collect(problems, lambda: read.screened(read.cases, kind, "case")) or []
    if config.principles.source not in OURS:
        read.principles = (
            _collect(problems, lambda: read.screened(read.principles, PrincipleGroup, "principles of group")) or []
        )
    if read.shared is not None:
        examples = [read.shared]
        read.shared, *_ = _collect(problems, lambda: read.screened(examples, type(examples[0]), "examples")) or [None]
    return read


def _cases(
    config: Config, kind: type[Any], kept: Path | None, given: Given | None, datasets: Mapping[str, Dataset]
) -> list[Any]:
    """Return the cases of a protocol that plays `kind`. Raises InputError."""
    chosen, limit = config.cases, config.cases.limit or None
    if given is not None:
        return given.cases[:limit]
    source = _source(chosen.source, kept, "cases.jsonl", datasets)
    if source == GIVEN:
        raise ConfigError('cases.source "given" must come with cases, which commands such as exam make: name a file')
    if kind is Case:
        is_own = kept is not None and source == str(kept / "cases.jsonl")  # written with the fields' own names
        return load_cases(source, seed=config.seed, limit=limit, columns={} if is_own else chosen.columns)
    if chosen.columns:
        raise ConfigError(f"cases.columns must be left out for a protocol with cases of its own, got {chosen.columns}")
    return load_typed(source, kind, limit=limit)


def _kept_shared(spec: ProtocolSpec | None, kept: Path | None) -> Any:
    path = kept / Path(SHARED).name if kept is not None else None
    if spec is None or spec.shared is None or path is None or not path.is_file():
        return None
    return msgspec.json.decode(path.read_bytes(), type=spec.shared)


def read_rules(kind: type[R], table: object) -> R:
    """Decode the `[protocol]` table with a protocol's own rules type. Raises ConfigError."""
    rules, problems = decode(kind, table, "protocol.")
    problems = problems + (rules.problems() if rules is not None else [])
    if problems or rules is None:
        raise ConfigError(problems)
    return rules


def thaw_rules(rundir: RunDirectory, kind: type[R]) -> R:
    """Return the rules of an existing run. Raises ConfigError when they are not of that kind."""
    return read_rules(kind, configuration.read_table(rundir.config).get("protocol", {}))


def _source(source: str, kept: Path | None, name: str, datasets: Mapping[str, Dataset]) -> str:
    """Return the source, or the run's own copy of it when the file is gone or is one of the hub. Raises ConfigError."""
    if is_dataset(source) and kept is None:
        section = Path(name).stem
        if section not in datasets:
            raise ConfigError(f"{section}.source must be a file or a word here, got {source}: name its file")
        return str(datasets[section].path)
    is_gone = source == GIVEN or is_dataset(source) or (source not in WORDS and not Path(source).exists())
    return str(kept / name) if is_gone and kept is not None else source


def _collect(problems: list[str], attempt: Callable[[], T]) -> T | None:
    try:
        return attempt()
    except InputError as refused:
        problems += refused.problems
        return None


def absolute_paths(table: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Return a copy in which paths of files are absolute, so that `resume` works from anywhere."""
    copy: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(table))
    for section, key in PATH_KEYS:
        inner = copy.get(section) if section else copy
        if isinstance(inner, dict) and isinstance(inner.get(key), str) and _is_path(inner[key]):
            inner[key] = str((base / inner[key]).absolute())
    protocol = copy.get("protocol")
    if isinstance(protocol, dict) and ":" in str(protocol.get("name", "")):
        protocol["name"] = str((base / str(protocol["name"])).absolute())
    for model in copy["models"].values() if isinstance(copy.get("models"), dict) else ():
        if isinstance(model, dict) and isinstance(model.get("model"), str) and model.get("kind") != "openai":
            model["model"] = located(model["model"], base)
    return copy


def located(model: str, base: Path) -> str:
    """Return a model's name with a path made absolute, any other name as it is.

    What begins like a path holds from `base`. A directory of that name here is meant before a model of the hub: said in
    full, it stays the same one wherever the run goes on.
    """
    if model.startswith((".", "/", "~")):
        return str((base / os.path.expanduser(model)).absolute())
    return str(Path(model).absolute()) if model != VllmConfig().model and os.path.isdir(model) else model


def _is_path(source: str) -> bool:
    return source not in WORDS and not is_dataset(source)


def freeze(plan: Plan) -> dict[str, bytes]:
    """Return the identity of a run as files of its directory: configuration and inputs as used."""
    lines = b"".join(msgspec.json.encode(case) + b"\n" for case in plan.cases)
    principles = {group.id: group.principles for group in plan.principles}
    shared = {SHARED: msgspec.json.encode(plan.shared)} if plan.shared is not None else {}
    return {
        "config.toml": tomli_w.dumps(plan.table).encode(),
        "inputs/cases.jsonl": lines,
        "inputs/principles.json": msgspec.json.format(msgspec.json.encode(principles)),
        TEXTS: msgspec.json.format(msgspec.json.encode(plan.texts())),
        **shared,
    }


def thaw(rundir: RunDirectory, overrides: list[str]) -> Plan:
    """Return the plan of an existing run, with operational overrides applied.

    Raises InputError when an identity field or an input file changed (with a diff), ConfigError as `make_plan` does.
    """
    stored = configuration.read_table(rundir.config)
    return take_up(make_plan(configuration.apply_overrides(stored, overrides), rundir.path, rundir.inputs), rundir)


def take_up(plan: Plan, rundir: RunDirectory) -> Plan:
    """Return a plan as that of an existing run, with what was fitted for it.

    Raises InputError when an identity field differs from the run's, ProtocolDrift when an input file does, with a diff.
    """
    configuration.refuse_drift(_stored_table(rundir, plan), plan.table)
    for name, data in freeze(plan).items():
        kept = rundir.path / name
        if name != "config.toml" and kept.read_bytes() != data:
            raise ProtocolDrift(_diff(name, kept.read_bytes(), data))
    return _with_fitted(plan, rundir)


def _stored_table(rundir: RunDirectory, plan: Plan) -> dict[str, Any]:
    """Return a run's configuration; a setting that came after it was written has the default that it was played by."""
    stored = configuration.read_table(rundir.config)
    rules = read_rules(plan.spec.rules, stored.get("protocol", {}))
    return configuration.to_table(configuration.load(stored), rules)


def thaw_table(rundir: RunDirectory, table: Mapping[str, Any]) -> Plan:
    """Return the plan of an existing run from its resolved table, which was compared with the stored one elsewhere."""
    return _with_fitted(make_plan(table, rundir.path, rundir.inputs), rundir)


def _with_fitted(plan: Plan, rundir: RunDirectory) -> Plan:
    fitted = rundir.path / FITTED
    if fitted.exists():
        plan.fitted = msgspec.json.decode(fitted.read_bytes(), type=Fitted)
    return plan


def _diff(name: str, old: bytes, new: bytes) -> str:
    read = _text_lines if name == TEXTS else _lines
    lines = difflib.unified_diff(read(old), read(new), "as used", "now", n=0, lineterm="")
    shown = "\n".join(line[:200] for line, _ in zip(lines, range(12), strict=False))
    return f"{name} changed since the run began; restore it or start a new run:\n{shown}"


def _lines(data: bytes) -> list[str]:
    return data.decode("utf-8", "replace").splitlines()


def _text_lines(data: bytes) -> list[str]:
    """Return the lines of every file in an object of texts, each behind the name of its file."""
    texts = msgspec.json.decode(data, type=dict[str, str])
    return [f"{file}: {line}" for file, text in texts.items() for line in text.splitlines()]


def _files(directory: Path | None) -> list[Path]:
    return sorted(directory.glob("*.txt")) if directory is not None and directory.is_dir() else []
