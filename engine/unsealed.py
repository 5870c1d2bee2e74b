"""Terminal episodes on their way from the journal into parts: part, manifest, prune, in this order.

Invariant: one part is formed at a time, in order of seq; rows are pruned only once a manifest that is durable names
their part; nothing is formed or named once another driver has the run. Used by the writer's thread alone. Knows
nothing of queues or dialogues.
"""

import itertools
from collections import deque
from collections.abc import Callable, Sequence

from engine.corpus_parts import Extent, Part, keep_part, name_part
from engine.errors import JournalError
from engine.journal_store import Store
from engine.rundir import RunDirectory
from engine.sealing import Job, Sealer, form_encoded

MAX_PART_BYTES = 32 << 20
# Encoded records held back while parts are formed elsewhere; beyond it the writer waits, and with it the loop.
MAX_UNSEALED_BYTES = 64 << 20

SealRow = tuple[int, bytes]
"""An episode's seq and its encoded record."""


class Unsealed:
    """What has ended and is in no part yet, `num_bytes` encoded.

    `rows` are those the store holds already, in order of seq.
    `wake` is called from another thread when `is_ready` becomes true, `named` whenever a part has been named.
    `require_ours`, called from any thread before a part is there and before it is named, raises once another journal
    counts.
    """

    def __init__(
        self,
        store: Store,
        rundir: RunDirectory,
        extent: Extent,
        seal_every: int,
        rows: Sequence[SealRow],
        wake: Callable[[], None],
        named: Callable[[], None] | None = None,
        require_ours: Callable[[], None] | None = None,
    ) -> None:
        self._require_life = require_ours or (lambda: None)
        self._driver = rundir.name_in_lock()
        self._extent = extent
        self._named = named
        self._store, self._rundir, self._seal_every, self._wake = store, rundir, seal_every, wake
        self._rows = deque(rows)
        self.num_bytes = sum(len(body) for _, body in rows)
        self._sealer = Sealer()
        self._job: Job | None = None

    @property
    def last_seq(self) -> int:
        """The highest sealed seq, -1 when nothing is sealed."""
        return self._extent.last_seq

    @property
    def is_ready(self) -> bool:
        """Whether a part has been formed and waits for its name."""
        return self._job is not None and self._job.is_done

    @property
    def pid(self) -> int | None:
        """The sealing process's id while there is one."""
        return self._sealer.pid

    def add(self, rows: Sequence[SealRow]) -> None:
        """Take up episodes that have ended, in order of seq, and are durable in the store."""
        self._rows.extend(rows)
        self.num_bytes += sum(len(body) for _, body in rows)

    def advance(self) -> None:
        """Name what is formed and form what is due; wait only while too much is held back."""
        while self._job is not None or self._is_due:
            if self._job is None:
                self._form()
            elif self._job.is_done or self.num_bytes > MAX_UNSEALED_BYTES:
                self._name(self._job.part())
            else:
                return

    def finish(self) -> None:
        """Move everything into parts."""
        while self._job is not None or self._rows:
            if self._job is None:
                self._form()
            else:
                self._name(self._job.part())

    @property
    def _is_due(self) -> bool:
        return len(self._rows) >= self._seal_every or self.num_bytes >= MAX_PART_BYTES

    def require_driver(self) -> None:
        """Raise JournalError once another driver has, or had, the run: a node that hung may have lost its lock.

        Nothing can be told where no driver had it in the beginning, or while its name cannot be read.
        """
        if self._driver and self._rundir.name_in_lock() not in (self._driver, None):
            holder = self._rundir.holder()
            who = f"pid {holder.pid} on {holder.host}" if holder is not None else "another driver"
            raise JournalError(
                f"a run must be played by one driver, got it taken up by {who} meanwhile: leave it to that"
            )

    def _require_ours(self) -> None:
        self.require_driver()
        self._require_life()

    def _form(self) -> None:
        bodies = self._next_bodies()
        if self._sealer.is_worth(sum(map(len, bodies))):
            self._job = Job(self._sealer, self._rundir, self._extent, bodies, self._wake, self._require_ours)
        else:
            self._name(keep_part(self._rundir, *form_encoded(self._extent.next_file, bodies), self._require_ours))

    def _next_bodies(self) -> list[bytes]:
        """The records of the next part: at least one."""
        bodies: list[bytes] = []
        num_bytes = 0
        for _, body in itertools.islice(self._rows, self._seal_every):
            bodies.append(body)
            num_bytes += len(body)
            if num_bytes >= MAX_PART_BYTES:
                break
        return bodies

    def _name(self, part: Part) -> None:
        self._job = None
        self._require_ours()
        self._extent = name_part(self._rundir, self._extent, part)
        if self._named is not None:
            self._named()
        self._store.prune_sealed(part.last_seq)
        while self._rows and self._rows[0][0] <= part.last_seq:
            self.num_bytes -= len(self._rows.popleft()[1])
        self._store.shrink()

    def close(self) -> None:
        """End what is being formed, unnamed, and the sealing process."""
        if self._job is not None:
            self._job.wait()
        self._sealer.close()
