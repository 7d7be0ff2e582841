"""Is the hub within reach? Its clients try again for half a minute before they give up on a machine
without a network; one quick look at the connection spares people that wait, and what lies in the local
cache is then read without asking."""

from __future__ import annotations

import contextlib
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator

CONNECT_S = 4.0  # a connection that takes longer is none to load a model or a data set over


def reachable() -> bool:
    """Does the hub (or the proxy that leads to it) accept a connection? False where offline mode is set."""
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
    """Lets the hub's clients read their cache alone for a while, as HF_HUB_OFFLINE does for a process."""
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before
