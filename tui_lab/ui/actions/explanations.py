"""The explanation of every field, setting and figure: a title, two sentences and a source, from the TOML
files in the folder of the same name. They are read on demand, never before the first frame."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from textual.dom import DOMNode

from tui_lab.ui.terminal.types import AnyScreen

FOLDER = Path(__file__).with_name("explanations")
#: Files whose terms are of one pane or screen have its name; these are of another.
_OF = {"fields": "setup", "data": "setup"}


@dataclass(frozen=True)
class Explanation:
    """One term. ``of`` are the panes that show it, ``tabs`` the tabs of panes that it belongs to."""

    id: str
    title: str
    text: str
    source: str
    of: tuple[str, ...]
    tabs: tuple[str, ...] = ()


@cache
def read() -> dict[str, Explanation]:
    """Every explanation by its id, in the order of the files."""
    found: dict[str, Explanation] = {}
    for file in sorted(FOLDER.glob("*.toml"), key=lambda file: (file.stem != "fields", file.stem)):
        own = _OF.get(file.stem, file.stem)
        for name, entry in tomllib.loads(file.read_text(encoding="utf-8")).items():
            of = (own, *entry.get("also", ()))
            term = f"{file.stem}.{name}"
            found[term] = Explanation(
                term, entry["title"], entry["text"], entry["source"], of, tuple(entry.get("tabs", ()))
            )
    return found


def matching(query: str, terms: Iterable[Explanation]) -> list[Explanation]:
    """The terms that have all of the words, in title before in text."""
    wanted = query.lower().split()
    inside = [
        each
        for each in terms
        if all(word in f"{each.id} {each.title} {each.text}".lower() for word in wanted)
    ]
    return sorted(inside, key=lambda each: not all(word in each.title.lower() for word in wanted))


def of_pane(pane: str) -> list[Explanation]:
    """The terms that a pane or a screen shows, its own before those that others show as well."""
    return sorted((each for each in read().values() if pane in each.of), key=lambda each: each.of[0] != pane)


def focused_term(screens: Sequence[AnyScreen]) -> tuple[str, str]:
    """What is explained of screens that lie over each other, the last on top: (the one whose terms are
    listed, the term that has the focus or "" for none). A widget says what it shows in ``explains``; a part
    of a pane and its tab stand for the first term of that name; what has no terms of its own leaves that to
    what lies below it."""
    screen = next((each for each in reversed(screens) if of_pane(getattr(each, "GROUP", ""))), screens[0])
    pane = str(getattr(screen, "GROUP", ""))
    focused: DOMNode | None = screen.focused
    tabs = {tab: each.id for each in reversed(of_pane(pane)) for tab in each.tabs}
    for node in focused.ancestors_with_self if focused is not None else (screen,):
        if (term := getattr(node, "explains", "")) in read():
            return pane, term
        if node.id in tabs:
            return pane, tabs[node.id]
    shown = next((getattr(each, "active", "") for each in screen.query("TabBar") if each.display), "")
    return pane, tabs.get(shown, "")
