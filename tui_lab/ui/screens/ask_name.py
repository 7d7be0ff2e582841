"""Asks for a model or data by name: a folder, a file or a hub id, with what is near it below. Tab
completes, an error stays in the dialog with the text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from textual import events, on, work
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.core.errors import LabError
from tui_lab.core.path_completion import common_start, completions, looks_like_path
from tui_lab.core.sanitize import sanitize
from tui_lab.ui.actions.modal import Dialog
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.views.fuzzy import best
from tui_lab.ui.widgets.dialogs import headed

if TYPE_CHECKING:
    from tui_lab.models.catalog import Entry

#: Names that are shown below what is typed.
MOST_SHOWN = 8


class Names(Protocol):
    """What can be named. Both functions are called in a thread."""

    question: str
    example: str

    def near(self, text: str) -> list[str]:
        """Names that ``text`` begins or that are like it, the best first."""
        ...

    def check(self, text: str) -> str:
        """The name that is meant. Raises LabError where there is none."""
        ...


class ModelNames:
    """Models: those of the lists, folders, and hub ids."""

    question = "Model: a local folder or a hub id"
    example = "Qwen/Qwen3-0.6B  or  ~/models/mine"

    def __init__(self, entries: Sequence[Entry], allow_large: bool) -> None:
        self._entries, self._allow_large = entries, allow_large

    def near(self, text: str) -> list[str]:
        if looks_like_path(text):
            return completions(text)
        known = best(text, self._entries, lambda entry: (entry.id, " ".join(entry.aliases)))
        return [entry.id for entry in known if not entry.refused or entry.needs_flag]

    def check(self, text: str) -> str:
        from tui_lab.models import catalog

        return catalog.find(text, allow_large=self._allow_large).id


class DataNames:
    """Data: bundled sets, files, folders, and sets of the hub."""

    question = "Data: a JSON, JSONL, CSV, Parquet or text file, a folder, or a hub id"
    example = "~/data/train.jsonl  or  owner/name  or  mine.jsonl:0.75 + general.jsonl:0.25"

    def near(self, text: str) -> list[str]:
        from tui_lab.data.bundled import NAMES
        from tui_lab.data.files import EXTENSIONS
        from tui_lab.recipes.mixture import SEPARATOR

        before, plus, last = text.rpartition(SEPARATOR)  # of a mixture the last part is completed
        bundled = [] if looks_like_path(last) else best(last, NAMES, lambda name: (name, ""))
        paths = completions(last, lambda entry: entry.name.lower().endswith(tuple(EXTENSIONS)))
        return [before + plus + name for name in (*bundled, *paths)]

    def check(self, text: str) -> str:
        from tui_lab.data import sources
        from tui_lab.data.bundled import NAMES
        from tui_lab.recipes import mixture

        for part in mixture.parts_of(text):
            if part.name not in NAMES:
                sources.check_exists(part.name, NAMES)
        return text


class AskName(Dialog[str | None]):
    """Gives the name, or None. ``names``: what can be named; ``text``: what was typed elsewhere."""

    DEFAULT_CSS = """
    AskName > .dialog { width: 96; max-width: 96%; }
    AskName #error { color: $text-error; }
    AskName OptionList, AskName OptionList:focus { max-height: 8; }
    """
    GROUP = "ask"
    BINDINGS = bindings("ask")

    def __init__(self, names: Names, text: str = "") -> None:
        super().__init__()
        self.names, self.text = names, text
        self.heading, self._question = headed(names.question)

    def hint(self) -> str:
        return f"Enter accepts, Tab completes, {self.keys('ask.leave')} cancels"

    def compose_body(self) -> ComposeResult:
        yield Static(Content(self._question))
        yield Input(self.text, placeholder=self.names.example)
        yield Static(id="error")
        near = OptionList()
        near.can_focus = False
        yield near

    def on_mount(self) -> None:
        self._line.focus()
        self._look(self.text)
        if self.text:
            self._submit(self.text)

    @property
    def unsaved(self) -> str:
        if self._line.value == self.text:
            return ""
        return f"What you typed is not saved: Enter accepts it, {self.keys('ask.leave')} drops it."

    @property
    def _line(self) -> Input:
        return self.query_one(Input)

    @property
    def _near(self) -> OptionList:
        return self.query_one(OptionList)

    @property
    def shown(self) -> list[str]:
        """The names below the line."""
        return [str(option.id) for option in self._near.options]

    # ------------------------------------------------------------------ what is near

    @work(thread=True, exclusive=True, group="near", exit_on_error=False)
    def _look(self, text: str) -> None:
        found = self.names.near(text.strip())
        self._call_back(self._show_near, text, found)

    def _call_back(self, function: object, *arguments: object) -> None:
        if self.is_mounted and self.app.is_running and callable(function):
            self.app.call_from_thread(function, *arguments)

    def _show_near(self, text: str, found: list[str]) -> None:
        if text != self._line.value:
            return
        self._near.clear_options()
        shown = list(dict.fromkeys(found))[:MOST_SHOWN]
        self._near.add_options([Option(Content(sanitize(name)), id=name) for name in shown])
        self._near.highlighted = None
        self._near.display = bool(shown)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._show_error("")
        self._look(event.value)

    def on_key(self, event: events.Key) -> None:
        match event.key:
            case "down":
                self._near.action_cursor_down()
            case "up":
                self._near.action_cursor_up()
            case "tab":
                self._complete()
            case _:
                return
        event.stop()
        event.prevent_default()

    def _complete(self) -> None:
        """The name under the cursor, or what all names begin with, or the first one."""
        names, text = self.shown, self._line.value
        if not names:
            return
        at = self._near.highlighted
        start = common_start(text, names)
        self._write(names[at] if at is not None else start if start != text else names[0])

    def _write(self, text: str) -> None:
        self._line.value = text
        self._line.action_end()

    # ------------------------------------------------------------------ the answer

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._write(str(event.option_id))
        self._line.focus()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        at = self._near.highlighted
        text = self.shown[at] if at is not None else event.value.strip()
        if at is not None:
            self._write(text)
        if text:
            self._submit(text)
        else:
            self._show_error("Type a name, or leave with the key below.")

    def _submit(self, text: str) -> None:
        """Closes the dialog with the name, unless there is none; then it says why."""
        self.run_worker(
            partial(self._check, text), thread=True, exclusive=True, group="check", exit_on_error=False
        )

    def _check(self, text: str) -> None:
        try:
            name = self.names.check(self._with_root(text))
        except LabError as error:
            self._call_back(self._show_error, f"✗ {error}")
        else:
            self._call_back(self.dismiss, name)

    def _with_root(self, text: str) -> str:
        """A path from the root that was typed at a list: its first slash opened the filter."""
        rooted = Path("/") / text
        is_meant = text == self.text and "/" in text and not Path(text).exists() and rooted.exists()
        return str(rooted) if is_meant else text

    def _show_error(self, text: str) -> None:
        self.query_one("#error", Static).update(Content(sanitize(text)))
