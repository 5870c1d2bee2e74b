"""What decodes on a replica, kept as sums: a run of steps in which nothing changes costs the same as one step.

Every step gives each decoding sequence one token, so a sequence's state follows from the step it joined at. Invariant:
the sums equal those over the members, and a sequence takes a block at every step whose token opens one. Time is whole
picoseconds. Knows nothing of waiting, prefill or blocks but their number.
"""

import heapq

from engine.simulation.jobs import Job
from engine.simulation.latency import StepTimes


class DecodeBatch:
    """The sequences that decode. A member with c tokens (prompt and made) attends to c in its next step."""

    def __init__(self, block_size: int) -> None:
        self.count = 0
        self.step = 0
        self._block_size = block_size
        self._context = 0
        # Members whose next token opens a block at steps congruent to the index modulo the block size.
        self._openings = [0] * block_size
        self._ends: list[tuple[int, int, Job]] = []
        self._num_added = 0
        self._members: set[Job] = set()

    def __contains__(self, job: Job) -> bool:
        return job in self._members

    def made(self, job: Job) -> int:
        """Return how many tokens a member has made by now."""
        return job.made + self.step - job.since

    def add(self, job: Job) -> None:
        """Let a sequence that has made `job.made` tokens decode from the next step on."""
        job.since = self.step
        context = job.tokens.num_tokens + job.made
        self.count += 1
        self._context += context
        self._openings[(1 - context + self.step) % self._block_size] += 1
        self._members.add(job)
        self._num_added += 1
        heapq.heappush(self._ends, (self.step + job.length - job.made, self._num_added, job))

    def remove(self, job: Job) -> None:
        """Take a member out; `job.made` is brought up to date."""
        context = job.tokens.num_tokens + job.made
        self._openings[(1 - context + job.since) % self._block_size] -= 1
        job.made = self.made(job)
        self.count -= 1
        self._context -= job.tokens.num_tokens + job.made
        self._members.discard(job)

    def advance(self, num_steps: int) -> list[Job]:
        """Take steps; return the members that made their last token, removed. None may end before the last step."""
        self.step += num_steps
        self._context += num_steps * self.count
        done: list[Job] = []
        while self._ends and self._ends[0][0] <= self.step:
            end, _, job = heapq.heappop(self._ends)
            if job in self._members and end == job.since + job.length - job.made:
                self.remove(job)
                done.append(job)
        return done

    def steps_to_end(self) -> int:
        """Return in how many steps the first member ends. The batch must not be empty."""
        while True:
            end, _, job = self._ends[0]
            if job in self._members and end == job.since + job.length - job.made:
                return end - self.step
            heapq.heappop(self._ends)

    def blocks_for(self, num_steps: int) -> int:
        """Return how many blocks the next steps open."""
        rounds, rest = divmod(num_steps, self._block_size)
        start = self.step % self._block_size
        opened = rounds * self.count + sum(self._openings[start : start + rest])
        past = start + rest - self._block_size
        return opened + sum(self._openings[:past]) if past > 0 else opened

    def steps_within(self, num_steps: int, num_blocks: int) -> int:
        """Return how many of the next steps open at most `num_blocks` blocks in all."""
        if self.blocks_for(num_steps) <= num_blocks:
            return num_steps
        low, high = 0, num_steps
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.blocks_for(middle) <= num_blocks else (low, middle)
        return low

    def run_time(self, times: StepTimes, num_steps: int, num_prefill: int = 0) -> int:
        """Return the time of the next steps but for prefill, of which the one step has so many tokens, if any.

        Contexts grow by one a step: an arithmetic progression's sum.
        """
        first = times.fixed(self.count + num_prefill) + times.decode_seq * self.count + times.context * self._context
        return num_steps * first + times.context * self.count * (num_steps * (num_steps - 1) // 2)

    def steps_until(self, times: StepTimes, num_steps: int, elapsed: int) -> int:
        """Return the fewest of the next `num_steps` steps (at least 1) that take `elapsed` or more, else all."""
        low, high = 0, num_steps
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.run_time(times, middle) >= elapsed else (middle, high)
        return high
