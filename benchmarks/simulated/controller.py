"""Row: how fast admission recovers from a wrong start: turnovers until throughput stays within 5 % of the best.

A turnover is the time in which as many episodes end as are live when all goes well. The wrong starts: a prior eight
times too large, with an eighth of the dialogues, and one four times too small, with four times as many dialogues live
before admission has a say. The best is that of the best fixed number of live dialogues.
"""

import bisect
import itertools
from collections.abc import Mapping

import msgspec

from benchmarks.figures import Figure, figure
from benchmarks.simulated.product import Played, play
from benchmarks.simulated.workload import H200_SHAPE, SESSIONS_GPU, Workload, seeded
from engine.admission import HEADROOM, Admission, Pool

SHAPE = msgspec.structs.replace(H200_SHAPE, slots=64, num_blocks=8000)
NUM_TURNOVERS = 12
WITHIN = 0.95
TAIL = 0.1
"""Share of the completion tokens made last: no dialogue is left to start, so they say nothing of admission."""
NUM_STEPS = 400
SHARES = (1.25, 1.5, 1.625, 1.75, 1.875, 2.0)
"""Fixed numbers of live dialogues that are tried, as shares of those whose full-grown views fit the cache."""
STARTS = {"eighth": 8.0, "fourfold": 0.25}
"""By how much the prior is wrong."""


class Forced(Admission):
    """Admission that finds `num_forced` dialogues live before it has a say, as if a journal held them."""

    def __init__(self, num_forced: int, prior_tokens: int) -> None:
        super().__init__(None, prior_tokens=prior_tokens)
        self._num_missing = num_forced

    def start(self, episode: str) -> None:
        """Count down."""
        self._num_missing -= 1
        super().start(episode)

    def room(self, num_live: int, pools: Mapping[str, Pool]) -> int:
        """Return what is missing, then admission's own word."""
        return self._num_missing if self._num_missing > 0 else super().room(num_live, pools)


def committed_tokens(run: Played) -> float:
    """Return the tokens one dialogue holds in the end: the longest context of each of its two views, on average."""
    longest = sorted(finish.usage.prompt_tokens + finish.usage.completion_tokens for finish in run.outcome.finishes)
    last = longest[-2 * len(run.ended_s) :]
    return 2 * sum(last) / len(last)


def turnovers(run: Played, turnover_s: float, best: float) -> float:
    """Return after how many turnovers every turnover to come, the tail aside, makes 95 % of `best` tokens per second.

    Counted in time, since dialogues that are too many do not end. A run whose last turnover falls short counts whole.
    A mean over the rest of the run would not do: a collapse in between would be thinned out by what follows.
    """
    finishes = sorted(run.outcome.finishes, key=lambda finish: finish.at_s)
    at_s = [finish.at_s for finish in finishes]
    made = [0, *itertools.accumulate(finish.usage.completion_tokens for finish in finishes)]
    end_s = at_s[bisect.bisect_left(made, (1 - TAIL) * made[-1]) - 1]
    step_s = max(end_s - turnover_s, 0.0) / NUM_STEPS
    for number in range(NUM_STEPS, -1, -1):
        first, last = (bisect.bisect_left(at_s, number * step_s + passed_s) for passed_s in (0.0, turnover_s))
        if made[last] - made[first] < WITHIN * best * turnover_s:
            return end_s / turnover_s if number == NUM_STEPS else (number + 1) * step_s / turnover_s
    return 0.0


def recoveries(workload: Workload, num_full_grown: int) -> tuple[dict[str, float], int]:
    """Return the turnovers from each start, and of the best fixed number itself; and that number."""
    runs = {number: play(workload, admission=Admission(number)) for number in _numbers(num_full_grown)}
    num_live = max(runs, key=lambda number: runs[number].outcome.steady_rate)
    best = runs[num_live]
    rate, turnover_s = best.outcome.steady_rate, num_live / best.steady_episodes_per_s
    found = {"best": turnovers(best, turnover_s, rate)}
    for name, factor in STARTS.items():
        prior = round(factor * HEADROOM * workload.shape.kv_tokens / num_live / 2)
        run = play(workload, admission=Forced(round(num_live / factor), prior))
        found[name] = turnovers(run, turnover_s, rate)
    return found, num_live


def _numbers(num_full_grown: int) -> list[int]:
    return [round(share * num_full_grown) for share in SHARES]


def measure(repeats: int, *, brief: bool = False) -> list[Figure]:
    """Return turnovers from an eighth and from four times the right number of live dialogues; the worse counts."""
    base = msgspec.structs.replace(SESSIONS_GPU, shape=SHAPE, num_episodes=256)
    num_full_grown = round(HEADROOM * SHAPE.kv_tokens / committed_tokens(play(base)))
    full = msgspec.structs.replace(base, num_episodes=(4 if brief else NUM_TURNOVERS) * num_full_grown)
    found: list[dict[str, float]] = []
    for seed in range(repeats):
        one, num_live = recoveries(seeded(full, seed), num_full_grown)
        found.append(one)
    worse = [max(one[name] for name in STARTS) for one in found]
    about = full.configuration(num_live=num_live)
    return [
        figure("controller_turnovers", "turnovers", worse, goal=3.0, is_at_most=True, configuration=about, note=NOTE),
        *(
            figure(f"controller_turnovers_{name}", "turnovers", [one[name] for one in found], configuration=about)
            for name in (*STARTS, "best")
        ),
    ]


NOTE = "Every turnover from then on makes 95 % of the best; the best fixed number itself needs about 0.8: caches fill."
"""Said of the figure."""
