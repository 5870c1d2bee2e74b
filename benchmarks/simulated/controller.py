"""Row: how fast admission recovers from a wrong start: pipeline turnovers until throughput is within 5 % of the best.

A turnover is the time in which as many episodes end as are live when all goes well. The wrong starts: a prior eight
times too large starts an eighth of the dialogues, one four times too small starts four times as many. The best is that
of the best fixed number of live dialogues.
"""

import bisect
import itertools

import msgspec

from benchmarks.figures import Figure, figure
from benchmarks.real.outcome import EDGE
from benchmarks.simulated.product import Played, play
from benchmarks.simulated.workload import H200_SHAPE, SESSIONS_GPU, seeded
from engine.admission import HEADROOM, Admission

SHAPE = msgspec.structs.replace(H200_SHAPE, slots=64, num_blocks=8000)
NUM_TURNOVERS = 12
WITHIN = 0.95
NUM_STEPS = 400
SHARES = (1.0, 1.25, 1.5, 1.75)
"""Fixed numbers of live dialogues that are tried, as shares of those whose full-grown views fit the cache."""
STARTS = {"eighth": 8.0, "fourfold": 0.25}


def committed_tokens(run: Played) -> float:
    """Return the tokens one dialogue holds in the end: the longest context of each of its two views, on average."""
    longest = sorted(finish.usage.prompt_tokens + finish.usage.completion_tokens for finish in run.outcome.finishes)
    last = longest[-2 * len(run.ended_s) :]
    return 2 * sum(last) / len(last)


def turnovers(run: Played, turnover_s: float, best: float) -> float:
    """Return after how many turnovers the rest of the run, its tail aside, makes 95 % of `best` tokens per second.

    Counted in time, since dialogues that are too many do not end. A run that never gets there counts whole.
    """
    finishes = sorted(run.outcome.finishes, key=lambda finish: finish.at_s)
    at_s = [finish.at_s for finish in finishes]
    made = [0, *itertools.accumulate(finish.usage.completion_tokens for finish in finishes)]
    last = bisect.bisect_left(made, (1 - EDGE) * made[-1])
    end_s = at_s[last - 1]
    for start_s in [end_s * step / NUM_STEPS for step in range(NUM_STEPS)]:
        enough = WITHIN * best * (end_s - start_s)
        if end_s - start_s >= turnover_s and made[last] - made[bisect.bisect_left(at_s, start_s)] >= enough:
            return start_s / turnover_s
    return end_s / turnover_s


def measure(repeats: int, *, brief: bool = False) -> list[Figure]:
    """Return turnovers from an eighth and from four times the right number of live dialogues; the worse counts."""
    base = msgspec.structs.replace(SESSIONS_GPU, shape=SHAPE, num_episodes=256)
    room = HEADROOM * SHAPE.kv_tokens
    num_full_grown = round(room / committed_tokens(play(base)))
    full = msgspec.structs.replace(base, num_episodes=(4 if brief else NUM_TURNOVERS) * num_full_grown)
    found: dict[str, list[float]] = {name: [] for name in STARTS}
    for seed in range(repeats):
        workload = seeded(full, seed)
        fixed = [round(share * num_full_grown) for share in SHARES]
        runs = {number: play(workload, admission=Admission(number)) for number in fixed}
        num_live = max(runs, key=lambda number: runs[number].outcome.steady_rate)
        best = runs[num_live]
        turnover_s = num_live / best.steady_episodes_per_s
        for name, factor in STARTS.items():
            prior = round(factor * room / num_live / 2)
            run = play(workload, admission=Admission(None, prior_tokens=prior))
            found[name].append(turnovers(run, turnover_s, best.outcome.steady_rate))
    worse = [max(pair) for pair in zip(*found.values(), strict=True)]
    about = full.configuration(num_live=num_live)
    return [
        figure("controller_turnovers", "turnovers", worse, goal=3.0, is_at_most=True, configuration=about, note=NOTE),
        *(figure(f"controller_turnovers_{name}", "turnovers", found[name], configuration=about) for name in STARTS),
    ]


NOTE = "What a dialogue needs is learnt only when the first ones end, and dialogues that are too many are not shed."
