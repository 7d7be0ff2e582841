"""Whether the hub can be reached.

Its clients retry for half a minute on a machine without a network. One connection attempt decides instead."""

from __future__ import annotations

import socket
import threading
import urllib.parse
import urllib.request

#: A slower connection is of no use for models and data sets.
CONNECT_S = 2.0


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
    except ValueError:
        return False
    return _accepts(url.hostname or "", port)


def _accepts(host: str, port: int) -> bool:
    """Whether a connection is accepted in time. In a thread: to look up a name has no deadline."""
    answers: list[bool] = []

    def connect() -> None:
        try:
            with socket.create_connection((host, port), timeout=CONNECT_S):
                answers.append(True)
        except (OSError, ValueError):
            answers.append(False)

    thread = threading.Thread(target=connect, name="hub", daemon=True)
    thread.start()
    thread.join(CONNECT_S)
    return bool(answers) and answers[0]
