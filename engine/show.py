"""What people see of episodes: the list, one episode in full, and excerpts for a document.

Every text of a record is hostile and reaches rich only as cleaned `Text`, never as markup. Functions return
renderables or strings; only `show_command` prints. rich is imported late.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.config import read_table
from engine.errors import InputError
from engine.protocol import ProtocolSpec, Section, find_protocol
from engine.record import EpisodeRecord, StepRecord
from engine.rundir import RunDirectory
from engine.steps import Protocol as Play
from engine.tables import MISSING, make_console, make_table, percent, plain, print_view, spaced, write
from engine.transcript import Turn, clean, one_line, turns

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table

    from engine.corpus import Corpus

MIN_SIDE_BY_SIDE: Final = 90
"""Columns below which a dialogue is stacked: two columns of text need about 40 characters each."""
MAX_LISTED: Final = 500
"""A table must be whole before its columns have widths; longer lists are for machines."""
SHORT_HASH: Final = 10
MAX_FLOATS: Final = 6


def _silent() -> Play[None]:
    """A session that asks nothing."""
    yield from ()


ITSELF: Final = ProtocolSpec(name="", session=_silent, roles=())
"""Stands in where a record's protocol is not at hand: its utterances are the replies without a value schema."""


def show_command(
    directory: Path | None,
    episode: str | None,
    *,
    is_example: bool = False,
    excerpt_turns: int = 0,
    as_json: bool = False,
) -> None:
    """Print what `sandplay show` is asked for.

    Raises InputError when there is no such run or episode.
    """
    if is_example or directory is None:
        from engine.example_episode import example_episode, example_text

        write(to_json(example_episode()[0]) if as_json else example_text(make_console().width, excerpt_turns))
        return
    _show_run(directory, episode, excerpt_turns=excerpt_turns, as_json=as_json)


def _show_run(directory: Path, episode: str | None, *, excerpt_turns: int, as_json: bool) -> None:
    from engine.corpus import Corpus

    rundir = RunDirectory.open(directory)
    corpus, spec = Corpus.open(rundir), protocol_of(rundir)
    if episode is None and not excerpt_turns:
        if as_json:
            for record in corpus.iterate():
                write(to_json(record))
        else:
            print_view(episodes_table(islice(corpus.iterate(), MAX_LISTED), spec))
            if len(corpus) > MAX_LISTED:
                write(
                    f"The first {MAX_LISTED} of {len(corpus):,}; --json gives all, an episode's name the whole of it."
                )
        return
    record = find_episode(corpus, episode, directory)
    if as_json or excerpt_turns:
        write(to_json(record) if as_json else excerpt(record, excerpt_turns, spec.turns))
    else:
        print_view(episode_view(record, spec, make_console().width))


def find_episode(corpus: "Corpus", episode: str | None, directory: Path) -> EpisodeRecord:
    """Return the episode of that name, or the first completed one when none is named. Raises InputError."""
    for journal in corpus.journals:
        # Keys first: a corpus may be large, and only one episode is wanted whole.
        for found in corpus.iterate(columns=(), journal=journal):
            if found.episode == episode or (episode is None and found.status == "completed"):
                return next(corpus.iterate(found.seq - 1, journal=journal))
    sought = "none that is completed" if episode is None else repr(episode)
    raise InputError(f"an episode must be in the corpus, got {sought}: `sandplay show {directory}` lists them")


def protocol_of(rundir: RunDirectory) -> ProtocolSpec:
    """Return the protocol of a run, or a stand-in without tables of its own when its file is gone."""
    try:
        name = str(read_table(rundir.config)["protocol"]["name"])
        return find_protocol(name, rundir.path)
    except (InputError, KeyError):
        return ITSELF


def episodes_table(records: Iterable[EpisodeRecord], spec: ProtocolSpec = ITSELF) -> "Table":
    """Return the list of episodes: one row each."""
    table = make_table(
        ("episode", "status", "turns", "facts", "tokens", "cached", "error"), numbers=("turns", "tokens", "cached")
    )
    for record in records:
        table.add_row(*(plain(cell) for cell in _episode_cells(record, spec)))
    return table


def _episode_cells(record: EpisodeRecord, spec: ProtocolSpec) -> tuple[str, ...]:
    prompt, cached, completion = token_counts(record)
    error = record.error
    return (
        record.episode,
        record.status,
        str(len(turns(record, spec.turns))),
        ", ".join(f"{name} {value:g}" for name, value in facts(record, spec).items()),
        f"{prompt + completion:,}",
        percent(cached, prompt),
        "" if error is None else one_line(f"{error.kind}: {error.message}", 60),
    )


