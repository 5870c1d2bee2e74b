"""From trained weights to a checkpoint in a registry."""

import time
from pathlib import Path

from engine.checkpoints import Checkpoint, Lineage, Registry, publish
from engine.weights_file import fingerprint_weights


def publish_trained(
    registry: Registry, version: str, weights: Path, base: Path, lineage: Lineage, *, is_full: bool
) -> Path:
    """Move the weights that a training step left into the registry, once; return the checkpoint's place.

    Raises CheckpointError when they are not what `is_full` says they are.
    """
    place = registry.place(version)
    if not place.exists():
        registry.path.mkdir(mode=0o700, exist_ok=True)
        checkpoint = Checkpoint(
            version=version,
            kind="full" if is_full else "lora",
            base=fingerprint_weights(base),
            files={},
            lineage=lineage,
            made_at=time.time(),
        )
        publish(weights, place, checkpoint)
    return place
