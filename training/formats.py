"""Samples as rows of a file: the forms that trainers read; pure."""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from engine.errors import InputError
from training.published import plain_text
from training.samples import Sample
from training.settings import FORMATS, PLAN, SampleSettings

Row: TypeAlias = dict[str, Any]


def row_maker(format: str, settings: SampleSettings) -> Callable[[Sample], Row]:
    """Return how a sample becomes a row. Raises InputError where format and kinds do not fit."""
    if format not in _MAKERS:
        raise InputError(f"a sample format must be one of {', '.join(FORMATS)}, got {format!r}")
    others = [kind for kind in settings.kinds if (kind == PLAN) != (format == "preference")]
    if others and format == "preference":
        raise InputError(f"format 'preference' holds pairs of plans, got kind {', '.join(others)}: use --kind {PLAN}")
    if others:
        raise InputError(f"kind {PLAN!r} makes pairs, got format {format!r}: use --format preference")
    return _MAKERS[format]


def _messages(sample: Sample) -> Row:
    return {"messages": list(sample.messages), **_about(sample)}


def _completion(sample: Sample) -> Row:
    return {"prompt": list(sample.prompt), "completion": [sample.messages[-1]], **_about(sample)}


def _text(sample: Sample) -> Row:
    system = next((message["content"] for message in sample.prompt if message["role"] == "system"), "")
    asked = "\n".join(message["content"] for message in sample.prompt if message["role"] != "system")
    return {"text": plain_text(system, asked, sample.completion), **_about(sample)}


def _preference(sample: Sample) -> Row:
    worse = {"role": "assistant", "content": sample.rejected}
    return {"prompt": list(sample.prompt), "chosen": [sample.messages[-1]], "rejected": [worse], **_about(sample)}


def sample_of(row: Row) -> Sample:
    """Return the sample of a row in the format `messages` or `preference`, as far as the row says."""
    rejected = row["rejected"][0]["content"] if "rejected" in row else ""
    messages = tuple(row["messages"] if "messages" in row else (*row["prompt"], *row["chosen"]))
    return Sample(kind=row["kind"], messages=messages, parts=(), rejected=rejected, label=row["label"])


_MAKERS: Final[dict[str, Callable[[Sample], Row]]] = {
    "messages": _messages,
    "prompt-completion": _completion,
    "text": _text,
    "preference": _preference,
}


def _about(sample: Sample) -> Row:
    """Columns beside the text: the same in every row, so that a data set has one schema."""
    source = sample.source
    return {
        "kind": sample.kind,
        "episode": source.episode,
        "case": source.case,
        "weights": list(source.weights),
        "score": sample.score,
        "label": sample.label,
        "raw_label": sample.raw_label,
    }