def episode_view(record: EpisodeRecord, spec: ProtocolSpec = ITSELF, width: int = 120) -> "Group":
    """Return one episode in full: head, dialogue, the protocol's sections, all calls."""
    from rich.console import Group

    blocks: list[RenderableType] = [head_table(record, spec), dialogue_view(turns(record, spec.turns), width)]
    sections = spec.sections(record) if spec.sections else []
    blocks += [section_view(section) for section in sections]
    blocks.append(calls_table(record, width))
    return Group(*spaced(blocks))


def head_table(record: EpisodeRecord, spec: ProtocolSpec = ITSELF) -> "Table":
    """Return what the episode is."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for name, value in head_rows(record, spec).items():
        table.add_row(plain(name, "bold"), plain(value))
    return table


def head_rows(record: EpisodeRecord, spec: ProtocolSpec = ITSELF) -> dict[str, str]:
    """Return what the episode is, by name: identity, models, weights, counts, error."""
    prompt, cached, completion = token_counts(record)
    started = datetime.fromtimestamp(record.started_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    lasted = max(record.ended_at - record.started_at, 0.0)
    rows = {
        "episode": f"{record.episode} ({record.status}), protocol {record.protocol}, seed {record.seed}",
        "models": ", ".join(f"{role}: {model}" for role, model in record.models.items()) or MISSING,
        "weights": ", ".join(short(weights) for weights in record.weights) or MISSING,
        "time": f"{started}, {lasted:.1f} s" if record.started_at else MISSING,
        "calls": f"{record.num_calls}, tokens {prompt:,} in ({percent(cached, prompt)} cached), {completion:,} out",
        "facts": ", ".join(f"{name} {value:g}" for name, value in facts(record, spec).items()) or MISSING,
    }
    if record.error is not None:
        where = f" at {record.error.path}" if record.error.path else ""
        rows["error"] = f"{record.error.kind}{where}: {record.error.message}"
    return rows


def dialogue_view(spoken: Sequence[Turn], width: int) -> "RenderableType":
    """Return the dialogue: two roles side by side, or stacked when narrow or more than two speak."""
    roles = list(dict.fromkeys(turn.role for turn in spoken))
    if not roles:
        return plain("No turn was spoken.", "dim")
    if len(roles) > 2 or width < MIN_SIDE_BY_SIDE:
        return _stacked(spoken)
    table = make_table(tuple(roles), title="Dialogue", lines=True)
    for column in table.columns:
        column.ratio = 1
    for row in _paired(spoken, roles):
        table.add_row(*(plain(cell) for cell in row))
    return table


def _paired(spoken: Sequence[Turn], roles: Sequence[str]) -> Iterator[list[str]]:
    """Yield rows with a cell per role; reading row by row, left to right, is the order spoken."""
    row = [""] * len(roles)
    at = 0
    for turn in spoken:
        column = roles.index(turn.role)
        if column < at:
            yield row
            row = [""] * len(roles)
        row[column] = turn.text
        at = column + 1
    yield row


def _stacked(spoken: Sequence[Turn]) -> "Group":
    from rich.console import Group

    return Group(*spaced([Group(plain(turn.role, "bold"), plain(turn.text.strip())) for turn in spoken]))


def section_view(section: Section) -> "RenderableType":
    """Return one of the protocol's tables with its note."""
    from rich.console import Group

    blocks: list[RenderableType] = [plain(section.title, "bold")]
    if section.columns or section.rows:
        width = max((len(row) for row in section.rows), default=0)
        heads = (*section.columns, *[""] * (width - len(section.columns)))
        table = make_table(heads, lines=True)
        for row in section.rows:
            table.add_row(*(plain(cell) for cell in row))
        blocks.append(table)
    if section.note:
        blocks.append(plain(section.note, "dim"))
    return Group(*blocks)


def calls_table(record: EpisodeRecord, width: int = 120) -> "Table":
    """Return all steps with what they cost, in program order; narrow ones lack the columns one can do without."""
    dropped = next(heads for least, heads in _DROPPED if width >= least)
    heads = [head for head in CALL_HEADS if head not in dropped]
    table = make_table(heads, title="Calls", numbers=CALL_NUMBERS)
    # Paths are what a fork is told: they stay whole where the others may fold.
    table.columns[0].no_wrap = True
    for step in record.steps:
        cells = zip(CALL_HEADS, call_cells(step), strict=True)
        table.add_row(*(plain(cell) for head, cell in cells if head not in dropped))
    return table


