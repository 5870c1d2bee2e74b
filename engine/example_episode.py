"""The hand-written example episode, played through the real protocol.

Its words and similarities stand in `example_episode.toml`, keyed by step path; the protocol asks for them as it would
ask models, so the example cannot drift from what a run records. Figures that only a served model has (tokens, times)
stay zero.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.cases.principles import PrincipleGroup
from engine.cases.schema import Case
from engine.dialogue import Answer, Dialogue
from engine.errors import SandplayError
from engine.protocol import ProtocolSpec, Setting, find_protocol
from engine.record import EpisodeKey, EpisodeRecord
from engine.recording import Identity, build_record
from engine.show import episode_view, excerpt
from engine.steps import Generate, Leaf, Reply
from engine.tables import rendered

SCRIPT: Final = Path(__file__).with_name("example_episode.toml")
MODEL: Final = "scripted"
MARK: Final = "SCRIPTED"


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is played: the case and rules, and what is answered at each path."""

    protocol: str
    seed: int
    rules: dict[str, Any]
    case: Case
    principles: dict[str, tuple[str, ...]]
    similarities: dict[str, tuple[float, ...]]
    answers: dict[str, str]


def load_script(path: Path = SCRIPT) -> Script:
    """Read a script."""
    return msgspec.convert(tomllib.loads(path.read_text("utf-8")), Script)


def example_episode(script: Script | None = None) -> tuple[EpisodeRecord, ProtocolSpec]:
    """Return the example and its protocol. Raises SandplayError when the script lacks an answer."""
    script = script or load_script()
    spec = find_protocol(script.protocol, Path())
    rules = msgspec.convert(script.rules, spec.rules)
    groups = tuple(PrincipleGroup(name, texts) for name, texts in script.principles.items())
    play = spec.play(script.case, rules, seed=script.seed, setting=Setting(principles=groups))
    dialogue: Dialogue[Any] = Dialogue(play)
    opened = dialogue.start()
    while opened:
        leaf = opened.pop(0)
        opened += dialogue.deliver(leaf.path, _answer(script, leaf))
    identity = Identity(
        key=EpisodeKey(script.case.id),
        seed=script.seed,
        protocol=spec.name,
        case=msgspec.json.encode(script.case).decode(),
        models=dict.fromkeys(spec.roles, MODEL),
        started_at=0.0,
    )
    return build_record(identity, dialogue, {}), spec


def example_text(width: int = 120, excerpt_turns: int = 0) -> str:
    """Return the example as `show` renders an episode or an excerpt, every line marked as scripted."""
    record, spec = example_episode()
    prefix = f"{MARK} | "
    if excerpt_turns:
        shown = excerpt(record, excerpt_turns, spec.turns, command=f"sandplay show --example --excerpt {excerpt_turns}")
    else:
        shown = rendered(episode_view(record, spec, width - len(prefix)), width - len(prefix))
    return "\n".join(f"{prefix}{line}".rstrip() for line in shown.rstrip("\n").split("\n"))


def _answer(script: Script, leaf: Leaf) -> Answer:
    written: Mapping[str, Any] = script.answers if isinstance(leaf, Generate) else script.similarities
    if leaf.path not in written:
        raise SandplayError(f"the script must answer every step, got none for {leaf.path!r}: add it to {SCRIPT.name}")
    if isinstance(leaf, Generate):
        return Reply(written[leaf.path].strip(), model=MODEL, replica=MODEL)
    return tuple(written[leaf.path])
