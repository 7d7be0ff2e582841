"""The recorded session: the committed file is a well-formed asciicast of the whole demo, small and without
idle time; the recorder records what a terminal shows."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from itertools import pairwise

from tests.screen import Screen
from tests.ui.demo.record_cast import CAST, COLUMNS, IDLE_S, ROWS, cast, record, shortened
from tests.ui.demo.record_demo import PATH
from tests.ui.helpers import screen_text, until
from tui_lab.core.settings import Settings
from tui_lab.ui.app import LabApp
from tui_lab.ui.demo.script import CHAPTERS
from tui_lab.ui.widgets.lane_view import LaneView
from tui_lab.ui.widgets.tab_bar import TabBar

MOST_BYTES = 600 << 10
#: Rows of the demo's caption, below the pane.
CAPTION_ROWS = 4


def still_screens(events: list[tuple[float, str, str]]) -> Iterator[str]:
    """What the terminal shows wherever nothing is written for a while."""
    screen = Screen(COLUMNS, ROWS)
    for (at, _, text), (after, _, _) in pairwise([*events, (1e9, "o", "")]):
        screen.feed(text.encode())
        if after - at > 0.15:
            yield screen.text


def test_the_committed_cast_is_well_formed_and_complete() -> None:
    text = CAST.read_text(encoding="utf-8")
    assert len(text.encode()) < MOST_BYTES
    header, *events = map(json.loads, text.splitlines())
    assert (header["version"], header["width"], header["height"]) == (2, COLUMNS, ROWS)
    assert all(len(event) == 3 and event[1] == "o" and isinstance(event[2], str) for event in events)
    times = [event[0] for event in events]
    assert all(0 <= after - before <= IDLE_S + 0.01 for before, after in pairwise(times))
    assert 45 <= times[-1] <= 120, "about a minute"
    shown = "".join(event[2] for event in events)
    screens = "\n".join(still_screens(events))
    for text in (*(chapter.title for chapter in CHAPTERS), "recorded earlier", "the demo is over"):
        assert text in screens, text
    assert not PATH.findall(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", " ", shown)), "no path of a machine"
    assert "Traceback" not in shown


async def test_the_committed_cast_shows_the_panes_as_they_are_now() -> None:
    """Their header, their lines of tabs and the frames of lanes: who changes these records the cast anew."""
    _, *events = map(json.loads, CAST.read_text(encoding="utf-8").splitlines())
    screens = "\n".join(still_screens(events))
    app = LabApp(settings=Settings(theme="lab-dark", plots="braille"))
    now: list[str] = []
    async with app.run_test(size=(COLUMNS, ROWS - CAPTION_ROWS)) as pilot:
        for name in ("train", "playground", "retention"):
            app.action_pane(name)
            await until(lambda name=name: app.screen.is_current and getattr(app.screen, "GROUP", "") == name)  # type: ignore[misc]
            await until(lambda: app.screen.is_filled)  # type: ignore[attr-defined]
            await pilot.pause()
            rows = screen_text(app).splitlines()
            now += [rows[0], *(rows[bar.region.y] for bar in app.screen.query(TabBar))]
            now += [f"╭─ ✓ {view.number} {view.lane.strategy.name} " for view in app.screen.query(LaneView)][
                :2
            ]
    assert len(now) == 8
    assert [
        row for row in now if " ".join(row.replace("·", "✓").split()) not in " ".join(screens.split())
    ] == []


def test_the_recorder_records_what_a_terminal_shows() -> None:
    program = (
        "import os, time\nprint(chr(9608), os.get_terminal_size(), flush=True)\ntime.sleep(0.6)\nprint(2)"
    )
    events = record([sys.executable, "-c", program], 70, 20)
    assert "columns=70, lines=20" in "".join(text for _, text in events)
    made = [json.loads(line) for line in cast(events, 70, 20).splitlines()]
    assert made[0]["width"] == 70 and made[1][1] == "o" and "█" in made[1][2]
    assert made[-1][0] - made[1][0] >= 0.2, "with the time it took"


def test_idle_time_is_cut() -> None:
    assert shortened([(0.5, "a"), (60.5, "b"), (61.0, "c")]) == [
        (0.5, "a"), (0.5 + IDLE_S, "b"), (1.0 + IDLE_S, "c"),
    ]  # fmt: skip
