"""`sandplay generate --dry-run`: the resolved configuration, what it will ask for and cost, and where it would run."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.commands.placing import Placement
    from engine.dryrun import Forecast
    from engine.estimate import Estimate
    from engine.planning import Plan


def print_forecast(plan: "Plan", figures: "Forecast", placement: "Placement", like: Path | None, as_json: bool) -> None:
    """Print what a plan will ask for; `like` is an earlier run's directory. Raises InputError when it does not fit."""
    import msgspec
    import tomli_w

    from engine.commands.calibrating import speeds_of
    from engine.estimate import Pace, estimate, read_earlier
    from engine.rundir import RunDirectory

    speeds, missing = speeds_of(plan)
    earlier = read_earlier(RunDirectory.open(like)) if like is not None else None
    found = estimate(plan, figures, earlier, Pace(speeds=speeds, missing=missing))
    if as_json:
        needs = {name: need.figures for name, need in found.by_name.items()}
        whole = {**needs, "basis": found.basis or "halfway", "notes": found.notes}
        forecast = {"forecast": msgspec.to_builtins(figures), "estimate": whole, "placement": placement.figures()}
        print(json.dumps({"config": plan.table, **forecast}))
        return
    print(tomli_w.dumps(plan.table))
    problems = [f"cannot be placed: {problem}" for problem in placement.problems]
    lines = [*forecast_lines(figures, found), *placement.lines, *problems]
    print("\n".join(f"# {line}".rstrip() for line in lines))


def forecast_lines(figures: "Forecast", found: "Estimate") -> list[str]:
    """Return what people are told beside the configuration."""
    from engine.estimate import HEADS, rows_of
    from engine.tables import PAGE_WIDTH, make_table, plain, rendered
    from engine.transcript import one_line

    table = make_table(HEADS, title=f"All {figures.episodes} episodes", numbers=HEADS[2:])
    for row in rows_of(found):
        table.add_row(*map(plain, row))
    lines = [f"{figures.episodes} episodes; retries and re-asks come on top of the least and the most"]
    for name, course in (("least", figures.least), ("most", figures.most)):
        lines.append(
            f"{name}: {course.calls} calls, {course.prompt_tokens} prompt + {course.completion_tokens} completion"
            f" tokens per episode; {course.calls * figures.episodes} calls in all"
        )
    lines += [f"longest possible context: {figures.most.max_context} tokens", ""]
    lines += [*rendered(table, PAGE_WIDTH - 2).splitlines(), *(one_line(note, 500) for note in found.notes)]
    hours = [f"{need.hours:.3g} {name}" for name, need in found.by_name.items() if need.hours is not None]
    if hours:
        lines.append(f"hours: {', '.join(hours)}")
    if not found.basis:
        lines.append("halfway is no expectation: only a run that was played says where between the two it ends")
    return lines
