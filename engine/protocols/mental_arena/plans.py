"""Best of k plans: propose, imagine the outcome, score (spec S11, S12). Treatment and medicine are independent."""

from dataclasses import dataclass

from engine.asking import ask_text, ask_value
from engine.protocols.mental_arena.encoder import Persona
from engine.protocols.mental_arena.interview import Talk
from engine.protocols.mental_arena.outcome import Attempt, Kind, Plan, best_attempt, expected_score
from engine.protocols.mental_arena.stage import JUDGE, PATIENT, SCORES, THERAPIST, Stage
from engine.steps import Protocol
from engine.values import describe


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """What every attempt of one kind starts from."""

    stage: Stage
    persona: Persona
    talk: Talk
    kind: Kind
    illness: str


def try_plans(planning: Planning) -> Protocol[Plan]:
    """Try plans of one kind until a score is good enough or the tries are used up; the best one counts.

    With `state_update` the outcome of the best plan so far is the state that the next plan meets.
    """
    rules = planning.stage.rules
    attempts: tuple[Attempt, ...] = ()
    while len(attempts) < rules.max_tries:
        best = best_attempt(attempts)
        if best is not None and (attempts[best - 1].score or 0) >= rules.good_score:
            break
        state = attempts[best - 1].outcome if rules.state_update and best is not None else ""
        attempts = (*attempts, (yield from attempt_plan(planning, attempts, state)))
    return Plan(planning.kind, attempts, best_attempt(attempts))


def attempt_plan(planning: Planning, earlier: tuple[Attempt, ...], state: str) -> Protocol[Attempt]:
    """Return one plan, its imagined outcome and its score."""
    stage, kind = planning.stage, planning.kind
    number = len(earlier) + 1
    path = f"plan/{kind}/{number}"
    plans = [attempt.plan for attempt in earlier]
    text = stage.texts.render("plan", kind=kind, illness=planning.illness, earlier=plans, is_repeat=False)
    view = planning.talk.therapist.hear(text)
    plan = (yield from ask_text(stage.step(f"{path}/plan", THERAPIST, view, "plan"))).text.strip()
    told = planning.persona.view.hear(stage.texts.render("outcome", kind=kind, plan=plan, state=state))
    outcome = (yield from ask_text(stage.step(f"{path}/outcome", PATIENT, told, "outcome"))).text.strip()
    return (yield from score_plan(planning, path, number, plan, outcome))


def score_plan(planning: Planning, path: str, number: int, plan: str, outcome: str) -> Protocol[Attempt]:
    """Let the judge score the outcome 1..10; a score that cannot be read is missing."""
    stage = planning.stage
    text = stage.texts.render(
        "score",
        profile=planning.persona.symptom,
        kind=planning.kind,
        plan=plan,
        outcome=outcome,
        form=describe(SCORES),
    )
    value = yield from ask_value(stage.step(f"{path}/score", JUDGE, stage.judge(text), "score", SCORES))
    probabilities = value.reply.probabilities
    score = int(value.choice) if value.choice is not None else None
    return Attempt(number, plan, outcome, score, probabilities, expected_score(probabilities))
