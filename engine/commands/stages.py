"""The steps of rounds on real parts: runs of dialogues, sample logs, the worker pool, the served replicas.

One crew is kept up from round to round and lent to each run; a new version is swapped into it. Everything that a step
leaves is found again after a crash: runs by their journals, samples by their marks, training by its states, checkpoints
by their names.
"""

import asyncio
import random
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import msgspec

from actors.crew import LocalCrew
from actors.processes import ProcessTable
from engine.backend import Completion, Request
from engine.bill import make_bill, total_cost
from engine.checkpoints import CheckpointError, Registry
from engine.commands.dev_exam import exam_name, exam_plan, kept_exam, row_warning, score_exam
from engine.commands.keeping import kept_inside, leave_copy
from engine.commands.lending import Lent, open_run
from engine.commands.preparing import forecast_plan
from engine.commands.report import leave_report
from engine.commands.trainer import SAMPLES, Trainer
from engine.config_sections import prices_of
from engine.corpus import Corpus
from engine.errors import RunError
from engine.panel import Panel, make_panel
from engine.planning import Plan
from engine.prices import rounded
from engine.protocols.exam import Score, score
from engine.report.writing import AT_END, FINISHED, IN_HASTE, open_state
from engine.run import Run
from engine.rundir import RunDirectory
from engine.steps import Sampling
from engine.totals import Totals
from engine.views import Message
from training.feeder import Feeder
from training.monitors import diversity_gain, measure_log
from training.round_log import BEFORE, ExamChange, Examined, Played, Sampled, Swapped, Trained
from training.round_planning import RoundsPlan
from training.sample_log import SampleReader, SampleWriter

PROBES: Final = (
    "I have not slept properly for two weeks, and I do not know who to tell.",
    "What is the first thing you would like to talk about today?",
    "Name one small step that could make the coming week a little easier.",
    "Describe in one sentence what worry feels like.",
)
"""Asked greedily before and after a swap: what differs shows that other weights answer."""
PROBE_TOKENS: Final = 24


