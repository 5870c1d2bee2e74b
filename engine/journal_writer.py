"""The one thread that writes a journal: group commit, sealing, pruning.

Invariant: operations become durable in the order they were put (FIFO), so the journal is always a prefix of what
happened; a callback or future resolves only after the commit that holds its operation. Knows nothing of dialogues.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import msgspec

from engine.corpus_parts import Extent
from engine.errors import JournalError
from engine.journal_store import AdmitRow, EndRow, StepRow, Store, journal_error
from engine.recent import Recent
from engine.rundir import RunDirectory
from engine.unsealed import SealRow, Unsealed

COMMIT_EVERY_S = 0.02
# How long a commit relies on the lock that the driver took: a node that hung may have lost it.
RELY_S = 1.0
# What may be recorded and not yet durable before `room` makes its callers wait: a few commits' worth. More writes no
# faster, and each byte that waits before an episode is how long its samples do.
MAX_QUEUED_OPS = 8192
MAX_QUEUED_BYTES = 3 << 19


class Admit(msgspec.Struct, frozen=True, gc=False):
    """An episode starts. `size` is what an operation weighs in the queue, in bytes."""

    row: AdmitRow
    size: int


class Step(msgspec.Struct, frozen=True, gc=False):
    """An answer or a failed attempt."""

    row: StepRow
    size: int


class End(msgspec.Struct, frozen=True):
    """An episode ends; `done` runs on `loop` once that is durable."""

    row: EndRow
    size: int
    loop: asyncio.AbstractEventLoop | None = None
    done: Callable[[], None] | None = None


class Barrier(msgspec.Struct, frozen=True):
    """Resolve `future` once everything before is durable, and sealed where asked; `closes` ends the thread."""

    future: "asyncio.Future[None]"
    seals: bool = False
    closes: bool = False


Op = Admit | Step | End | Barrier


class Gauges(msgspec.Struct, frozen=True):
    """How the writer fares. `commit_s` is how long the last commit took; `queued` counts what is not durable yet.

    `unsealed_bytes` is what has ended and is in no part yet, encoded.
    """

    queued: int
    queued_bytes: int
    commits: int
    commit_s: float
    unsealed_bytes: int

    @property
    def named(self) -> dict[str, float]:
        """The figures under the names they have among a run's metrics."""
        return {f"journal/{name}": float(value) for name, value in msgspec.structs.asdict(self).items()}


