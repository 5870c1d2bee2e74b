"""What the address of an endpoint may be. Messages about one never quote what may be a password or a key."""

import re
from urllib.parse import SplitResult, urlsplit

from engine.api_keys import shown
from engine.errors import InputError


def split_url(base_url: str) -> tuple[SplitResult, str]:
    """Split a URL and spell its port. Raises InputError for what no client takes, and for what belongs to no address.

    A query or a fragment is refused as credentials are: paths of calls are put behind the URL, and keys stand there.
    """
    if "@" in base_url:
        host = re.split(r"[/?#:]", base_url.rpartition("@")[2])[0]
        raise InputError(f"base_url must hold no credentials, got some for {host!r}: set api_key_env instead")
    parts = urlsplit(base_url)
    start = f"{parts.scheme}://{parts.netloc}"
    if parts.query or parts.fragment:
        raise InputError(f"base_url must end with its path, got a query behind {start!r}: set api_key_env for a key")
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        raise InputError(f"base_url must have a port below 65536, got {start!r}: correct it") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"base_url must be an http or https URL, got {shown(base_url)}: for example https://HOST/v1")
    return parts, port


def url_problems(where: str, base_url: str) -> list[str]:
    """Return what is wrong with the URL of the endpoint at `where`, one sentence each."""
    try:
        split_url(base_url)
    except (InputError, ValueError) as refused:
        return [f"{where}.{problem}" for problem in getattr(refused, "problems", [f"base_url is no URL: {refused}"])]
    return []
