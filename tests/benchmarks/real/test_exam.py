"""The exam that the row `real_exam` puts: composed items, shared examples, the published sets where they are."""

import asyncio
import statistics
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.rendering import PromptRenderer
from benchmarks.real import REAL_EPISODES, REAL_EXAM, _workload_of
from benchmarks.real.composing import Composer
from benchmarks.real.exam import DATA, NUM_OPTIONS, SETS, SMALL_EXAM, ExamWorkload, chosen_exam
from benchmarks.real.product import Player, limiting
from benchmarks.real.workload import EPISODES, Workload
from benchmarks.trace import Call, hash_calls, possible_hits
from engine.dialogue import Dialogue
from engine.errors import InputError
from engine.planning import Plan, RunCast
from engine.steps import Generate
from eval.items import Item
from eval.tasks import find_task
from tests.benchmarks.real.test_changes import make_request
from tests.eval.published import FOLDER


def play(workload: Workload, renderer: PromptRenderer, tokenizer: Any) -> list[Call]:
    player = Player(workload, renderer)
    return asyncio.run(player.record(Composer(workload.answers(), renderer, tokenizer)))


def prompts(plan: Plan, cases: list[Item], renderer: PromptRenderer) -> list[list[int]]:
    """Render what these items are asked, without playing them."""
    cast, wanted = RunCast(plan), {case.id for case in cases}
    found = []
    for key in plan.roster():
        if key.case in wanted:
            [leaf] = Dialogue(cast.play(key)).start()
            assert isinstance(leaf, Generate)
            found.append(list(renderer.render(leaf.view.messages()).token_ids))
    return found


def test_composed_items_are_whole_and_no_example_is_an_item() -> None:
    plan = ExamWorkload(num_dialogues=40).plan()
    [pool] = plan.shared.pools.values()
    items: list[Item] = plan.cases
    assert len({item.id for item in items}) == 40 and len(pool.items) == 5
    assert not {item.question for item in items} & {item.question for item in pool.items}
    for item in (*items, *pool.items):
        assert len({option.text for option in item.options}) == NUM_OPTIONS
        assert dict(zip(item.labels, item.options, strict=True))[item.gold].text == item.gold_text
        assert item.gold_text not in item.question
    assert {item.gold for item in items} == set("ABCD"), "the right answer's place must not give it away"


def test_a_composed_question_is_about_as_long_as_one_of_medqa(tokenizer: Any) -> None:
    items: list[Item] = ExamWorkload(num_dialogues=40).plan().cases
    lengths = [len(tokenizer.encode(find_task(item.task).show(item))) for item in items]
    assert 170 < statistics.mean(lengths) < 260


def test_items_are_one_call_each_and_share_their_beginning(tokenizer: Any, renderer: PromptRenderer) -> None:
    calls = play(SMALL_EXAM, renderer, tokenizer)
    assert len(calls) == len({call.episode for call in calls}) == SMALL_EXAM.num_dialogues
    assert not any(call.parents for call in calls)
    plan = SMALL_EXAM.plan()
    [pool] = plan.shared.pools.values()
    shown = renderer.decode(calls[0].prompt_ids)
    assert all(example.question in shown for example in pool.items)
    size = SMALL_EXAM.block_size
    shortest = sum(len(tokenizer.encode(example.question)) for example in pool.items) // size * size
    assert possible_hits(calls, size) >= shortest * (len(calls) - 1)


class Forgetting(Composer):
    """A composer that says it has emptied its prefix cache, as engines do before a repeat."""

    async def forget_prefixes(self) -> bool:
        return True


async def test_a_replayed_exam_is_the_recorded_one(tokenizer: Any, renderer: PromptRenderer) -> None:
    backend = Forgetting(SMALL_EXAM.answers(), renderer, tokenizer)
    player = Player(SMALL_EXAM, renderer)
    calls = await player.record(backend)
    outcome = await player.measure(backend, calls, max_live=4)
    assert outcome.trace == hash_calls(calls)
    assert outcome.prompt_tokens == sum(len(call.prompt_ids) for call in calls)


