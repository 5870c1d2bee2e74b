"""What of a run leaves this machine and its cluster: to which host the texts of each role go, and what stands in them.

Pure: a configuration and a protocol in, a table out; nothing is resolved or reached. A pool that is served here, or on
the cluster that is named, is inside. What a gateway on this machine passes on is beyond what is seen here.
"""

from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import msgspec

from engine.config import Config
from engine.config_sections import EmbedderConfig, OpenAIConfig
from engine.hosts import host_of, is_loopback
from engine.protocol import EMBEDDER, ProtocolSpec, Sight

HERE: Final = "this machine"
UNREADABLE: Final = "a host that cannot be read"
REMEDY: Final = 'privacy.egress = "allow"'
HEADS: Final = ("who", "model", "host", "where", "sees")
TUNED: Final = Sight(note="the training rows")
COPIED: Final = Sight(note="whole episodes and inputs")
ENDPOINT: Final = "endpoint_override"


class Outlet(msgspec.Struct, frozen=True, kw_only=True):
    """Where the texts of one role, or of another part of a run, go. `setting` is the key that says so, if one does."""

    who: str
    model: str
    host: str
    is_inside: bool
    sees: Sight
    setting: str = ""

    @property
    def row(self) -> tuple[str, ...]:
        """The outlet as a row under `HEADS`."""
        return (self.who, self.model, self.host, "inside" if self.is_inside else "OUTSIDE", self.sees.words)


def outlets(config: Config, spec: ProtocolSpec, what: str = "") -> list[Outlet]:
    """Return where the texts of each role go, and those of the embedder where one is needed.

    `what` names the part of the work, where a run has several.
    """
    behind = f" ({what})" if what else ""
    found = [
        _role_outlet(config, f"role {role}{behind}", config.roles[role], spec.sight(role))
        for role in spec.roles
        if role in config.roles
    ]
    if spec.needs_embedder:
        found.append(embedder_outlet(config.embedder, spec.sight(EMBEDDER), _cluster(config), behind))
    return found if what else [*found, *target_outlets(config)]


def target_outlets(config: Config) -> list[Outlet]:
    """Return where the run is copied, if it is."""
    if not config.corpus.target:
        return []
    parts = urlsplit(config.corpus.target)
    options = [*parse_qsl(parts.query), *config.corpus.target_options.items()]
    hosts = [value for name, value in options if name == ENDPOINT] or [parts.netloc]
    # A bucket may have any name: that of this machine says nothing of where it is.
    is_named = parts.scheme in ("hdfs", "viewfs") or any(name == ENDPOINT for name, _ in options)
    is_inside = parts.scheme == "file" or (is_named and all(is_loopback(f"//{host}") for host in hosts))
    host = HERE if parts.scheme == "file" else ", ".join(hosts)
    return [Outlet(who="the copy", model="", host=host, is_inside=is_inside, sees=COPIED, setting="corpus.target")]


def embedder_outlet(chosen: EmbedderConfig, sees: Sight, cluster: str = HERE, behind: str = "") -> Outlet:
    """Return where an embedder's texts go."""
    if chosen.kind == "local":
        return Outlet(who=EMBEDDER + behind, model=chosen.model, host=cluster, is_inside=True, sees=sees)
    return _remote(EMBEDDER + behind, chosen.model, chosen.base_url, "embedder.base_url", sees)


def tuning_outlet(config: Config, name: str) -> Outlet:
    """Return where the rows go that the endpoint of a model is to train it on."""
    return _role_outlet(config, "fine-tuning", name, TUNED)


def rows_outlet(config: Config) -> Outlet:
    """Return where the training rows go that the embedder compares with those of earlier rounds."""
    return embedder_outlet(config.embedder, TUNED, _cluster(config), " (rows)")


def _role_outlet(config: Config, who: str, name: str, sees: Sight) -> Outlet:
    model = config.models[name]
    if isinstance(model, OpenAIConfig):
        return _remote(who, model.model, model.base_url, f"models.{name}.base_url", sees)
    return Outlet(who=who, model=model.model, host=_cluster(config), is_inside=True, sees=sees)


def _remote(who: str, model: str, url: str, setting: str, sees: Sight) -> Outlet:
    host = host_of(url) or UNREADABLE
    return Outlet(who=who, model=model, host=host, is_inside=is_loopback(url), sees=sees, setting=setting)


def _cluster(config: Config) -> str:
    return HERE if config.ray.address is None else f"the cluster at {config.ray.address}"


def refusals(found: Iterable[Outlet], egress: str) -> list[str]:
    """Return one sentence for each outlet that is outside, none where that is allowed."""
    if egress == "allow":
        return []
    return [
        f"{one.who} must be {'kept' if one.sees is COPIED else 'served'} on this machine or its cluster, got"
        f" {one.setting} at {one.host}, which would see: {one.sees.words}; set {REMEDY} if these texts may go there"
        for one in found
        if not one.is_inside
    ]


def outside(found: Sequence[Outlet]) -> list[str]:
    """Return the hosts outside that texts go to, each once."""
    return list(dict.fromkeys(one.host for one in found if not one.is_inside))
