from hypothesis import given
from hypothesis import strategies as st

from actors import wire
from actors.processes import ProcessRecord
from engine.backend import Completion, Failure, ReplicaGauges, Request
from engine.steps import Choice, Fields, Reply, Sampling, Usage
from engine.views import Message

texts = st.text(max_size=40)
ids = st.lists(st.integers(0, 2**31), max_size=5).map(tuple)
messages = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), texts, ids, texts)
values = st.one_of(
    st.none(),
    st.builds(Choice, st.lists(texts, min_size=1, max_size=3).map(tuple)),
    st.builds(Fields, st.lists(texts, max_size=3).map(tuple), st.integers(1, 1000)),
)
requests = st.builds(
    Request,
    episode=texts,
    path=texts,
    attempt=st.integers(0, 9),
    role=texts,
    purpose=texts,
    messages=st.lists(messages, max_size=4).map(tuple),
    sampling=st.builds(Sampling, st.integers(1, 99), st.floats(0, 2), st.floats(0.1, 1)),
    value=values,
    priority=st.integers(-99, 99),
)


@given(st.lists(requests, max_size=4))
def test_requests_survive_the_wire(batch: list[Request]) -> None:
    assert wire.decode_requests(wire.encode(batch)) == batch


def test_completions_and_gauges_survive_the_wire() -> None:
    reply = Reply("hi", "length", (1, 2), "fp", {"a": 0.25, "b": 0.75}, Usage(9, 2, 8), weights="w", num_rendered=1)
    collected = wire.Collected(
        [
            Completion("e", "p", 0, reply=reply),
            Completion("e", "q", 1, failure=Failure("context_overflow", "too long")),
        ],
        ReplicaGauges("base/0", running=3, kv_tokens=100, weights="w"),
        17,
        "gone",
    )
    assert wire.decode_collected(wire.encode(collected)) == collected


def test_keys_status_and_info_survive_the_wire() -> None:
    keys = [("e", "p", 0), ("e", "q", 2)]
    record = ProcessRecord(1, 2.5, "python", "base/0", "host")
    status = wire.ReplicaStatus("loading weights", [record])
    info = wire.ReplicaInfo("base/0", [record], 1000, 2048, 64, "w", "t")
    assert wire.decode_keys(wire.encode(keys)) == keys
    assert wire.decode_status(wire.encode(status)) == status
    assert wire.decode_info(wire.encode(info)) == info
