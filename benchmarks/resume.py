"""Row: how long a scheduler takes to stand again where another stopped, from opening the journal to all replayed."""

from benchmarks.figures import Figure, figure
from benchmarks.live import measure_resume

REPLIES = 20


def measure(repeats: int, *, brief: bool = False) -> list[Figure]:
    """Return seconds for 10,000 live episodes of 20 replies each, kept in a real journal."""
    live = 300 if brief else 10_000
    runs = [measure_resume(live, replies=REPLIES) for _ in range(repeats)]
    about = {"live": live, "replies": REPLIES, "brief": brief}
    note = "One core reads SQLite rows, decodes replies and steps generators."
    seconds = [run.resume_s for run in runs]
    return [figure("resume_10k_s", "s", seconds, goal=5.0, is_at_most=True, configuration=about, note=note)]
