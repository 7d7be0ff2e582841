"""Whether the hub can be reached.

Its clients retry for half a minute on a machine without a network. One connection attempt decides instead,
and without a connection the local cache is read directly."""

from __future__ import annotations

import contextlib
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator

CONNECT_S = 4.0  # a slower connection is of no use for models and data sets


def reachable() -> bool:
    """Whether the hub, or the proxy to it, accepts a connection. False in offline mode."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    url = urllib.parse.urlsplit(constants.ENDPOINT)
    proxy = urllib.request.getproxies().get(url.scheme)
    if proxy and not urllib.request.proxy_bypass(url.hostname or ""):
        url = urllib.parse.urlsplit(proxy if "://" in proxy else f"{url.scheme}://{proxy}")
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
        with socket.create_connection((url.hostname or "", port), timeout=CONNECT_S):
            return True
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def cache_only() -> Iterator[None]:
    """Inside, the hub's clients read only their cache, as with HF_HUB_OFFLINE."""
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before
