"""What the fuzz of the lab does next: keys, mouse events, pastes and window sizes, drawn by chance."""

from __future__ import annotations

import random
from typing import Any

from tests.ui.fuzz_world import HOSTILE
from tui_lab.ui.actions import registry
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.too_small import TooSmall

#: One thing that is done to the lab: its kind and its numbers or words, as JSON holds them.
Step = list[Any]
SIZES = ((1, 1), (20, 5), (59, 18), (60, 18), (80, 24), (80, 24), (100, 30), (120, 40), (200, 60), (300, 80))
NAVIGATION = (
    "up", "down", "left", "right", "home", "end", "pageup", "pagedown", "tab", "shift+tab", "enter", "escape",
    "backspace", "delete", "space", "ctrl+c", "ctrl+z", "ctrl+a", "ctrl+e", "ctrl+u", "ctrl+k", "ctrl+w",
    "ctrl+home", "ctrl+end", "shift+left", "shift+right", "f12",
)  # fmt: skip
TYPED = "abcxyz0159 .-/_é日[]{}<>&%$\\\"'~"
#: What people do in a row, begun now and then: chance alone seldom gets that far.
STORIES = """
    f4 i h i enter; f4 ctrl+r; f4 ctrl+r right enter; f4 a h; f4 ctrl+r escape v; f4 r enter; f4 p enter;
    f2 s; f2 s enter; f2 a; f2 a enter; f2 slash 2 enter; f2 h down enter 7 enter; f2 f; f2 K; f2 k;
    f3 r down enter; f3 space; f3 w; f3 x enter; f3 X; f3 t t; f3 R enter; f3 l; f5 k enter; f5 K; f5 K enter;
    f5 w enter; f5 t enter; f5 r down enter; f6 down space down space t; f6 delete enter; f6 delete y;
    f6 number_sign x enter; f6 N y enter; f6 n z enter; f6 slash k; f6 Q; f6 greater_than_sign I; f6 y Y B;
    f6 ctrl+a delete escape;
    E; E down enter; W; comma down down enter; D; ctrl+p t u enter;
    H; f1 slash k; f9 down enter; f8; f10 enter; ctrl+o a; ctrl+o enter; q; ctrl+q; q n
"""


def next_steps(app: LabApp, chance: random.Random) -> list[Step]:
    """What is done next: mostly keys that mean something in what is in view, and sometimes a story. What
    keeps all keys to itself is left sooner or later."""
    if isinstance(app.screen, TooSmall) and chance.random() < 0.2:
        return [["resize", *chance.choice(SIZES[3:])]]
    if len(app.screen_stack) > 1 and chance.random() < 0.08:
        return [["key", "escape"]]
    if chance.random() < 0.03:
        keys = chance.choice(STORIES.split(";")).split()
        return [["type", key] if len(key) == 1 else ["key", key] for key in keys]
    return [_next_step(app, chance)]


def _next_step(app: LabApp, chance: random.Random) -> Step:
    at = [round(chance.random(), 4), round(chance.random(), 4)]
    kind = chance.random()
    if kind < 0.30:
        return ["key", chance.choice(sorted(app.screen.active_bindings) or ["escape"])]
    if kind < 0.46:
        action = chance.choice(registry.ACTIONS)
        return ["key", chance.choice(action.keys.split(",")) or "escape"]
    if kind < 0.52:
        return ["key", f"f{chance.randint(2, 6)}"]
    if kind < 0.64:
        return ["key", chance.choice(NAVIGATION)]
    if kind < 0.72:
        return ["type", chance.choice(TYPED)]
    if kind < 0.735:
        return ["paste", chance.randrange(len(HOSTILE))]
    if kind < 0.82:
        return ["click", *at, chance.choice((1, 1, 1, 2, 3)), chance.choice((1, 1, 1, 2, 3))]
    if kind < 0.87:
        return ["move", *at]
    if kind < 0.92:
        return ["scroll", *at, chance.choice(("up", "down", "left", "right"))]
    if kind < 0.94:
        return ["drag", *at, round(chance.random(), 4), round(chance.random(), 4)]
    if kind < 0.95:
        return [chance.choice(("down", "up")), *at, chance.randint(1, 3)]
    if kind < 0.97:
        size = chance.choice((*SIZES, (chance.randint(1, 300), chance.randint(1, 80))))
        return ["resize", *size]
    if kind < 0.98:
        return [chance.choice(("blur", "focus"))]
    return ["wait", chance.choice((0.0, 0.01, 0.05))]