CALL_HEADS: Final = ("path", "role", "purpose", "prompt", "cached", "out", "replica", "weights", "seconds", "tries")
CALL_NUMBERS: Final = ("prompt", "cached", "out", "seconds", "tries")
_DROPPED: Final[tuple[tuple[int, tuple[str, ...]], ...]] = (
    (115, ()),
    (95, ("replica", "weights")),
    (0, ("replica", "weights", "purpose", "cached")),
)
"""Columns left out below each width."""


def call_cells(step: StepRecord) -> tuple[str, ...]:
    """Return what a step cost, under `CALL_HEADS`."""
    attempts = str(len(step.attempts) + (step.reply is not None or bool(step.floats)))
    failures = ", ".join(dict.fromkeys(attempt.kind for attempt in step.attempts))
    tries = f"{attempts} ({failures})" if failures else attempts
    if step.kind == "similarity":
        few = " ".join(f"{value:.2f}" for value in step.floats) or MISSING
        what = f"similarity {few}" if len(step.floats) <= MAX_FLOATS else f"{len(step.floats)} similarities"
        return (step.path, "", what, *[""] * 6, tries)
    if step.reply is None:
        return (step.path, step.role, step.purpose, *[MISSING] * 6, tries)
    reply, usage = step.reply, step.reply.usage
    return (
        step.path,
        step.role,
        f"{step.purpose} (cut off)" if reply.is_cut_off else step.purpose,
        f"{usage.prompt_tokens:,}",
        f"{usage.cached_tokens:,}",
        f"{usage.completion_tokens:,}",
        reply.replica or MISSING,
        short(reply.weights) or MISSING,
        f"{reply.latency_s:.2f}",
        tries,
    )


def to_json(record: EpisodeRecord) -> str:
    """Return the record as one line of ASCII JSON, case and outcome as objects."""
    built: dict[str, Any] = msgspec.to_builtins(record)
    built["episode"] = record.episode
    for field in ("case", "outcome"):
        built[field] = decoded(built[field])
    return json.dumps(built, ensure_ascii=True).replace("\x7f", "\\u007f")


def excerpt(record: EpisodeRecord, num_turns: int, spec_turns: Collection[str] = (), command: str = "") -> str:
    """Return the first turns as a markdown block, captioned with the models and the command that cut it."""
    spoken = turns(record, spec_turns)[:num_turns]
    roles = dict.fromkeys(turn.role for turn in spoken)
    models = ", ".join(f"{role} {record.models.get(role, 'unknown')}" for role in roles)
    quoted = "\n>\n".join(_quoted(turn) for turn in spoken)
    command = command or f"sandplay show RUN {record.episode} --excerpt {num_turns}"
    caption = f"First {len(spoken)} turns of episode {record.episode}, cut by `{command}`; {models}."
    return f"{quoted}\n\n*{markdown(caption, keep='`')}*\n"


def _quoted(turn: Turn) -> str:
    lines = [markdown(line) for line in clean(turn.text).strip().split("\n")]
    lines[0] = f"**{markdown(turn.role)}:** {lines[0]}"
    return "\n".join(f"> {line}".rstrip() for line in lines)


def markdown(text: str, keep: str = "") -> str:
    """Return hostile text with markdown's and HTML's characters escaped, but those in `keep`."""
    cleaned = clean(text)
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|&!~" and c not in keep else c for c in cleaned)


def facts(record: EpisodeRecord, spec: ProtocolSpec) -> Mapping[str, float]:
    """Return the protocol's figures of a completed episode, else none."""
    outcome = decoded(record.outcome)
    return spec.facts(outcome) if spec.facts and isinstance(outcome, dict) else {}


def decoded(text: str) -> Any:
    """Decode one of a record's JSON texts; None when it has none, the text itself when it is no JSON."""
    try:
        return msgspec.json.decode(text) if text else None
    except msgspec.DecodeError:
        return text


def token_counts(record: EpisodeRecord) -> tuple[int, int, int]:
    """Return (prompt, cached, completion) tokens of all replies."""
    usages = [step.reply.usage for step in record.steps if step.reply is not None]
    return (
        sum(usage.prompt_tokens for usage in usages),
        sum(usage.cached_tokens for usage in usages),
        sum(usage.completion_tokens for usage in usages),
    )


def short(version: str) -> str:
    """Return the beginning of a weight version."""
    return version[:SHORT_HASH]