def test_the_default_exam_fits_the_window(renderer: PromptRenderer) -> None:
    workload = ExamWorkload()
    plan = workload.plan()
    assert len(plan.cases) == workload.num_dialogues == len(workload.keys(plan)) == 256
    longest = sorted(plan.cases, key=lambda item: len(item.question))[-3:]
    assert max(map(len, prompts(plan, longest, renderer))) + workload.tokens[1] <= workload.max_model_len


@pytest.mark.parametrize("workload", [Workload(num_dialogues=2), EPISODES, SMALL_EXAM])
def test_the_bare_engine_is_asked_as_the_product_is(workload: Workload) -> None:
    assert workload.temperature == workload.plan().rules.temperature


def test_a_reply_may_be_as_long_as_the_rules_say_and_no_longer() -> None:
    rules = SMALL_EXAM.plan().rules
    changed = limiting(SMALL_EXAM)(make_request(episode="composed/1", path="vote/0"))
    assert changed.sampling.max_tokens == rules.max_tokens == 4
    assert ExamWorkload().plan().rules.max_tokens == 16


def test_an_exams_trace_is_named_after_its_items() -> None:
    changed: tuple[dict[str, Any], ...] = ({"num_shots": 3}, {"seed": 1}, {"num_dialogues": 7}, {"tokens": (2, 2)}, {})
    names = {msgspec.structs.replace(SMALL_EXAM, **change).name for change in changed}
    assert len(names) == len(changed)
    assert msgspec.structs.replace(SMALL_EXAM, slots=9).name == SMALL_EXAM.name


def test_without_a_folder_items_are_composed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA, raising=False)
    assert chosen_exam() == ExamWorkload()
    about = ExamWorkload().configuration()
    assert about["items"] == {"composed": 256} and "exchanges" not in about


def test_each_row_plays_its_own_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA, raising=False)
    assert _workload_of((REAL_EXAM,)) == ExamWorkload()
    assert _workload_of((REAL_EPISODES,)) == EPISODES
    assert _workload_of(("ceiling", "sequential")) == Workload()


def test_a_folder_without_all_sets_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "medqa").mkdir()
    monkeypatch.setenv(DATA, str(tmp_path))
    with pytest.raises(InputError, match="without medmcqa, pubmedqa, mmlu: correct it"):
        chosen_exam()


def test_a_folder_of_sets_is_put_whole_and_stays_unnamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, records in RECORDS.items():
        (tmp_path / name).mkdir()
        lines = b"".join(msgspec.json.encode(record) + b"\n" for record in records)
        (tmp_path / name / "test.jsonl").write_bytes(lines)
    monkeypatch.setenv(DATA, str(tmp_path))
    workload = chosen_exam()
    assert workload.sets == {"medqa": 2, "medmcqa": 2, "pubmedqa": 2, "mmlu": 2}
    assert len(workload.keys(workload.plan())) == workload.num_dialogues == 8
    assert workload.configuration()["items"] == workload.sets
    assert str(tmp_path) not in str(workload.configuration())


def test_the_published_sets_fit_the_window(renderer: PromptRenderer, monkeypatch: pytest.MonkeyPatch) -> None:
    if not all((FOLDER / name).is_dir() for name in SETS):
        pytest.skip("the published exam files are not here")
    monkeypatch.setenv(DATA, str(FOLDER))
    workload = chosen_exam()
    assert sum(workload.sets.values()) == workload.num_dialogues == 915
    plan = workload.plan()
    longest = sorted(plan.cases, key=lambda item: len(msgspec.json.encode(item.question)))[-5:]
    assert max(map(len, prompts(plan, longest, renderer))) + workload.tokens[1] <= workload.max_model_len


_MMLU: list[dict[str, Any]] = [
    {"question": f"Which number comes after {n}?", "options": {"A": str(n + 1), "B": str(n + 2)}, "answer_idx": "A"}
    for n in (3, 5)
]
RECORDS: dict[str, list[dict[str, Any]]] = {
    "medqa": _MMLU,
    "medmcqa": [
        {"question": "Which is a bone?", "opa": "Liver", "opb": "Femur", "opc": "Skin", "opd": "Lung", "cop": number}
        for number in (1, 4)
    ],
    "pubmedqa": [
        {"QUESTION": f"Does {what} help?", "CONTEXTS": ["A trial was held."], "final_decision": "yes"}
        for what in ("sleep", "company")
    ],
    "mmlu": _MMLU,
}
"""Records in the published forms, in words of our own."""
