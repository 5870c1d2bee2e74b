"""One replica as a pure object: continuous batching as vLLM V1 does it, in whole picoseconds; no loop, no clock.

Each step gives every decoding sequence one token first and spends what is left of the token budget on prefill chunks;
waiting requests are admitted by (priority, arrival) while there are slots and their whole prompt fits the free blocks.
When the KV blocks run out the running request served last by that order is preempted and recomputed. Runs of steps in
which nothing changes are one event; whatever arrives meanwhile takes effect at the next step boundary. Invariant:
every job submitted is reported exactly once, done or lost, unless it was cancelled.
"""

import heapq
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Final, TypeAlias

from engine.simulation.batch import DecodeBatch
from engine.simulation.faults import Fault
from engine.simulation.jobs import Done, Job, Shape, Tally
from engine.simulation.latency import PICOSECONDS, Coefficients
from engine.simulation.prefix_cache import BlockPool

JobKey: TypeAlias = tuple[str, str, int]
Control: TypeAlias = tuple[int, int, str, float]
MAX_RUN: Final = 1 << 20
"""Steps that are taken as one event at most; with 1 every step is an event, which changes nothing but the cost."""


class Replica:
    """One simulated engine. Times given must not decrease. `max_run` bounds the steps taken as one event."""

    def __init__(
        self,
        name: str,
        shape: Shape,
        coefficients: Coefficients,
        *,
        faults: Iterable[Fault] = (),
        starts_at_ps: int = 0,
    ) -> None:
        self.name = name
        self.shape = shape
        self.tally = Tally()
        self.state = "starting" if starts_at_ps > 0 else "ready"
        self.num_swaps = 0
        self.max_run = MAX_RUN
        self._coefficients = coefficients
        self._times = coefficients.scaled(1.0)
        self._controls: list[Control] = []
        self._num_controls = 0
        self._is_paused = False
        if starts_at_ps > 0:
            self._control(starts_at_ps, "ready")
        for fault in faults:
            self.schedule(fault)
        self._ended: list[Done] = []
        self._reset()

    def _reset(self) -> None:
        self.pool = BlockPool(self.shape.num_blocks)
        self._batch = DecodeBatch(self.shape.block_size)
        self._jobs: dict[JobKey, Job] = {}
        self._running: dict[Job, None] = {}
        self._waiting: list[tuple[tuple[int, int], int, Job]] = []
        self._num_waiting = 0
        self._num_queued = 0
        self._prefills: list[Job] = []
        self._chunks: list[tuple[Job, int]] = []
        self._stash: list[int] = []
        self._num_taken = 0
        self._is_blocked = False
        self._has_cancelled = False
        self._start = 0
        self._num_steps = 0
        self._step_times = self._times
        self._end: int | None = None

    @property
    def num_running(self) -> int:
        """Sequences that hold a slot."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Requests that wait for a slot or for KV blocks."""
        return self._num_waiting

    # ------------------------------------------------------------ events

    def next_event(self) -> int | None:
        """Return when something may happen next, None when nothing will without a new request."""
        if self._ended:
            return self._ended[0].at_ps
        control = self._controls[0][0] if self._controls else None
        if self._end is None or control is None:
            return control if self._end is None else self._end
        return min(self._end, control)

    def advance(self, now_ps: int) -> list[Done]:
        """Let time pass up to and including `now_ps`; return the jobs that ended."""
        while True:
            control = self._controls[0][0] if self._controls else None
            if self._end is not None and self._end <= now_ps and (control is None or self._end <= control):
                end = self._end
                self._commit()
                self._plan(end)
            elif control is not None and control <= now_ps:
                at, _, kind, value = heapq.heappop(self._controls)
                self._obey(at, kind, value)
            else:
                break
        ended, self._ended = self._ended, []
        return ended

    def submit(self, now_ps: int, jobs: Sequence[Job]) -> None:
        """Take requests, at a time up to which `advance` has been called."""
        if self.state != "ready":
            self._ended += [Done(job, now_ps, is_lost=True) for job in jobs]
            return
        for job in jobs:
            blocks = -(-(job.tokens.num_tokens + job.length) // self.shape.block_size)
            if blocks > self.pool.size:
                raise ValueError(f"{job.key} must fit the replica's {self.pool.size} blocks, needs {blocks}")
            job.arrival = now_ps
            self._jobs[job.key] = job
            self._queue(job)
        if self._end is None:
            self._plan(now_ps)
        elif len(self._running) < self.shape.slots:
            self._cut(now_ps)

    def cancel(self, now_ps: int, keys: Collection[JobKey]) -> None:
        """Drop requests; those that run leave at the next step boundary. Unknown keys are ignored."""
        self._ended = [done for done in self._ended if done.job.key not in keys]
        for job in [job for job in map(self._jobs.get, keys) if job is not None]:
            job.is_cancelled = True
            if job in self._running:
                self._has_cancelled = True
                self._cut(now_ps)
            else:
                del self._jobs[job.key]
                self._num_waiting -= 1

    # ------------------------------------------------------------ swaps

    @property
    def pauses_at(self) -> int | None:
        """When the step at hand ends, None while none is."""
        return self._end

    def pause(self, now_ps: int) -> None:
        """Take no step after the one at hand, at a time up to which `advance` has been called."""
        self._obey(now_ps, "pause", 0.0)

    def resume(self, now_ps: int) -> None:
        """Go on, with other weights: what was computed under those before is found no more."""
        self._obey(now_ps, "resume", 0.0)

    # ------------------------------------------------------------ faults

    def schedule(self, fault: Fault) -> None:
        """Add a fault to what will happen; none of its times may have passed."""
        at, end = (round(seconds * PICOSECONDS) for seconds in (fault.at_s, fault.at_s + fault.duration_s))
        if fault.kind == "death":
            self._control(at, "die", float(end))
            self._control(end, "restart")
        elif fault.kind == "swap":
            self._control(at, "pause")
            self._control(end, "resume")
        else:
            self._control(at, "slow", fault.factor)
            self._control(end, "slow", 1.0)

    def _control(self, at: int, kind: str, value: float = 0.0) -> None:
        self._num_controls += 1
        heapq.heappush(self._controls, (at, self._num_controls, kind, value))

    def _obey(self, at: int, kind: str, value: float) -> None:
        """Apply an event of the schedule; a step that has begun ends as it began."""
        if kind == "die":
            self._stop_short(at)
            lost = [job for job in self._jobs.values() if not job.is_cancelled]
            self._ended += [Done(job, at, is_lost=True) for job in lost]
            self._reset()
            self.state = "lost"
        elif kind in ("ready", "restart"):
            self.state = "ready"
            self.tally.restarts += kind == "restart"
            self._is_paused = False
        else:
            self._cut(at)
            if kind == "slow":
                self._times = self._coefficients.scaled(value)
                return
            self._is_paused = kind == "pause"
            if kind == "resume":
                self.num_swaps += 1
                self.pool.clear()
                if self._end is None and self.state == "ready":
                    self._plan(at)

    # ------------------------------------------------------------ steps

    def _plan(self, now: int) -> None:
        """Decide what the engine does from `now` on: one step with prefill, or a run of pure decode steps."""
        self._end = None
        if self._has_cancelled:
            self._drop_cancelled()
        if self._is_paused or not (self._running or self._num_waiting):
            return
        has_preempted = self._make_room(0)
        has_preempted |= self._continue_prefills()
        self._num_taken = self._batch.blocks_for(1)
        self._stash += self.pool.take(self._num_taken)
        if not has_preempted:
            self._admit()
        self._is_blocked = self._num_waiting > 0 and len(self._running) < self.shape.slots
        steps, batch = 1, self._batch
        if not self._chunks:
            if not batch.count:
                return
            # A step that preempted admits nobody: the next one tries again.
            most = 1 if has_preempted else min(batch.steps_to_end(), self.max_run)
            steps = max(batch.steps_within(most, self._num_taken + self.pool.num_free), 1)
        self._start, self._num_steps, self._step_times = now, steps, self._times
        self._end = now + self._run_time()

    def _run_time(self) -> int:
        """Return the time of the steps planned."""
        num_prefill = sum(chunk for _, chunk in self._chunks)
        time = self._batch.run_time(self._step_times, self._num_steps, num_prefill)
        for job, chunk in self._chunks:
            time += self._step_times.prefill_token * chunk
            time += self._step_times.prefill_pair * (chunk * (2 * job.computed + chunk + 1) // 2)
        return time

    def _cut(self, now: int) -> None:
        """End the run at the first step boundary at or after `now`."""
        if self._end is not None and self._num_steps > 1:
            self._num_steps = self._batch.steps_until(self._step_times, self._num_steps, now - self._start)
            self._end = self._start + self._run_time()

    def _stop_short(self, now: int) -> None:
        """Count the whole steps of a run that had ended by `now`: the step under way is lost."""
        if self._end is not None and self._num_steps > 1:
            self._cut(now)
            if self._end > now:
                self._num_steps -= 1
                self._end = self._start + self._run_time()
            if self._num_steps:
                self._count(self._end - self._start)

    def _commit(self) -> None:
        """Carry out the steps planned."""
        assert self._end is not None
        end, batch = self._end, self._batch
        self._count(end - self._start)
        self._stash += self.pool.take(batch.blocks_for(self._num_steps) - self._num_taken)
        done = batch.advance(self._num_steps)
        for job, chunk in self._chunks:
            job.computed += chunk
            if job.computed == job.target:
                self._prefills.remove(job)
                job.made += 1
                if job.made == job.length:
                    done.append(job)
                else:
                    batch.add(job)
        self._chunks = []
        for job in done:
            self._leave(job)
            del self._jobs[job.key]
            if not job.is_cancelled:
                self.tally.completion_tokens += job.length
                self._ended.append(Done(job, end))

    def _count(self, time: int) -> None:
        tally, running = self.tally, len(self._running)
        tally.num_steps += self._num_steps
        tally.busy_ps += time
        tally.slot_ps += time * running
        tally.block_ps += time * (self.pool.size - self.pool.num_free)
        if running >= self.shape.slots:
            tally.full_ps += time
        elif self._is_blocked:
            tally.blocked_ps += time

    # ------------------------------------------------------------ prefill and admission

    @property
    def _budget(self) -> int:
        return self.shape.step_tokens - self._batch.count - sum(chunk for _, chunk in self._chunks)

    def _continue_prefills(self) -> bool:
        """Give each prefill under way its next chunk; return whether a request had to be preempted."""
        has_preempted = False
        for job in list(self._prefills):
            chunk = min(job.target - job.computed, self._budget)
            if chunk <= 0:
                break
            if job not in self._running:
                continue
            need = math.ceil((job.computed + chunk) / self.shape.block_size) - len(job.blocks)
            has_preempted |= self._make_room(need, job)
            if job in self._running:
                self._prefill(job, chunk, need)
        return has_preempted

    def _prefill(self, job: Job, chunk: int, num_blocks: int) -> None:
        job.blocks += self.pool.take(num_blocks)
        start, end = job.computed // self.shape.block_size, (job.computed + chunk) // self.shape.block_size
        self.pool.label(job.blocks[start:end], self._hashes(job)[start:end])
        self._chunks.append((job, chunk))

    def _admit(self) -> None:
        """Admit waiting requests while there are slots, budget and blocks for their whole prompt."""
        size, pool = self.shape.block_size, self.pool
        while self._num_waiting and len(self._running) < self.shape.slots and (budget := self._budget) > 0:
            job = self._waiting[0][2]
            if job.is_cancelled:
                heapq.heappop(self._waiting)
                continue
            job.target = job.tokens.num_tokens + job.made
            cached = pool.match(self._hashes(job), (job.target - 1) // size)
            need = -(-job.target // size) - len(cached)
            if need + pool.num_idle(cached) > pool.num_free:
                return
            heapq.heappop(self._waiting)
            self._num_waiting -= 1
            pool.touch(cached)
            job.blocks, job.computed = cached, len(cached) * size
            self._look_up(job)
            self._running[job] = None
            self._prefills.append(job)
            chunk = min(job.target - job.computed, budget)
            self._prefill(job, chunk, -(-(job.computed + chunk) // size) - len(cached))

    def _look_up(self, job: Job) -> None:
        """Count a request's first look into the prefix cache."""
        if job.cached is None:
            job.cached = job.computed
            self.tally.prefix_queries += job.target
            self.tally.prefix_hits += job.cached
            self.tally.prompt_tokens += job.target

    def _hashes(self, job: Job) -> Sequence[int]:
        return job.tokens.grown(job.made) if job.made else job.tokens.hashes

    # ------------------------------------------------------------ leaving

    def _drop_cancelled(self) -> None:
        self._has_cancelled = False
        for job in [job for job in self._running if job.is_cancelled]:
            self._leave(job)
            del self._jobs[job.key]

    def _make_room(self, num_blocks: int, asker: Job | None = None) -> bool:
        """Preempt until the next decode step and `num_blocks` more fit; return whether any request was preempted."""
        has_preempted = False
        while self._batch.blocks_for(1) + num_blocks > self.pool.num_free:
            victim = max(self._running, key=lambda job: job.rank)
            has_preempted = True
            self._preempt(victim)
            if victim is asker:
                break
        return has_preempted

    def _preempt(self, job: Job) -> None:
        self.tally.preemptions += 1
        job.num_preempted += 1
        self._chunks = [(other, chunk) for other, chunk in self._chunks if other is not job]
        self._leave(job)
        self._queue(job)

    def _leave(self, job: Job) -> None:
        """Give a running request's slot and blocks back; what it computed stays findable."""
        if job in self._batch:
            self._batch.remove(job)
        elif job in self._prefills:
            self._prefills.remove(job)
        del self._running[job]
        size = self.shape.block_size
        if job.made:
            computed = job.tokens.num_tokens + job.made - 1
            computed = max(job.computed, computed) if job.computed >= job.target else job.computed
            count = -(-computed // size) - len(job.blocks)
            if count > 0:
                job.blocks += self._stash[-count:]
                del self._stash[-count:]
            full = computed // size
            start = job.target // size
            if full > start:
                self.pool.label(job.blocks[start:full], job.tokens.grown(job.made)[start:full])
        self.pool.release(job.blocks)
        job.blocks = []
        job.computed = 0

    def _queue(self, job: Job) -> None:
        self._num_queued += 1
        self._num_waiting += 1
        heapq.heappush(self._waiting, (job.rank, self._num_queued, job))