class LocalStages:
    """Implements `training.rounds.Stages` in one directory. `close` must be called in the end."""

    def __init__(self, plan: RoundsPlan, directory: Path, paths: Mapping[str, Path], panel: Panel) -> None:
        self.registry = Registry(directory / "checkpoints")
        self._plan = plan
        self._directory = directory
        self._paths = dict(paths)
        self._panel = panel
        self._processes = ProcessTable(RunDirectory(directory).processes)
        self._trainer = Trainer(plan, directory, self._paths, self.registry, self._processes, panel.say)
        self._crew: LocalCrew | None = None
        self._served = ""
        self._probed: list[str] = []
        self._active: Run | None = None
        self._dev = kept_exam(plan.settings.exam, directory)
        self._exam = exam_plan(plan, directory, self._dev)

    # ------------------------------------------------------------ dialogues

    async def play_held_out(self) -> Played:
        """Play the held-out cases once, with the base model."""
        return await self._play_and_feed(BEFORE, "", self._plan.yardstick(self._directory), "held-out")

    async def play(self, number: int, version: str) -> Played:
        """Play a round's cases."""
        return await self._play_and_feed(number, version, self._plan.round(self._directory, number), f"round-{number}")

    async def _play_and_feed(self, number: int, version: str, plan: Plan, name: str) -> Played:
        """Play a run and write samples as its episodes end; the log is closed once all have."""
        begun = time.monotonic()
        forecast_plan(plan, self._paths)
        async with self._run(plan, name) as run:
            writer = SampleWriter.open(run.rundir.path / SAMPLES)
            feeder = Feeder({"000": run.journal}, plan.spec, writer, self._plan.settings.samples)
            async with asyncio.TaskGroup() as group:
                feeding = group.create_task(feeder.run(), name="samples")
                await run.play()
                if run.num_open:
                    raise RunError(f"{name} was stopped with {run.num_open} episodes to play")
                await run.journal.seal()  # what lives on this node's disk alone is shown only then
                feeder.finish()
                await feeding
            result = run.result(None)
        weights = {one for record in Corpus.open(run.rundir).iterate(columns=("weights",)) for one in record.weights}
        return Played(
            round=number,
            at=time.time(),
            elapsed_s=time.monotonic() - begun,
            version=version,
            episodes=result.episodes,
            weights=tuple(sorted(weights)),
            cost=_cost(plan, result.after),
        )

    def _run(self, plan: Plan, name: str) -> "_Running":
        assert self._crew is not None
        return _Running(
            self, kept_inside(plan, self._directory.name), open_run(plan, self._directory / name), Lent(self._crew)
        )

    async def sample(self, number: int) -> Sampled:
        """Measure the rows of a round."""
        rows, mark = _read_log(self._samples_of(f"round-{number}"))
        figures = measure_log(rows, mark)
        earlier = [row for past in range(number) for row in _read_log(self._samples_of(f"round-{past}"))[0]]
        if earlier and rows and self._crew is not None and self._crew.embedder is not None:
            gain = await diversity_gain(rows, earlier, self._crew.embedder.similarities, random.Random(number))
            figures = msgspec.structs.replace(figures, diversity_gain=gain)
        if self._dev is not None and (warning := row_warning(self._dev, rows, number)):
            self._panel.say(f"round {number}: {warning}")
        return Sampled(round=number, at=time.time(), kept=mark.kept, dropped=mark.dropped, figures=figures)

    def _samples_of(self, name: str) -> Path:
        return self._directory / name / SAMPLES

    async def train(self, number: int, version: str) -> Trained:
        """Train from the version that played, or from the base, and publish what comes of it."""
        if self._plan.settings.rounds.placement == "colocated":
            await self._release()
        return await self._trainer.train(number, version)

    # ------------------------------------------------------------ serving

    async def serve(self, number: int, version: str) -> Swapped | None:
        """Swap a version into the replicas, or start them on it."""
        before = self._served
        if self._crew is not None and before == version:
            return None
        begun = time.monotonic()
        place = self.registry.place(version) if version else None
        try:
            stalled_s = await self._swap(place)
        except CheckpointError as refused:
            if self._crew is None:
                await self._start(self.registry.place(before) if before else None)
            problem = "; ".join(refused.problems)
            return Swapped(round=number, at=time.time(), version=version, before=before, refused=problem)
        if before == version:
            return None
        self._served = version
        assert self._crew is not None
        probed, self._probed = self._probed, await self._probe(self._crew)
        return Swapped(
            round=number,
            at=time.time(),
            elapsed_s=time.monotonic() - begun,
            version=version,
            before=before,
            weights=self._crew.pools[self._plan.model].replicas()[0].weights,
            stalled_s=stalled_s,
            num_probes=len(probed),
            num_changed=sum(one != other for one, other in zip(probed, self._probed, strict=False)),
        )

    async def _swap(self, place: Path | None) -> float:
        """Serve what lies in a place, None for the base; return how long replicas stood still (s)."""
        if self._crew is None:
            await self._start(place)
            return 0.0
        if not self._probed:
            self._probed = await self._probe(self._crew)
        report = await self._crew.swap(self._plan.model, place, self._plan.settings.rounds.policy, self._panel.say)
        return report.stalled_s

    async def _start(self, place: Path | None) -> None:
        """Bring the crew up on what lies in a place. Raises CheckpointError before anything is started."""
        plan = self._plan.round(self._directory, 0)
        serving = {self._plan.model: place} if place is not None else {}
        embeds = plan.spec.needs_embedder or (self._exam is not None and self._exam.spec.needs_embedder)
        crew = LocalCrew(plan.config, self._paths, needs_embedder=embeds, serving=serving)
        crew.attach(RunDirectory(self._directory), self._panel.say)
        try:
            await crew.start()
        except BaseException:
            await crew.close()
            raise
        self._crew = crew

    async def _release(self) -> None:
        """Stop the replicas, so that training has their memory."""
        crew, self._crew = self._crew, None
        if crew is not None:
            self._probed = self._probed or await self._probe(crew)
            await crew.close()

    async def _probe(self, crew: LocalCrew) -> list[str]:
        """Return the greedy replies to the probes; nobody else may be using the pool."""
        pool = crew.pools[self._plan.model]
        sampling = Sampling(PROBE_TOKENS, 0.0)
        stamp = time.monotonic_ns()
        requests = [
            Request(f"probe-{stamp}", str(number), 0, "therapist", "probe", (Message("user", text),), sampling)
            for number, text in enumerate(PROBES)
        ]
        await pool.submit(requests)
        done: dict[Any, Completion] = {}
        while len(done) < len(requests):
            done |= {completion.key: completion for completion in await pool.collect()}
        await pool.forget(f"probe-{stamp}")
        found = [done[request.key].reply for request in requests]
        return [reply.text if reply is not None else "" for reply in found]

    # ------------------------------------------------------------ exams

    async def examine(self, number: int, version: str, against: int | None) -> Examined | None:
        """Put the exam to what is served; items are compared with those of another round."""
        if self._exam is None:
            return None
        begun = time.monotonic()
        if self._dev is not None:
            forecast_plan(self._exam, self._paths)
        async with self._run(self._exam, exam_name(number)) as run:
            await run.play()
            if run.num_open:
                raise RunError(f"the exam was stopped with {run.num_open} items to answer")
            cost = _cost(self._exam, run.result(None).after)
        found, change = self._score(run.rundir, number, against)
        elapsed_s = time.monotonic() - begun
        return Examined(
            round=number,
            at=time.time(),
            elapsed_s=elapsed_s,
            version=version,
            score=found,
            change=change,
            cost=cost,
        )

    def _score(self, rundir: RunDirectory, number: int, against: int | None) -> tuple[Score, ExamChange | None]:
        """Score an exam that was put; one of items leaves its own report as well."""
        if self._exam is not None and self._exam.spec.report is not None:
            self._exam.spec.report(rundir)
            return score_exam(self._directory, number, against)
        records = list(Corpus.open(rundir))
        outcomes = [msgspec.json.decode(record.outcome) for record in records if record.status == "completed"]
        return score(outcomes, len(records) - len(outcomes)), None

    # ------------------------------------------------------------ life

    def commit(self, version: str) -> None:
        """Make a version current."""
        self.registry.set_current(version or None)

    def stop(self, task: "asyncio.Future[Any]") -> None:
        """Stop what is going on: dialogues at a turn's end, anything else at once."""
        self._panel.say(f"stopping; go on with: sandplay resume {self._directory}")
        if self._active is not None:
            self._active.stop(task)
        else:
            task.cancel()

    def abort(self) -> None:
        """End every process at once."""
        self._processes.end_left_overs()

    async def close(self) -> None:
        """End everything that was started."""
        crew, self._crew = self._crew, None
        if crew is not None:
            await crew.close()


