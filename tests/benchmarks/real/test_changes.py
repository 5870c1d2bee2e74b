"""What a recording and a replay change in a request, and the API server's command line."""

from typing import Any

import pytest

from benchmarks.real.product import forcing, limiting
from benchmarks.real.server import arguments
from benchmarks.real.workload import SMALL, Workload
from benchmarks.trace import Call
from engine.backend import Request
from engine.steps import Sampling
from engine.views import Message


def make_request(**changes: Any) -> Request:
    fields: dict[str, Any] = {"episode": "e", "path": "1/patient", "attempt": 0, "role": "patient", "purpose": "turn"}
    fields |= {"messages": (Message("user", "Hello."),), "sampling": Sampling(99, 0.7)}
    return Request(**(fields | changes))


def test_a_recording_draws_how_long_a_reply_may_be_and_changes_nothing_else() -> None:
    request = make_request()
    changed = limiting(SMALL)(request)
    assert changed.sampling == Sampling(SMALL.length("e", "1/patient"), 0.7)
    assert changed.messages == request.messages and not changed.forced_ids


def test_a_replay_forces_what_was_recorded_under_the_same_step() -> None:
    call = Call(episode="e", path="1/patient", role="r", purpose="p", prompt_ids=(1,), completion_ids=(7, 8, 9))
    changed = forcing([call])(make_request(attempt=2))
    assert (changed.forced_ids, changed.sampling.max_tokens, changed.attempt) == ((7, 8, 9), 3, 2)
    with pytest.raises(KeyError):
        forcing([call])(make_request(path="2/patient"))


def test_engine_arguments_become_options_of_the_server() -> None:
    options = arguments(
        {"block_size": 32, "enforce_eager": True, "trust_remote_code": False, "load": None, "x": {"a": 1}, "l": ["p:q"]}
    )
    assert options[1:] == ["--block-size", "32", "--enforce-eager", "--x", '{"a": 1}', "--l", "p:q"]
    assert "--no-enable-prefix-caching" in arguments({"enable_prefix_caching": False})


def test_a_trace_is_named_after_what_determines_it() -> None:
    assert SMALL.name == Workload(**{name: getattr(SMALL, name) for name in SMALL.__struct_fields__}).name
    assert len({Workload(seed=seed, num_dialogues=4).name for seed in range(3)}) == 3
    assert Workload(slots=4).name == Workload(slots=8).name
