"""Presidio as a detector: tried on the package itself where it is installed, else refused with what brings it."""

import importlib.util
from pathlib import Path

import pytest

from engine.config_sections import PrivacyConfig
from engine.errors import InputError
from engine.privacy.finding import redact
from engine.privacy.presidio import open_presidio
from engine.privacy.screening import screen
from tests.engine.protocols.driving import make_case

IS_THERE = all(importlib.util.find_spec(name) is not None for name in ("presidio_analyzer", "spacy"))


@pytest.mark.skipif(IS_THERE, reason="presidio is installed")
def test_a_missing_package_is_named_with_what_brings_it() -> None:
    case = make_case()
    with pytest.raises(InputError, match=r"got no \w+: pip install -e '\.\[privacy\]'"):
        screen([case], type(case), PrivacyConfig(detector="presidio"), "case")


@pytest.mark.skipif(not IS_THERE, reason="needs presidio-analyzer")
def test_names_and_places_are_found_beside_what_has_a_form(tmp_path: Path) -> None:
    import spacy

    # Rules instead of a trained model: what is tried is how Presidio is asked and read.
    pipeline = spacy.blank("en")
    patterns = (("PERSON", "Nora Whitfield"), ("GPE", "Leeds"), ("NORP", "Quaker"))
    pipeline.add_pipe("entity_ruler").add_patterns([{"label": one, "pattern": text} for one, text in patterns])
    pipeline.to_disk(tmp_path / "model")
    detect = open_presidio(str(tmp_path / "model"))
    text = "Nora Whitfield of Leeds, a Quaker, writes from nora@example.org or +44 20 7946 0958."
    once = redact(text, detect)
    assert once == "[name] of [place], a [group], writes from [email] or [phone]."
    assert not detect(once) and redact(once, detect) == once


@pytest.mark.skipif(not IS_THERE, reason="needs presidio-analyzer")
def test_a_missing_model_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.privacy.presidio.MODELS", ("no_such_model",))
    open_presidio.cache_clear()
    with pytest.raises(InputError, match="python -m spacy download no_such_model"):
        open_presidio()
