"""What one engine holds: whole weights, LoRA adapters upon them, and the versions that these make.

A version is a checksum: of the parameters as the workers hold them, or of those and an adapter. A fresh engine on the
same directories has the same version. Requests are salted with their version and the load that brought it: a load
empties no prefix cache, and what one load computed must never be found under another. Invariant: `newest` is held.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.checkpoints import ADAPTER_CONFIG
from engine.record import JOINT
from engine.weights_file import file_digest, fingerprint_weights

_EMPTY_DIGEST: Final = hashlib.sha256().hexdigest()


class Use(msgspec.Struct, frozen=True):
    """One request's claim on a version. `adapter` is vLLM's `LoRARequest`, None for the whole weights alone."""

    version: str
    adapter: Any
    num_loads: int

    @property
    def salt(self) -> str:
        """What keeps its prefixes apart from those of other versions and loads."""
        return f"{self.version}:{self.num_loads}"


class Weights:
    """The versions of one engine. `llm` is its `AsyncLLM`, `path` the model directory it was started on."""

    def __init__(self, llm: Any, path: str) -> None:
        self.newest = ""
        self._llm = llm
        self._path = path
        self._whole = ""
        self._needs_files = False
        self._adapters: dict[str, Any] = {}
        self._num_adapters = 0
        # Versions that were put in place of another, oldest first: a request that began before one was mixed by it.
        self._loads: list[str] = []
        self._uses: Counter[str] = Counter()
        self._left = asyncio.Event()

    @property
    def versions(self) -> tuple[str, ...]:
        """All versions that can be sampled under."""
        return tuple(dict.fromkeys((self._whole, *self._adapters, self.newest))) if self._whole else ()

    async def open(self, adapter: str = "") -> None:
        """Find out what a started engine holds, and add an adapter ("" for none)."""
        self._whole = self.newest = await self._read()
        if adapter:
            self.newest = await self.add(adapter)
        self._loads.append(self.newest)

    def begin(self, wanted: str = "") -> Use:
        """Claim a version for one request: the one that is wanted, or the newest where it is not held."""
        version = wanted if wanted in self._adapters or (wanted and wanted == self._whole) else self.newest
        self._uses[version] += 1
        return Use(version, self._adapters.get(version), len(self._loads))

    def end(self, use: Use) -> str:
        """Give a claim back; return the version or, joined, the versions that the request was sampled under."""
        self._uses[use.version] -= 1
        if not self._uses[use.version]:
            del self._uses[use.version]
            self._left.set()
        return JOINT.join(dict.fromkeys((use.version, *self._loads[use.num_loads :])))

    async def reload(self, path: str, adapter: str = "") -> str:
        """Put other whole weights, and an adapter upon them, in place of everything; return the version.

        The engine must be paused. When this raises, what the engine holds is not known.
        """
        # Read from the disk once: the checksum of the files is taken while the workers load them.
        files = asyncio.create_task(asyncio.to_thread(fingerprint_weights, Path(path))) if self._needs_files else None
        try:
            await self._llm.collective_rpc("reload_weights", kwargs={"weights_path": path})
        finally:
            if files is not None:
                await asyncio.wait([files])
        self._path = path
        self._adapters.clear()
        self._whole = await self._read("" if files is None else files.result())
        version = await self.add(adapter) if adapter else self._whole
        self.newest = version
        self._loads.append(version)
        await self._llm.update_weight_version(version)
        return version

    async def add(self, adapter: str) -> str:
        """Put an adapter beside what is held ("" for none at all); return the version."""
        from vllm.lora.request import LoRARequest

        if not adapter:
            return self._whole
        version = await asyncio.to_thread(adapter_version, self._whole, Path(adapter))
        if version not in self._adapters:
            self._num_adapters += 1
            request = LoRARequest(version, self._num_adapters, adapter)
            await self._llm.add_lora(request)
            self._adapters[version] = request
        return version

    def serve(self, version: str) -> None:
        """Make a version that is held the newest."""
        if version in self.versions:
            self.newest = version

    async def remove(self, version: str) -> None:
        """Drop an adapter once no request is sampled under it; whole weights stay."""
        while self._uses[version]:
            self._left.clear()
            await self._left.wait()
        request = self._adapters.get(version)
        if request is not None and version != self.newest:
            del self._adapters[version]
            await self._llm.remove_lora(request.lora_int_id)

    async def _read(self, files: str = "") -> str:
        """Return one checksum over all parameters as the workers hold them."""
        digests: dict[str, str] = {}
        for worker in await self._llm.compute_weight_checksums():
            # The same parameter has a longer name where adapters can be put upon it.
            digests |= {name.replace(".base_layer.", "."): digest for name, digest in worker.items()}
        if _EMPTY_DIGEST in digests.values():
            # Some CPU kernels pack weights away and leave empty tensors: the file's checksum stands in for those.
            self._needs_files = True
            digests["files"] = files or await asyncio.to_thread(fingerprint_weights, Path(self._path))
        return combine_checksums(digests)


def combine_checksums(digests: Mapping[str, str]) -> str:
    """Return one sha256 over named checksums, whatever their order."""
    lines = "".join(f"{name}={digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def adapter_version(whole: str, adapter: Path) -> str:
    """Return the version of an adapter upon whole weights of that version: its tensors and its scale count."""
    parts = {"adapter": fingerprint_weights(adapter), "config": file_digest(adapter / ADAPTER_CONFIG), "whole": whole}
    return combine_checksums(parts)
