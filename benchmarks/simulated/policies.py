"""Row: what each policy is worth: episodes per second with it over without it, where it should matter."""

from collections.abc import Callable

import msgspec

from benchmarks.figures import Figure, ratio
from benchmarks.simulated.product import Change, Played, play
from benchmarks.simulated.recorder import trace_of
from benchmarks.simulated.workload import H200_SHAPE, SESSIONS_GPU, Workload, seeded
from engine.admission import LIVE_PER_SLOT, PRIOR_TOKENS, Admission
from engine.backend import Request
from engine.routing import Router
from engine.simulation.faults import Fault

TIGHT = msgspec.structs.replace(H200_SHAPE, slots=64, num_blocks=6000)
"""A cache that holds about as many dialogues as there are slots."""
ROOMY = msgspec.structs.replace(H200_SHAPE, slots=64)


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One policy: where it is tried, and how it is left out."""

    workload: Workload
    replicas: int = 1
    max_live: int | None = None
    prior_tokens: int = PRIOR_TOKENS
    admission: Callable[[], Admission] | None = None
    router: Callable[[], Router] = Router
    change: Callable[[], Change] | None = None
    faults: tuple[Fault, ...] = ()
    note: str = ""

    def with_it(self, workload: Workload) -> Played:
        """Play with the policy."""
        admission = Admission(self.max_live, prior_tokens=self.prior_tokens)
        return play(workload, replicas=self.replicas, admission=admission, faults=self.faults)

    def without(self, workload: Workload) -> Played:
        """Play without it."""
        admission = self.admission() if self.admission is not None else Admission(self.max_live)
        change = self.change() if self.change is not None else None
        return play(
            workload,
            replicas=self.replicas,
            admission=admission,
            router=self.router,
            change=change,
            faults=self.faults,
        )


def _flat() -> Change:
    return lambda request: msgspec.structs.replace(request, priority=0)


def _depth_only() -> Change:
    return lambda request: msgspec.structs.replace(request, priority=-abs(request.priority))


def _scattered(replicas: int) -> Callable[[], Change]:
    """Return a way to send every turn to the next replica in turn, wherever its dialogue was before."""

    def make() -> Change:
        turns = iter(range(1 << 60))

        def scatter(request: Request) -> Request:
            return msgspec.structs.replace(request, replica=f"replica-{next(turns) % replicas}")

        return scatter

    return make


def _sessions(num_episodes: int, **changes: object) -> Workload:
    return msgspec.structs.replace(SESSIONS_GPU, num_episodes=num_episodes, **changes)


UNEVEN = SESSIONS_GPU.protocol | {"max_turns": 12}
TRIALS: dict[str, Trial] = {
    "policy_admission": Trial(
        workload=_sessions(1024, shape=TIGHT),
        admission=lambda: Admission(LIVE_PER_SLOT * TIGHT.slots),
        note="Without: four live dialogues per slot whatever they hold.",
    ),
    "policy_shedding": Trial(
        workload=_sessions(512, shape=TIGHT),
        prior_tokens=PRIOR_TOKENS // 4,
        admission=lambda: Admission(None, prior_tokens=PRIOR_TOKENS // 4, can_shed=False),
        note="Without: live dialogues all go on. Both expect a quarter of what a dialogue comes to hold.",
    ),
    "policy_depth_first": Trial(
        workload=_sessions(1024, shape=TIGHT),
        max_live=LIVE_PER_SLOT * TIGHT.slots,
        change=_flat,
        note="Without: first come first served. Admission is fixed at four live dialogues per slot in both.",
    ),
    "policy_tail_order": Trial(
        workload=_sessions(512, shape=ROOMY, protocol=UNEVEN),
        change=_depth_only,
        note="Without: depth first to the end. Whole run, tail included.",
    ),
    "policy_sticky": Trial(
        workload=_sessions(1024, shape=ROOMY),
        replicas=4,
        change=_scattered(4),
        note="Without: every turn goes to the next replica in turn.",
    ),
    "policy_moves": Trial(
        workload=_sessions(512, shape=ROOMY),
        replicas=4,
        max_live=512,
        router=lambda: Router(move_share=1e9),
        faults=(Fault(at_s=5.0, replica=0, kind="death", duration_s=5.0),),
        note="Without: a dialogue stays where it is. All are live when one of four replicas dies for 5 s.",
    ),
    "policy_affinity": Trial(
        workload=_sessions(1024, shape=TIGHT, num_cases=64),
        replicas=4,
        router=lambda: Router(affinity=0.0),
        note="Without: a case goes to the least committed replica. 64 cases, 16 episodes each.",
    ),
}


def measure_one(name: str, trial: Trial, repeats: int) -> Figure:
    """Return one policy's figure; both sides play the same episodes, seed by seed."""
    seeds = [seeded(trial.workload, seed) for seed in range(repeats)]
    mine = [trial.with_it(workload) for workload in seeds]
    theirs = [trial.without(workload) for workload in seeds]
    one, other = mine[-1], theirs[-1]
    about = trial.workload.configuration(
        replicas=trial.replicas,
        hits=round(one.hit_ratio, 4),
        hits_without=round(other.hit_ratio, 4),
        preemptions=one.outcome.preemptions,
        preemptions_without=other.outcome.preemptions,
        moves=one.moves,
    )
    over, under = [run.episodes_per_s for run in mine], [run.episodes_per_s for run in theirs]
    traces = (trace_of(run.outcome for run in mine), trace_of(run.outcome for run in theirs))
    return ratio(name, over, under, traces=traces, configuration=about, note=trial.note)


def measure(repeats: int, *, brief: bool = False) -> list[Figure]:
    """Return one figure per policy."""
    if brief:
        trial = TRIALS["policy_sticky"]
        small = msgspec.structs.replace(trial.workload, num_episodes=128)
        return [measure_one("policy_sticky", msgspec.structs.replace(trial, workload=small), repeats)]
    return [measure_one(name, trial, repeats) for name, trial in TRIALS.items()]
