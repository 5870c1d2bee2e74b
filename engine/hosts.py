"""Which host a URL names, and whether it is this machine; pure, and nothing is resolved.

Invariant: what is spelled in any unusual way (user names, octal or shortened addresses, other scripts, a last dot) is
not this machine, since the next reader of the URL may see another host in it, or ask a name server for it.
"""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

LOCALHOST: Final = "localhost"
LOOPBACK_V4: Final = IPv4Network("127.0.0.0/8")
LOOPBACK_V6: Final = IPv6Address("::1")

_PLAIN: Final = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::[0-9]{1,5})?", re.ASCII)


def is_loopback_host(host: str) -> bool:
    """Whether a host's name or address is this machine: localhost, 127.0.0.0/8 or ::1."""
    plain = host.lower() if host.isascii() else ""
    if plain == LOCALHOST:
        return True
    try:
        address: IPv4Address | IPv6Address = ip_address(plain)
    except ValueError:
        return False
    return address in LOOPBACK_V4 if isinstance(address, IPv4Address) else address == LOOPBACK_V6


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine, beyond doubt."""
    try:
        netloc = urlsplit(url).netloc
    except ValueError:
        return False
    found = _PLAIN.fullmatch(netloc.lower()) if netloc.isascii() else None
    return found is not None and is_loopback_host(found["v6"] or found["name"])


def host_of(url: str) -> str:
    """Return the host that a URL names, without a user's name or a password; "" where none can be read."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
