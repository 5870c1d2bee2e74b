"""Conversion: what is kept and dropped is counted, and rows have the forms that trainers read."""

import pytest

from engine.errors import InputError
from engine.example_episode import example_episode
from training.convert import Converter
from training.formats import row_maker
from training.samples import Sample, Source, answer_samples, samples_of
from training.settings import ANSWERS, PLAN, SampleSettings

RECORD, SPEC = example_episode()
FIELDS = {
    "symptom": "History: sleeps badly.",
    "illness": "Doctor 2's diagnosis of MDD",
    "treatment": "CBT.",
    "explain_t": "It helps.",
    "medicine": "None",
    "explain_m": "",
}


def make_samples(**fields: str) -> list[Sample]:
    return list(answer_samples({**FIELDS, **fields}, ANSWERS, Source(episode="c.0", weights=("w",))))


def test_everything_is_kept_or_dropped_for_a_reason() -> None:
    converter = Converter("messages", SampleSettings())
    other = make_samples(symptom="History: eats badly.")
    rows = list(converter.rows([*make_samples(), *make_samples(treatment="CBT!"), *other]))
    assert [(row["kind"], row["label"]) for row in rows] == [
        ("diagnosis", "major depressive disorder"),
        ("treatment", ""),
        ("treatment", ""),
        ("diagnosis", "major depressive disorder"),
        ("treatment", ""),
    ]
    assert converter.tally.kept == {"diagnosis": 2, "treatment": 3}
    assert converter.tally.dropped == {"empty": 3, "duplicate": 1}
    assert rows[0]["raw_label"] == "Doctor 2's diagnosis of MDD"
    assert rows[1]["messages"][-1] == {"role": "assistant", "content": "CBT. It helps."}


def test_forms() -> None:
    sample = make_samples()[1]
    settings = SampleSettings()
    *prompt, answer = sample.messages
    about = {
        "kind": "treatment",
        "episode": "c.0",
        "case": "",
        "weights": ["w"],
        "score": None,
        "label": "",
        "raw_label": "",
    }
    assert row_maker("messages", settings)(sample) == {"messages": [*prompt, answer], **about}
    assert row_maker("prompt-completion", settings)(sample) == {"prompt": prompt, "completion": [answer], **about}
    text = row_maker("text", settings)(sample)["text"]
    assert text.startswith("### System: ") and text.endswith("\n ### Answer: CBT. It helps.")


def test_a_pair_has_the_form_of_preference_trainers() -> None:
    settings = SampleSettings(kinds=(PLAN,))
    first, _ = Converter("preference", settings).rows(samples_of(RECORD, SPEC, settings))
    assert [message["role"] for message in (*first["chosen"], *first["rejected"])] == ["assistant", "assistant"]
    assert first["chosen"] != first["rejected"] and first["prompt"][-1]["role"] == "user"


@pytest.mark.parametrize(("format", "kinds"), [("preference", ANSWERS), ("messages", (PLAN,)), ("parquet", ANSWERS)])
def test_formats_that_do_not_fit_are_refused(format: str, kinds: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="format"):
        row_maker(format, SampleSettings(kinds=kinds))