class _Running:
    """A run that is open: its lock is held, its journal is closed in the end. An async context manager."""

    def __init__(self, stages: LocalStages, plan: Plan, rundir: RunDirectory, crew: Lent) -> None:
        self._stages = stages
        self._lock: AbstractContextManager[None] = rundir.lock()
        self._lock.__enter__()
        self._run = Run(plan, rundir, crew, make_panel(False), plan.roster())

    async def __aenter__(self) -> Run:
        self._stages._active = self._run
        return self._run

    async def __aexit__(self, *_: object) -> None:
        self._stages._active = None
        try:
            await self._run.close(is_hasty=False)
            await asyncio.to_thread(self._leave_report)
        finally:
            self._lock.__exit__(None, None, None)

    def _leave_report(self) -> None:
        rundir, is_open = self._run.rundir, self._run.num_open > 0
        state = open_state(rundir) if is_open else FINISHED
        leave_report(rundir, self._run.plan.spec, state=state, size=IN_HASTE if is_open else AT_END)
        leave_copy(rundir, self._run.plan.config.corpus, is_hasty=is_open)


def _cost(plan: Plan, totals: Totals) -> float | None:
    """Return what a run's terminal episodes cost, None where no model has prices."""
    prices = {name: prices_of(model) for name, model in plan.config.models.items()}
    return rounded(total_cost(row.cost for row in make_bill(totals, plan.config.roles, prices)))


def _read_log(path: Path) -> tuple[list[dict[str, Any]], Any]:
    reader = SampleReader(path)
    mark = reader.refresh()
    rows = list(reader.rows())
    reader.close()
    return rows, mark