class Writer:
    """Takes operations from the loop's thread, writes them on its own.

    Owns `store` from here on and closes it when it ends. `unsealed` are the terminal episodes that the store holds
    already. `named` is called on the writer's thread whenever a part has been named, and must not block. After a
    failure everything raises the same JournalError. What is durable is shown to readers; of a local journal, which
    `require_ours` raises for once another one counts, what is sealed, and what `show` is told.
    """

    def __init__(
        self,
        store: Store,
        rundir: RunDirectory,
        extent: Extent,
        *,
        seal_every: int,
        unsealed: Sequence[SealRow],
        named: Callable[[], None] | None = None,
        require_ours: Callable[[], None] | None = None,
    ) -> None:
        self.failure: JournalError | None = None
        self.recent = Recent()
        self._store = store
        self._run_path = rundir.path
        self._is_copied = require_ours is not None
        self._trouble: JournalError | None = None
        self._unsealed = Unsealed(store, rundir, extent, seal_every, unsealed, self._notify, named, require_ours)
        self._changed = threading.Condition()
        self._queue: deque[Op] = deque()
        self._waiting: list[asyncio.Future[None]] = []
        self._watchers: list[asyncio.Future[None]] = []
        self._tails: list[asyncio.Future[None]] = []
        self._last_seq = max([extent.last_seq, *(seq for seq, _ in unsealed)])
        # What was put is counted by the loop's thread alone, what is durable by the writer's: neither needs the lock.
        self._num_put = self._bytes_put = self._num_done = self._bytes_done = self._commits = 0
        self._commit_s = self._last = self._looked = 0.0
        self._is_idle = self._is_urgent = self._is_closing = self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=f"journal-{extent.journal}", daemon=True)
        self._thread.start()

    @property
    def sealer_pid(self) -> int | None:
        """The sealing process's id while there is one."""
        return self._unsealed.pid

    def put(self, op: Admit | Step | End) -> None:
        """Enqueue an operation; never blocks. Raises JournalError after a failure or `close`."""
        if self.failure is not None or self._is_closing:
            self._require_open()
        self._num_put += 1
        self._bytes_put += op.size
        self._queue.append(op)
        if self._is_idle:
            self._notify()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify()

    @property
    def last_seq(self) -> int:
        """The highest seq that readers are shown, -1 when there is none."""
        return self._last_seq

    def show(self, last_seq: int) -> None:
        """Show readers the episodes up to that seq; from any thread."""
        with self._changed:
            if last_seq <= self._last_seq:
                return
            self._last_seq = last_seq
            tails, self._tails = self._tails, []
        _resolve(tails, None)

    def fail(self, trouble: JournalError) -> None:
        """Write nothing more and fail with that; from any thread."""
        self._trouble = trouble
        self._notify()

    async def room(self) -> None:
        """Return once less than a bounded amount is queued. Raises JournalError after a failure."""
        if not self._is_full and self.failure is None and not self._is_closing:
            return
        with self._changed:
            self._require_open()
            if not self._is_full:
                return
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            self._is_urgent = True
            self._changed.notify()
        await future

    async def reach(self, *, seals: bool = False, closes: bool = False) -> None:
        """Return once everything put so far is durable. Raises JournalError when it cannot become so."""
        future = asyncio.get_running_loop().create_future()
        # Under the lock, so that a failure finds either nobody or the one who waits.
        with self._changed:
            self._require_open()
            self._is_closing = closes
            self._queue.append(Barrier(future, seals, closes))
            self._is_urgent = True
            self._changed.notify()
        await future

    async def close(self) -> None:
        """Flush, seal, close; safe to call twice. Raises JournalError after a failure."""
        if not self._is_closing:
            await self.reach(seals=True, closes=True)
        await asyncio.to_thread(self._thread.join)
        if self.failure is not None:
            raise self.failure

    async def watch(self) -> None:
        """Return when the writer has closed; raises JournalError as soon as it fails."""
        with self._changed:
            if self.failure is not None:
                raise self.failure
            if self._is_closed:
                return
            future = asyncio.get_running_loop().create_future()
            self._watchers.append(future)
        await future

    async def grown(self, after_seq: int) -> bool:
        """Return true once an episode that ended with a higher seq is durable, false once the writer has closed."""
        while self._last_seq <= after_seq:
            with self._changed:
                if self.failure is not None:
                    raise self.failure
                if self._is_closed or self._last_seq > after_seq:
                    break
                future = asyncio.get_running_loop().create_future()
                self._tails.append(future)
            await future
        return self._last_seq > after_seq

    def gauges(self) -> Gauges:
        """Return the latest figures."""
        queued, queued_bytes = self._num_put - self._num_done, self._bytes_put - self._bytes_done
        return Gauges(queued, queued_bytes, self._commits, self._commit_s, self._unsealed.num_bytes)

    @property
    def _is_full(self) -> bool:
        return (
            self._num_put - self._num_done >= MAX_QUEUED_OPS or self._bytes_put - self._bytes_done >= MAX_QUEUED_BYTES
        )

    def _require_open(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self._is_closing:
            raise JournalError("a journal must be open to record, got a call after close: this is a bug")

    def _run(self) -> None:
        batch: Sequence[Op] = ()
        try:
            while not self._is_closed:
                batch = self._take()
                if self._trouble is not None:
                    raise self._trouble
                self._write(batch)
        except Exception as error:  # noqa: BLE001  whatever stops the writer must reach those who wait for it
            self._fail(journal_error(self._store.path, error, self._run_path), batch)
        finally:
            self._put_down()

    def _put_down(self) -> None:
        with suppress(Exception):
            self._unsealed.close()
        with suppress(Exception):
            self._store.close()
        with self._changed:
            watchers = self._watchers + self._tails
            self._watchers, self._tails = [], []
        _resolve(watchers, None)

    def _take(self) -> list[Op]:
        """Wait for work, then for the rest of the commit interval unless somebody waits for durability."""
        with self._changed:
            self._is_idle = True
            self._changed.wait_for(lambda: bool(self._queue) or self._unsealed.is_ready or self._trouble is not None)
            self._is_idle = False
            rest_s = self._last + COMMIT_EVERY_S - time.monotonic()
            if rest_s > 0:
                self._changed.wait_for(lambda: self._is_urgent, rest_s)
            self._is_urgent = False
        queue = self._queue
        return [queue.popleft() for _ in range(len(queue))]

    def _write(self, batch: Sequence[Op]) -> None:
        self._last = time.monotonic()
        ends = self._commit(batch)
        self._commit_s = time.monotonic() - self._last
        self.recent.add([(seq, body) for seq, _, body in ends])
        if ends and not self._is_copied:
            self.show(ends[-1][0])
        self._tell_done(batch)
        # What is durable no longer counts: the loop goes on while parts are sealed.
        self._tell_room(batch)
        barriers = [op for op in batch if isinstance(op, Barrier)]
        self._unsealed.add([(seq, body) for seq, _, body in ends])
        if any(b.seals for b in barriers):
            self._unsealed.finish()
        else:
            self._unsealed.advance()
        self.show(self._unsealed.last_seq)
        if any(b.closes for b in barriers):
            self._store.shrink(whole=True)
            self._store.close()
            with self._changed:
                self._is_closed = True
        _resolve([b.future for b in barriers], None)

    def _commit(self, batch: Sequence[Op]) -> list[EndRow]:
        ends = [op.row for op in batch if isinstance(op, End)]
        # The record of an episode that ended holds its steps: those of the same batch need no rows.
        ended = {id_ for _, id_, _ in ends}
        steps = [op.row for op in batch if isinstance(op, Step) and op.row[0] not in ended]
        admits = [op.row for op in batch if isinstance(op, Admit)]
        if admits or steps or ends:
            if not self._is_copied and self._last - self._looked > RELY_S:
                self._unsealed.require_driver()
                self._looked = self._last
            self._store.commit(admits, steps, ends)
            self._commits += 1
        return ends

    def _tell_done(self, batch: Sequence[Op]) -> None:
        for op in batch:
            if isinstance(op, End) and op.loop is not None and op.done is not None:
                _on_loop(op.loop, op.done)

    def _tell_room(self, batch: Sequence[Op]) -> None:
        sizes = [op.size for op in batch if not isinstance(op, Barrier)]
        with self._changed:
            self._num_done += len(sizes)
            self._bytes_done += sum(sizes)
            waiting: list[asyncio.Future[None]] = []
            if not self._is_full:
                waiting, self._waiting = self._waiting, []
        _resolve(waiting, None)

    def _fail(self, failure: JournalError, batch: Sequence[Op]) -> None:
        with self._changed:
            self.failure = failure
            pending = [op.future for op in (*batch, *self._queue) if isinstance(op, Barrier)]
            pending += self._waiting + self._watchers + self._tails
            self._waiting, self._watchers, self._tails = [], [], []
            self._queue.clear()
        _resolve(pending, failure)


def _resolve(futures: Sequence["asyncio.Future[None]"], failure: JournalError | None) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for future in futures:
        by_loop.setdefault(future.get_loop(), []).append(future)
    for loop, some in by_loop.items():
        _on_loop(loop, partial(_set, some, failure))


def _set(futures: Sequence["asyncio.Future[None]"], failure: JournalError | None) -> None:
    for future in futures:
        if future.done():
            continue
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(failure)


def _on_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    # A loop that is closed has nobody left who waits.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call)
