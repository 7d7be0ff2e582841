"""``tui-lab serve``: a base model and the adapters of runs behind OpenAI's HTTP interface."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import socket
import sys
from typing import TYPE_CHECKING

from tui_lab.cli.output import downloads_noted, note, print_text
from tui_lab.core.errors import LabError
from tui_lab.core.paths import expanded
from tui_lab.core.sanitize import sanitize
from tui_lab.models import download
from tui_lab.playground.names import lane_name
from tui_lab.runs import folder
from tui_lab.runs.references import ModelReference, adapter_target, model_target

if TYPE_CHECKING:
    from tui_lab.playground.messages import PlaygroundStatus

KEY_VARIABLE = "TUI_LAB_SERVE_KEY"


def run(args: argparse.Namespace) -> int:
    """Serves until it is interrupted; the exit code. Raises LabError."""
    from tui_lab.playground import server

    key = os.environ.get(KEY_VARIABLE, "")
    if not server.is_loopback(args.host) and not key:
        raise LabError(
            f"other machines reach {sanitize(args.host)}, so a key is needed: set {KEY_VARIABLE} to one, and "
            "clients send it as their API key"
        )
    with downloads_noted():
        targets = [adapter_target(name, args.runs_dir, args.allow_large) for name in args.runs]
    base = model_target(args.model, args.runs_dir, args.allow_large, targets)
    if base.adapter is not None:
        raise LabError(f"--model is the base; name the run {sanitize(args.model)} without --model instead")
    download.check_reachable(base.location, base.revision)
    with server.bind(args.host, args.port) as listening:  # a busy port is known before anything is loaded
        return asyncio.run(_serve(args, base, _names(args), listening, key))


def _names(args: argparse.Namespace) -> dict[str, str]:
    """What each run is called in requests, with where it is."""
    found: dict[str, str] = {}
    for name in args.runs:
        path = expanded(name)
        if (path / "adapter_config.json").is_file() or (path / "config.json").is_file():
            word = re.sub(r"[^\w-]+", "-", path.name).strip("-") or "tuned"
            called = next(n for n in (word, *(f"{word}-{i}" for i in range(2, 99))) if n not in found)
            found[called] = str(path)
        else:
            opened = folder.open_run(name, args.runs_dir)
            found[lane_name(opened, found)] = str(opened.path)
    return found


async def _serve(
    args: argparse.Namespace,
    base: ModelReference,
    names: dict[str, str],
    listening: socket.socket,
    key: str,
) -> int:
    import uvicorn

    from tui_lab.playground import server
    from tui_lab.playground.client import PlaygroundClient

    last = ""

    def show(status: PlaygroundStatus) -> None:
        nonlocal last
        if status.state == "loading" and status.text != last:
            last = status.text
            note(sanitize(last))

    client = PlaygroundClient(show)
    try:
        await client.load(
            base.location,
            revision=base.revision,
            quantization="nf4" if args.four_bit else args.quantization,
            allow_large=args.allow_large,
        )
        for name, location in names.items():
            await client.add(name, location)
        models = {"base": sanitize(base.location), **{name: sanitize(place) for name, place in names.items()}}
        app = server.LabServer(client, models, key).app(server.is_loopback(args.host))
        host = f"[{args.host}]" if ":" in args.host else args.host
        address = f"http://{host}:{listening.getsockname()[1]}/v1"
        print_text(f"serving {', '.join(models)} at {address}; Ctrl+C ends it")
        sys.stdout.flush()
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
        await uvicorn.Server(config).serve(sockets=[listening])
    finally:
        await client.close()
    return 0
