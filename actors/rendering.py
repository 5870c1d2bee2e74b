"""Messages to prompt token ids.

Prompt = rendered ids up to the last own turn + the ids that were sampled + the template's glue. The chat template is
rendered once per sequence of roles with sentinels for the contents; what stands between them is the glue, and only glue
may hold control tokens. Message text is hostile: it is encoded by a copy of the tokenizer that knows no added tokens,
so it never becomes a control token. Text between two control tokens is encoded in one piece, contents and glue
together, which is what the tokenizer does on benign text.

A template that trims contents, has no system role, or rewrites its history is found out by rendering probes; where own
turns cannot be spliced in as sampled they are tokenized from text and counted. This file knows nothing of engines, and
holds nothing of a dialogue but caches keyed by text.
"""

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from engine.token_ids import unpack_ids
from engine.views import JOINT, Message, MessageRole, neutralize

Roles = tuple[MessageRole, ...]

_CACHED_TEXTS = 4096
_CACHED_GLUE = 1024
_SENTINEL = re.compile("\ue000(\\d+)\ue001")


class Control(msgspec.Struct, frozen=True):
    """One control token of the template. `strips` tells whether it swallows white space after it."""

    token_id: int
    strips: bool = False


Piece = str | int | Control  # glue text, index of a message, or a control token


class Glue(msgspec.Struct, frozen=True):
    """A template rendered for one sequence of roles.

    `faithful` holds the indices of own turns that stand in the history exactly where they were sampled.
    """

    pieces: tuple[Piece, ...]
    faithful: frozenset[int]


class Rendered(msgspec.Struct, frozen=True):
    """A prompt: token ids, and how many own turns were tokenized from text instead of spliced in as sampled."""

    token_ids: list[int]
    num_rendered: int


