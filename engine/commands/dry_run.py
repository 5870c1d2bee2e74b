"""`sandplay generate --dry-run`: the resolved configuration, what it will ask for and cost, and where it would run."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.commands.placing import Placement
    from engine.dryrun import Forecast
    from engine.egress import Outlet
    from engine.estimate import Estimate
    from engine.planning import Plan

MAX_CHARS: Final = 1000


def print_forecast(plan: "Plan", figures: "Forecast", placement: "Placement", like: Path | None, as_json: bool) -> None:
    """Print what a plan will ask for; `like` is an earlier run's directory. Raises InputError when it does not fit."""
    import msgspec
    import tomli_w

    from engine.commands.calibrating import speeds_of
    from engine.egress import outlets, refusals
    from engine.estimate import Pace, estimate, read_earlier
    from engine.rundir import RunDirectory
    from engine.tables import write
    from engine.transcript import one_line

    speeds, missing = speeds_of(plan)
    earlier = read_earlier(RunDirectory.open(like)) if like is not None else None
    found = estimate(plan, figures, earlier, Pace(speeds=speeds, missing=missing))
    leaving = outlets(plan.config, plan.spec)
    refused = refusals(leaving, plan.config.privacy.egress)
    if as_json:
        egress = {"outlets": msgspec.to_builtins(leaving), "problems": refused}
        needs = {name: need.figures for name, need in found.by_name.items()}
        whole = {**needs, "basis": found.basis or "halfway", "notes": found.notes}
        forecast = {"forecast": msgspec.to_builtins(figures), "estimate": whole, "placement": placement.figures()}
        print(json.dumps({"config": plan.table, **forecast, "egress": egress}))
        return
    write(spelled(tomli_w.dumps(plan.table)))
    problems = [f"cannot be placed: {problem}" for problem in placement.problems]
    problems += [f"will be refused: {one_line(problem, MAX_CHARS)}" for problem in refused]
    lines = [*forecast_lines(figures, found), *placement.lines, "", *egress_lines(leaving), *problems]
    write("\n".join(f"# {line}".rstrip() for line in lines))


def spelled(toml: str) -> str:
    """Return a TOML text, the same to its readers, in which what would move a terminal is spelled out."""
    from engine.transcript import clean

    return "".join(one if one == "\n" or clean(one) == one else f"\\U{ord(one):08X}" for one in toml)


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


def egress_lines(found: "Sequence[Outlet]") -> list[str]:
    """Return who sends texts where, and what they hold."""
    from engine.egress import HEADS
    from engine.tables import PAGE_WIDTH, make_table, plain, rendered

    table = make_table(HEADS, title="Where texts go")
    for one in found:
        table.add_row(*map(plain, one.row))
    return rendered(table, PAGE_WIDTH - 2).splitlines()
