"""Others' ways to drive the same simulated replica: bare with all calls at once, turn-synchronous waves, gather.

They pay no wire and no embedder: whatever they are compared with, this is in their favour. One replica, first come
first served. Invariant: a contender of a seed does the work of the product of that seed, which its trace hash proves.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.real.outcome import Finish, Outcome
from benchmarks.simulated.recorder import Recorder
from benchmarks.simulated.workload import Workload
from engine.backend import Request
from engine.dialogue import Dialogue
from engine.planning import Plan, RunCast
from engine.record import EpisodeKey
from engine.simulation.answers import Answer
from engine.simulation.jobs import Job
from engine.simulation.latency import PICOSECONDS
from engine.simulation.replica import Replica
from engine.steps import Generate, Leaf, Reply, Usage

Place = tuple[str, str]


class Feed:
    """Dialogues outside the scheduler: turns their open steps into jobs and back. Similarities cost nothing here."""

    def __init__(self, workload: Workload) -> None:
        self.plan: Plan = workload.plan()
        self.keys = workload.keys(self.plan)
        self.recorder = Recorder(workload.answers())
        self._cast = RunCast(self.plan)
        self._tokens = workload.make_tokens()
        self._similarities = workload.similarities()
        self._dialogues: dict[str, Dialogue[Any]] = {}
        self._answers: dict[Place, Answer] = {}

    def start(self, key: EpisodeKey) -> list[Job]:
        """Begin a dialogue; return its first calls."""
        dialogue = self._dialogues[str(key)] = Dialogue(self._cast.play(key))
        return self._go_on(str(key), dialogue, dialogue.start())

    def deliver(self, job: Job) -> list[Job]:
        """Give a call's answer; return the calls that opened."""
        episode, path, _ = job.key
        answer, dialogue = self._answers.pop((episode, path)), self._dialogues[episode]
        self._tokens.completed(episode, job.tokens, answer.num_tokens)  # type: ignore[arg-type]  # made by these tokens
        reply = Reply(answer.text, finish=answer.finish, probabilities=answer.probabilities, usage=usage_of(job))
        return self._go_on(episode, dialogue, dialogue.deliver(path, reply))

    def _go_on(self, episode: str, dialogue: Dialogue[Any], opened: list[Leaf]) -> list[Job]:
        jobs = []
        while opened:
            leaf = opened.pop()
            if isinstance(leaf, Generate):
                jobs.append(self._job(episode, leaf))
            else:
                opened += dialogue.deliver(leaf.path, self._similarities.of(leaf.pairs))
        if dialogue.is_done:
            assert dialogue.error is None, f"{episode} must complete, got {dialogue.error}"
            del self._dialogues[episode]
            self._tokens.forget(episode)
        return jobs

    def _job(self, episode: str, leaf: Generate) -> Job:
        messages = leaf.view.messages()
        request = Request(episode, leaf.path, 0, leaf.role, leaf.purpose, messages, leaf.sampling, leaf.value)
        answer = self.recorder.answer(request)
        self._answers[episode, leaf.path] = answer
        prompt = self._tokens.prompt(episode, messages, answer.text, answer.num_content)
        return Job(request.key, prompt, answer.num_tokens)


def usage_of(job: Job) -> Usage:
    """Return the token counts of a finished job."""
    return Usage(job.tokens.num_tokens, job.length, job.cached or 0)


class _Engine:
    """One replica and a clock of its own."""

    def __init__(self, workload: Workload, recorder: Recorder) -> None:
        self.replica = Replica("bare", workload.shape, workload.coefficients)
        self.now = 0
        self.finishes: list[Finish] = []
        self._works = recorder.works

    def submit(self, jobs: Sequence[Job]) -> None:
        self.replica.submit(self.now, jobs)

    def step(self) -> list[Job]:
        """Go to the next event; return the jobs that ended there."""
        due = self.replica.next_event()
        assert due is not None, "a replica with open jobs must have a next event"
        self.now = max(self.now, due)
        done = [ended.job for ended in self.replica.advance(self.now)]
        at_s = self.now / PICOSECONDS
        self.finishes += [Finish(at_s, usage_of(job), self._works[job.key[0], job.key[1]]) for job in done]
        return done

    def outcome(self) -> Outcome:
        return Outcome(self.now / PICOSECONDS, tuple(self.finishes), self.replica.tally.preemptions)


def gather(workload: Workload) -> Outcome:
    """All dialogues at once, each call sent as soon as it can be asked."""
    feed = Feed(workload)
    engine = _Engine(workload, feed.recorder)
    opened = [job for key in feed.keys for job in feed.start(key)]
    num_open = len(opened)
    engine.submit(opened)
    while num_open:
        done = engine.step()
        opened = [job for one in done for job in feed.deliver(one)]
        num_open += len(opened) - len(done)
        if opened:
            engine.submit(opened)
    return engine.outcome()


def in_waves(workload: Workload, size: int) -> Outcome:
    """Groups of `size` dialogues, one after the other; in a group every dialogue waits for the slowest of its wave."""
    feed = Feed(workload)
    engine = _Engine(workload, feed.recorder)
    for start in range(0, len(feed.keys), size):
        opened = [job for key in feed.keys[start : start + size] for job in feed.start(key)]
        while opened:
            done: list[Job] = []
            engine.submit(opened)
            while len(done) < len(opened):
                done += engine.step()
            opened = [job for one in done for job in feed.deliver(one)]
    return engine.outcome()


class Calls:
    """Every call of a workload, with its depth; `bare` feeds them all at once in some order."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        feed = Feed(workload)
        self._feed = feed
        self.depth: dict[Place, int] = {}
        self._calls: dict[Place, Job] = {}
        for key in feed.keys:
            opened, depth = feed.start(key), 0
            while opened:
                for job in opened:
                    self.depth[job.key[:2]] = depth
                    self._calls[job.key[:2]] = job
                opened, depth = [after for job in opened for after in feed.deliver(job)], depth + 1

    @property
    def num_blocks(self) -> int:
        """KV blocks that hold all that is computed: the working set of all dialogues at once."""
        return len({block for job in self._calls.values() for block in job.tokens.grown(job.length)})

    def by_turn(self) -> list[Place]:
        """Return all first calls, then all second ones."""
        return sorted(self._calls, key=self.depth.__getitem__)

    def by_groups(self, size: int) -> list[Place]:
        """Return the calls turn by turn in groups of `size` dialogues, one group after the other."""
        group = {str(key): number // size for number, key in enumerate(self._feed.keys)}
        return sorted(self._calls, key=lambda place: (group[place[0]], self.depth[place]))

    def by_dialogue(self) -> list[Place]:
        """Return the calls dialogue by dialogue."""
        return list(self._calls)

    def bare(self, order: Iterable[Place]) -> Outcome:
        """Feed the bare replica all calls at once, no dependencies, in this order."""
        engine = _Engine(self._workload, self._feed.recorder)
        made = self._calls
        engine.submit([Job(made[place].key, made[place].tokens, made[place].length) for place in order])
        while len(engine.finishes) < len(made):
            engine.step()
        return engine.outcome()
