"""The function of each command, imported when the command runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable

Handler = Callable[[argparse.Namespace], int]


def handler(name: str) -> Handler:
    """The function of a command: it takes the parsed arguments and returns the exit code."""
    group, _, action = name.partition(" ")
    match group:
        case "lab":
            from tui_lab.cli.lab import open_lab

            return open_lab
        case "train" | "watch" | "resume" | "steer":
            from tui_lab.cli import train

            return {
                "train": train.train,
                "watch": train.watch,
                "resume": train.resume,
                "steer": train.steer,
            }[group]
        case "models" | "presets" | "data" | "runs" | "locate" | "doctor":
            from tui_lab.cli import show

            return {
                "models": show.models,
                "presets": show.presets,
                "data": show.data_preview,
                "runs": show.runs,
                "locate": show.locate,
                "doctor": show.doctor,
            }[group]
        case "queue" | "sweep":
            from tui_lab.cli import queue

            actions: dict[str, Handler] = {
                "add": queue.add,
                "list": queue.list_queue,
                "remove": queue.remove,
                "start": queue.start,
                "stop": queue.stop,
                "": queue.show_sweep,
            }
            return actions[action]
        case "demo":
            from tui_lab.cli import demo

            return demo.run
        case "export":
            from tui_lab.cli import export

            return export.run
        case "forecast":
            from tui_lab.cli import forecast

            return forecast.run
        case "generate":
            from tui_lab.cli import generate

            return generate.run
        case "logs":
            from tui_lab.cli import logs

            return logs.logs
        case "replay":
            from tui_lab.cli import replay

            return replay.run
        case "report":
            from tui_lab.cli import report

            return report.run
        case "retention":
            from tui_lab.cli import retention

            return retention.run
        case "settings":
            from tui_lab.cli import settings

            return settings.run
        case "strength":
            from tui_lab.cli import strength

            return strength.run
    raise ValueError(f"there is no command {name!r}")
