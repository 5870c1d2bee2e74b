"""A trace: the calls of one recorded run, token by token, which every contender of a comparison replays.

A call knows its prompt, its completion and the calls whose replies its prompt or its being asked depends on. The hash
of a trace is over all calls whatever their order: two contenders that did the same work have the same hash. The file is
JSON lines, a header first, so that anyone can replay it. This file knows no engine and no protocol.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.errors import InputError

FORMAT: Final = 1


class Call(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One generation. `prompt_ids` and `completion_ids` are token ids of the header's tokenizer.

    `parents` are the paths of the same episode that must be answered before it can be asked, nearest only. `priority`
    is lower for calls deeper in their episode, as the scheduler sends them.
    """

    episode: str
    path: str
    role: str
    purpose: str
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    parents: tuple[str, ...] = ()
    priority: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """(episode, path): unique in a trace."""
        return (self.episode, self.path)


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What was recorded: model name, tokenizer fingerprint, KV block size in tokens, resolved protocol table."""

    model: str
    tokenizer: str
    block_size: int
    protocol: dict[str, Any]
    num_calls: int
    hash: str
    format: int = FORMAT


class Trace(msgspec.Struct, frozen=True):
    """Calls in the order in which they were asked."""

    header: Header
    calls: tuple[Call, ...]

    @property
    def hash(self) -> str:
        """The hash of all calls, hexadecimal."""
        return self.header.hash

    @property
    def completion_tokens(self) -> int:
        """Tokens sampled in all calls."""
        return sum(len(call.completion_ids) for call in self.calls)

    @property
    def prompt_tokens(self) -> int:
        """Prompt tokens of all calls."""
        return sum(len(call.prompt_ids) for call in self.calls)

    @property
    def episodes(self) -> tuple[str, ...]:
        """Episodes in order of their first call."""
        return tuple(dict.fromkeys(call.episode for call in self.calls))


def make_trace(
    calls: Sequence[Call], *, model: str, tokenizer: str, block_size: int, protocol: dict[str, Any]
) -> Trace:
    """Return the trace of these calls. Raises ValueError when two have the same key."""
    if len({call.key for call in calls}) != len(calls):
        raise ValueError("calls must be unique by (episode, path), got one twice: record each episode once")
    header = Header(
        model=model,
        tokenizer=tokenizer,
        block_size=block_size,
        protocol=protocol,
        num_calls=len(calls),
        hash=hash_calls(calls),
    )
    return Trace(header, tuple(calls))


def digest(episode: str, path: str, prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> bytes:
    """Return the digest of one replayed call: what was asked and what was sampled, for which step."""
    body = msgspec.msgpack.encode((episode, path, tuple(prompt_ids), tuple(completion_ids)))
    return hashlib.blake2b(body, digest_size=16).digest()


def hash_digests(digests: Iterable[bytes]) -> str:
    """Return the hash over digests of calls, whatever their order."""
    return hashlib.blake2b(b"".join(sorted(digests)), digest_size=16).hexdigest()


def hash_calls(calls: Iterable[Call]) -> str:
    """Return the hash over calls, whatever their order."""
    return hash_digests(digest(call.episode, call.path, call.prompt_ids, call.completion_ids) for call in calls)


def select(trace: Trace, episodes: Iterable[str]) -> Trace:
    """Return the part of a trace that belongs to these episodes."""
    wanted = set(episodes)
    calls = tuple(call for call in trace.calls if call.episode in wanted)
    header = msgspec.structs.replace(trace.header, num_calls=len(calls), hash=hash_calls(calls))
    return Trace(header, calls)


# ---------------------------------------------------------------- files


def save_trace(path: Path, trace: Trace) -> None:
    """Write a trace, whole or not at all."""
    encoder = msgspec.json.Encoder()
    lines = b"\n".join(map(encoder.encode, (trace.header, *trace.calls))) + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(f".{path.name}.tmp")
    building.write_bytes(lines)
    building.rename(path)


def load_trace(path: Path) -> Trace:
    """Read a trace. Raises InputError when it is damaged or of another format."""
    lines = path.read_bytes().splitlines()
    try:
        header = msgspec.json.decode(lines[0] if lines else b"", type=Header)
        decoder = msgspec.json.Decoder(Call)
        calls = tuple(map(decoder.decode, lines[1:]))
    except msgspec.DecodeError as error:
        raise InputError(f"{path.name} must be a trace (header and calls as JSON lines): {error}") from error
    found = (header.format, header.num_calls, header.hash)
    if found != (FORMAT, len(calls), hash_calls(calls)):
        raise InputError(f"{path.name} must hold the calls its header names, got others: record it again")
    return Trace(header, calls)


# ---------------------------------------------------------------- orders


def depths(calls: Iterable[Call]) -> dict[tuple[str, str], int]:
    """Return how many calls stand before each in its longest chain of parents; parents come before children."""
    found: dict[tuple[str, str], int] = {}
    for call in calls:
        found[call.key] = max((found[call.episode, parent] + 1 for parent in call.parents), default=0)
    return found


def by_turn(trace: Trace) -> tuple[Call, ...]:
    """Return the calls turn by turn: all first ones, then all second ones."""
    depth = depths(trace.calls)
    return tuple(sorted(trace.calls, key=lambda call: depth[call.key]))


def by_dialogue(trace: Trace) -> tuple[Call, ...]:
    """Return the calls dialogue by dialogue."""
    place = {episode: number for number, episode in enumerate(trace.episodes)}
    return tuple(sorted(trace.calls, key=lambda call: place[call.episode]))


def chain_tokens(calls: Iterable[Call]) -> dict[tuple[str, str], int]:
    """Return the completion tokens along the longest chain that ends with each call, its own included."""
    longest: dict[tuple[str, str], int] = {}
    for call in calls:
        before = max((longest[call.episode, parent] for parent in call.parents), default=0)
        longest[call.key] = before + len(call.completion_ids)
    return longest


def longest_episode(trace: Trace) -> str:
    """Return the episode with the longest chain of completion tokens: nothing can end before it does."""
    longest = chain_tokens(trace.calls)
    return max(longest, key=longest.__getitem__)[0]


# ---------------------------------------------------------------- what an infinite prefix cache would hold


def _block_hashes(ids: Sequence[int], block_size: int) -> Iterable[bytes]:
    chained = b""
    for start in range(0, len(ids) - block_size + 1, block_size):
        body = msgspec.msgpack.encode(tuple(ids[start : start + block_size]))
        chained = hashlib.blake2b(chained + body, digest_size=16).digest()
        yield chained


def _cacheable(call: Call) -> tuple[int, ...]:
    # The last sampled token is never computed, so its keys and values do not exist.
    return (*call.prompt_ids, *call.completion_ids[:-1])


def possible_hits(calls: Iterable[Call], block_size: int) -> int:
    """Return the prompt tokens that a cache of infinite size would serve, the calls made one after the other.

    Only whole blocks count, and the last token of a prompt is always computed. Where dialogues share prefixes the sum
    does not depend on their order, as long as parents stand before children.
    """
    known: set[bytes] = set()
    hits = 0
    for call in calls:
        for block in _block_hashes(call.prompt_ids[:-1], block_size):
            if block not in known:
                break
            hits += block_size
        known.update(_block_hashes(_cacheable(call), block_size))
    return hits


def num_blocks(calls: Iterable[Call], block_size: int) -> int:
    """Return how many KV blocks hold everything the calls compute: the working set of all dialogues at once."""
    return len({block for call in calls for block in _block_hashes(_cacheable(call), block_size)})
