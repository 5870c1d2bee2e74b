"""An `Embedder` in virtual time: seeded or recorded similarities after a modelled delay."""

from collections.abc import Sequence

from engine.clock import Clock
from engine.simulation.answers import Similarities


class SimulatedEmbedder:
    """Similarities that take `batch_s` per call and `pair_s` per pair, in virtual seconds."""

    def __init__(
        self, similarities: Similarities, clock: Clock, *, batch_s: float = 0.005, pair_s: float = 0.0002
    ) -> None:
        self._similarities = similarities
        self._clock = clock
        self._batch_s = batch_s
        self._pair_s = pair_s

    @property
    def identity(self) -> str:
        """A name of its own: no fitted cut holds for it."""
        return "simulated"

    async def start(self) -> None:
        """Do nothing: there is nothing to load."""

    async def similarities(self, pairs: Sequence[tuple[str, str]]) -> tuple[float, ...]:
        """Return the similarity of each pair."""
        await self._clock.sleep(self._batch_s + self._pair_s * len(pairs))
        return self._similarities.of(pairs)

    async def close(self) -> None:
        """Do nothing: nothing was started."""
