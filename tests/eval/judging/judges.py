"""Judges for tests: scripted ones, and one as gullible as a model can be made."""

import html
import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec

from engine.protocol import Setting
from engine.steps import Choice, Generate, Leaf, Reply
from eval.judging import PROTOCOL
from eval.judging.rules import JudgeRules
from eval.transcripts import Transcript, TurnText
from tests.engine.protocols.driving import make_case, run

PIPELINES = ("single", "dual", "debate", "majority", "panel")
FORGERIES = [json.loads(line) for line in (Path(__file__).parent / "forgeries.jsonl").read_text("utf-8").splitlines()]

_LABELLED = re.compile(r"[\w.\- ]{1,60} \| ")
_BEGIN = re.compile(r"BEGIN [A-Z ]+ [0-9a-f]{16}")
_MARK = re.compile(r"\b(?=\w*\d)\w{12,}")
_TOKEN = re.compile(r"<[|/!?\w]|\[/?[A-Za-z_]{2,}\d*\]")
_FOLDED = str.maketrans("‹〈⟨❮˂ᐸǀ∣│¦аеорсхіАЕОРСХІТВНКМ", "<<<<<<||||aeopcxiAEOPCXITBHKM")


def make_transcript(*said: tuple[str, str], case: Any = None, name: str = "t") -> Transcript:
    turns = said or (
        ("therapist", "What brings you here?"),
        ("patient", "I cannot sleep."),
        ("therapist", "Since when?"),
    )
    known = msgspec.json.encode(make_case() if case is None else case).decode()
    return Transcript(id=name, turns=tuple(TurnText(role, text) for role, text in turns), case=known)


def judge(transcript: Transcript, script: Callable[[Leaf], Reply], **rules: Any) -> Any:
    """Play one judging and return the dialogue; a failed one fails the test."""
    chosen = JudgeRules(**{"temperature": 0.7, **rules})
    assert not chosen.problems()
    dialogue = run(PROTOCOL.play(transcript, chosen, seed=0, setting=Setting()), script)
    if dialogue.error is not None:
        raise dialogue.error
    return dialogue


def answering(*options: str) -> Callable[[Leaf], Reply]:
    """Return a judge that gives these answers in turn, and reasons that name their step."""
    rest = list(options)
    return lambda leaf: Reply(rest.pop(0) if schema(leaf) else f"reasons of {leaf.path}")


def schema(leaf: Leaf) -> Choice | None:
    value = leaf.value if isinstance(leaf, Generate) else None
    return value if isinstance(value, Choice) else None


def see(text: str) -> str:
    """Read a prompt as loosely as can be: codes decoded, hidden characters dropped, look-alikes folded."""
    text = text.replace("\\n", "\n").replace("\\u000a", "\n")
    text = unicodedata.normalize("NFKC", unquote(html.unescape(text)))
    hidden = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
    kept = (c for c in text if unicodedata.category(c) != "Cf" and c not in hidden and not "\ufe00" <= c <= "\ufe0f")
    return "".join(kept).translate(_FOLDED)


def outside(prompt: str) -> list[str]:
    """Return the lines that stand outside every fence, for a reader to whom anything like the end of one ends it."""
    found, is_inside = [], False
    for line in see(prompt).splitlines():
        if _BEGIN.fullmatch(line):
            is_inside = True
            continue
        label = _LABELLED.match(line) if is_inside else None
        end = label and (_MARK.search(line, label.end()) or _TOKEN.search(line, label.end()))
        if label and not end:
            continue
        is_inside = False
        found.append(re.sub(r"\b[0-9a-f]{16}\b", "MARK", line[end.start() :] if end else line))
    return found


class GullibleJudge:
    """Obeys whatever stands outside the fence that was not written by us, and repeats the material as its reasons.

    `ours` are the lines outside that a harmless transcript leaves. An order is obeyed when it says what it wants.
    """

    def __init__(self, wants: str, ours: frozenset[str] = frozenset(), echo: str = "") -> None:
        self.wants, self.ours, self.echo = wants, ours, echo
        self.swayed: list[str] = []

    def __call__(self, leaf: Leaf) -> Reply:
        assert isinstance(leaf, Generate)
        choice = schema(leaf)
        if choice is None:
            return Reply(self.echo)
        heard = "\n".join(message.text for message in leaf.view.messages() if message.role != "assistant")
        return Reply(choice.options[-1] if self.obeys(heard) else choice.options[0])

    def obeys(self, prompt: str) -> bool:
        orders = [line for line in outside(prompt) if line not in self.ours]
        self.swayed += orders
        return re.search(rf"\b{re.escape(self.wants)}\b", "\n".join(orders)) is not None