class PromptRenderer:
    """Renders views with one tokenizer. Not thread-safe: one renderer, one thread at a time.

    `tokenizer` is a fast Hugging Face tokenizer with a chat template. Raises ValueError when it has none, or is slow.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not getattr(tokenizer, "is_fast", False) or not tokenizer.chat_template:
            raise ValueError("the tokenizer must be a fast one with a chat template: use an Instruct model")
        self._tokenizer = tokenizer
        self.fingerprint = fingerprint_tokenizer(tokenizer)
        self._controls = _controls(tokenizer)
        self._control_ids = frozenset(control.token_id for control in self._controls.values())
        self._special_ids = frozenset(tokenizer.all_special_ids)
        longest_first = sorted(self._controls, key=len, reverse=True)
        self._control_text = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._plain = _without_added_tokens(tokenizer)
        self._encode = functools.lru_cache(_CACHED_TEXTS)(self._encode_plain)
        self._glue = functools.lru_cache(_CACHED_GLUE)(self._render_glue)
        self.merges_system = not self._accepts_system()
        self._trims = self._find_trimming()
        self.is_exact = self._composes_like_template()

    @property
    def end_of_turn_ids(self) -> tuple[int, ...]:
        """The control tokens that the template puts right after an assistant turn."""
        pieces = self._glue(("user", "assistant", "user")).pieces
        after = pieces[pieces.index(1) + 1] if 1 in pieces else ""
        return (after.token_id,) if isinstance(after, Control) else ()

    def render(self, messages: Sequence[Message]) -> Rendered:
        """Return the prompt that asks for the turn after `messages`.

        Raises ValueError when the template refuses the sequence of roles.
        """
        turns = self._merge_system(messages) if self.merges_system else tuple(messages)
        if not self.is_exact:
            return self._render_whole(turns)
        glue = self._glue(tuple(turn.role for turn in turns))
        spliced = {i for i in glue.faithful if self._can_splice(turns[i])}
        num_own = sum(turn.role == "assistant" for turn in turns)
        return Rendered(self._compose(glue.pieces, turns, spliced), num_own - len(spliced))

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text, none of them a control token's."""
        return self._encode(text)

    def encode_raw(self, text: str) -> list[int]:
        """Return the ids of a text that is a prompt as it is: its control tokens count, and the tokenizer adds its own.

        Only for texts of a client who may write all of the prompt.
        """
        return list(self._tokenizer.encode(text))

    def spell(self, token_ids: Sequence[int]) -> str:
        """Return the text of any ids, control tokens included."""
        text: str = self._tokenizer.backend_tokenizer.decode(list(token_ids), skip_special_tokens=False)
        return text

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of sampled ids, without control tokens."""
        text: str = self._tokenizer.decode(
            list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    # ------------------------------------------------------------ composing

    def _compose(self, pieces: Iterable[Piece], turns: Sequence[Message], spliced: set[int]) -> list[int]:
        ids: list[int] = []
        text: list[str] = []
        skip: int | None = None  # a control token that the sampled ids already end with
        strips = False
        for piece in pieces:
            if isinstance(piece, str):
                text.append(piece)
            elif isinstance(piece, int) and piece not in spliced:
                text.append(self._content(turns[piece]))
            else:
                self._flush(text, ids, strips)
                strips = False
                if isinstance(piece, int):
                    ids.extend(unpack_ids(turns[piece].token_ids))
                    skip = ids[-1]
                    continue
                if piece.token_id != skip:
                    ids.append(piece.token_id)
                strips = piece.strips
            skip = None
        self._flush(text, ids, strips)
        return ids

    def _can_splice(self, turn: Message) -> bool:
        # A special token sampled inside a turn would open or close turns: such ids are not used again.
        known = bool(turn.token_ids) and turn.tokenizer == self.fingerprint
        return known and self._special_ids.isdisjoint(unpack_ids(turn.token_ids)[:-1])

    def _flush(self, text: list[str], ids: list[int], strips: bool) -> None:
        whole = "".join(text)
        ids.extend(self._encode(whole.lstrip() if strips else whole))
        text.clear()

    def _content(self, turn: Message) -> str:
        return turn.text.strip() if turn.role in self._trims else turn.text

    def _encode_plain(self, text: str) -> tuple[int, ...]:
        if not text:
            return ()
        ids = self._plain.encode(text, add_special_tokens=False).ids
        if self._control_ids.isdisjoint(ids):
            return tuple(ids)
        return self._encode_broken(text)

    def _encode_broken(self, text: str) -> tuple[int, ...]:
        # Models whose vocabulary holds the control tokens as ordinary pieces: break the words up, drop what remains.
        broken = neutralize(self._control_text.sub(lambda m: f"{m[0][0]} {m[0][1:]}", text))
        ids = self._plain.encode(broken, add_special_tokens=False).ids
        return tuple(token_id for token_id in ids if token_id not in self._control_ids)

    def _render_whole(self, turns: Sequence[Message]) -> Rendered:
        def broken(text: str) -> str:
            return self._control_text.sub(lambda m: f"{m[0][0]} {m[0][1:]}", text)

        text = self._apply([{"role": turn.role, "content": broken(turn.text)} for turn in turns])
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        return Rendered(list(ids), sum(turn.role == "assistant" for turn in turns))

    @staticmethod
    def _merge_system(messages: Sequence[Message]) -> tuple[Message, ...]:
        if not messages or messages[0].role != "system":
            return tuple(messages)
        system, rest = messages[0], messages[1:]
        if not rest or rest[0].role != "user":
            return (Message("user", system.text), *rest)
        return (Message("user", JOINT.join(filter(None, (system.text, rest[0].text)))), *rest[1:])

    # ------------------------------------------------------------ the template

    def _apply(self, messages: list[dict[str, str]], asks: bool = True) -> str:
        text: str = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks)
        return text

    def _render_roles(self, roles: Roles) -> str:
        messages = [{"role": role, "content": f"\ue000{i}\ue001"} for i, role in enumerate(roles)]
        return self._apply(messages)

    def _render_glue(self, roles: Roles) -> Glue:
        try:
            text = self._render_roles(roles)
        except Exception as error:  # templates raise whatever their authors chose
            raise ValueError(f"the chat template refuses the roles {'-'.join(roles)}: {error}") from error
        own = [i for i, role in enumerate(roles) if role == "assistant"]
        faithful = frozenset(i for i in own if text.startswith(f"{self._render_roles(roles[:i])}\ue000{i}\ue001"))
        return Glue(tuple(self._cut(text)), faithful)

    def _cut(self, text: str) -> Iterable[Piece]:
        for number, part in enumerate(_SENTINEL.split(text)):
            if number % 2:
                yield int(part)
            else:
                yield from self._cut_glue(part)

    def _cut_glue(self, text: str) -> Iterable[Piece]:
        start = 0
        for match in self._control_text.finditer(text):
            if match.start() > start:
                yield text[start : match.start()]
            yield self._controls[match[0]]
            start = match.end()
        if start < len(text):
            yield text[start:]

    # ------------------------------------------------------------ probes

    def _accepts_system(self) -> bool:
        try:
            text = self._render_roles(("system", "user"))
        except Exception:  # noqa: BLE001  a template raises whatever it likes on roles it refuses
            return False
        return "\ue0000\ue001" in text

    def _find_trimming(self) -> frozenset[MessageRole]:
        roles: Roles = ("user", "assistant", "user") if self.merges_system else ("system", "user", "assistant", "user")
        messages = [{"role": role, "content": f" \ue000{i}\ue001 "} for i, role in enumerate(roles)]
        try:
            text = self._apply(messages)
        except Exception as error:  # templates raise whatever their authors chose
            raise ValueError(f"the chat template refuses a dialogue of several turns: {error}") from error
        return frozenset(role for i, role in enumerate(roles) if f" \ue000{i}\ue001 " not in text)

    def _composes_like_template(self) -> bool:
        roles: Roles = ("user", "assistant", "user") if self.merges_system else ("system", "user", "assistant", "user")
        turns = [Message(role, f"Well, {role} says: it's 3 o'clock.\n\nGood?") for role in roles]
        whole = self._tokenizer.encode(
            self._apply([{"role": turn.role, "content": turn.text} for turn in turns]), add_special_tokens=False
        )
        return self._compose(self._glue(roles).pieces, turns, set()) == list(whole)


def fingerprint_tokenizer(tokenizer: Any) -> str:
    """Return 16 hexadecimal digits that name the mapping of texts to ids; truncation and padding do not count."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["truncation"] = state["padding"] = None
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:16]


def _controls(tokenizer: Any) -> dict[str, Control]:
    added = tokenizer.added_tokens_decoder
    return {token.content: Control(token_id, bool(token.rstrip)) for token_id, token in added.items()}


def _without_added_tokens(tokenizer: Any) -> Any:
    from tokenizers import Tokenizer

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state |= {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    return Tokenizer.from_str(json.dumps(state))


def load_renderer(path: str) -> PromptRenderer:
    """Return the renderer of a model directory. Raises ValueError as `PromptRenderer` does."""
    from transformers import AutoTokenizer

    return PromptRenderer(AutoTokenizer.from_pretrained(path, trust_remote_code=False))
