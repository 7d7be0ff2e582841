"""``python -m tests.ui.demo.record_cast``: records ``tui-lab demo --replay`` in a terminal of its own as
asciicast, docs/demo.cast, which ``asciinema play`` shows. The format is a header and one event a line
(https://docs.asciinema.org/manual/asciicast/v2/).

Not a test: it is run by hand when the demo or its recording change."""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import pty
import select
import struct
import sys
import termios
import time

from tests.paths import ROOT

CAST = ROOT / "docs" / "demo.cast"
#: Tune shows no path of the machine at this size.
COLUMNS, ROWS = 100, 30
#: Longest time in which nothing happens, and the time in which writes are one event.
IDLE_S, FRAME_S = 2.0, 0.04
#: What the bar says once the story has been told, and how long that is shown.
OVER, LINGER_S = "the demo is over", 5.0
MOST_S = 300.0

Event = tuple[float, str]


def record(command: list[str], columns: int = COLUMNS, rows: int = ROWS) -> list[Event]:
    """What ``command`` writes to a terminal until the demo is over, with the seconds since its start."""
    child, terminal = pty.fork()
    if child == 0:
        words = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.execve(command[0], command, {**os.environ, **words})
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    began, over = time.monotonic(), 0.0
    events: list[Event] = []
    seen = ""
    while (now := time.monotonic() - began) < MOST_S:
        if over and now > over + LINGER_S:
            os.write(terminal, b"q")
            over = now
        if not select.select([terminal], [], [], 0.1)[0]:
            continue
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:  # the program has ended
            break
        if not data:
            break
        text = decoder.decode(data)
        seen = (seen + text)[-4_000:]
        if not over and OVER in seen:
            over = now
        if events and now - events[-1][0] < FRAME_S:
            events[-1] = (events[-1][0], events[-1][1] + text)
        else:
            events.append((now, text))
    os.close(terminal)
    os.waitpid(child, 0)
    return events


def shortened(events: list[Event]) -> list[Event]:
    """The same with no gap over IDLE_S."""
    made: list[Event] = []
    at = before = 0.0
    for t, text in events:
        at += min(t - before, IDLE_S)
        before = t
        made.append((round(at, 3), text))
    return made


def cast(events: list[Event], columns: int = COLUMNS, rows: int = ROWS) -> str:
    """The file's text."""
    header = {
        "version": 2,
        "width": columns,
        "height": rows,
        "title": "tui-lab demo --replay",
        "idle_time_limit": IDLE_S,
        "env": {"TERM": "xterm-256color"},
    }
    lines = [header, *([t, "o", text] for t, text in events)]
    return "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)


def main() -> None:
    events = shortened(record([sys.executable, "-m", "tui_lab", "demo", "--replay"]))
    CAST.write_text(cast(events), encoding="utf-8")
    print(f"{CAST.name}: {CAST.stat().st_size:,} bytes, {events[-1][0]:.0f} s")


if __name__ == "__main__":
    main()
