"""Protocols of one's own that do not work: said by name before a run, and no loss after it."""

import logging
from pathlib import Path

import pytest

from engine.errors import ConfigError
from engine.protocol import find_protocol
from engine.summary import findings

OWN = """
from msgspec.structs import replace
from engine.protocol import protocol

@protocol(roles=("patient", "therapist"))
def session(case, rules):
    yield

session = replace(session, missing=lambda outcome: {"a": 1}, facts=lambda outcome: {"turns": outcome["turns"]},
    warnings=lambda outcomes: [f"{sum(1 for _ in outcomes)} seen"])
"""


def test_a_hook_that_fails_costs_its_figures_alone_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    spec = find_protocol("own.py:session", tmp_path)
    with caplog.at_level(logging.WARNING):
        found = findings(spec, iter([{"turns": 4}, {}, {}, {"turns": 2}]))
    assert (found.facts, found.missing, found.warnings) == ({"turns": 3}, {"a": 4}, ["4 seen"])
    said = [record.getMessage() for record in caplog.records]
    assert said == ["own.py: facts() failed, what it says is left out: KeyError: 'turns'"]


def test_outcomes_are_counted_also_where_the_warnings_failed(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN.replace("sum(1 for _ in outcomes)", "next(iter(outcomes))['gone']"))
    found = findings(find_protocol("own.py:session", tmp_path), iter([{"turns": 4}, {"turns": 2}]))
    assert (found.facts, found.missing, found.warnings) == ({"turns": 3}, {"a": 2}, [])


@pytest.mark.parametrize(
    ("text", "why"),
    [("def (", "SyntaxError: invalid syntax"), ("import nowhere_at_all", "ModuleNotFoundError: No module")],
)
def test_a_file_that_cannot_be_run_is_refused_by_name(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "own.py").write_text(text)
    with pytest.raises(ConfigError, match=rf"own\.py cannot be run: {why}"):
        find_protocol("own.py:session", tmp_path)
