"""The dialogs that lie over a pane: a yes/no question, one line of text, one choice from a short list, the
remedies for a recipe that does not fit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from textual import events, on
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Input, Static
from textual.widgets.option_list import Option

from tui_lab.core.sanitize import sanitize
from tui_lab.forecast.estimate import remedy_text
from tui_lab.forecast.remedies import Remedy
from tui_lab.ui.actions.modal import Dialog, ListDialog
from tui_lab.ui.actions.registry import bindings

#: Answers of :class:`RemedyDialog` besides the index of a remedy.
START_ANYWAY, CANCELLED = -1, -2
#: A longer question stands below the title of its dialog.
TITLE_CELLS = 48
_SUBJECT = re.compile(rf"([^:;(\n]{{1,{TITLE_CELLS}}}?)(: |; | \()(.+)", re.DOTALL)
#: The box of a question.
QUESTION_CSS = """
{name} > .dialog {{ width: 76; max-width: 96%; }}
"""


class Confirm(Dialog[bool]):
    """A question before something that cannot be undone. y or Enter gives True, n or Escape False."""

    DEFAULT_CSS = QUESTION_CSS.format(name="Confirm")
    GROUP = "confirm"
    BINDINGS = bindings("confirm")

    def __init__(self, question: str, yes: str = "yes", no: str = "no") -> None:
        super().__init__()
        self.question, self.yes, self.no = question, yes, no
        self.heading = f"{yes[:1].upper()}{yes[1:]}?"

    def hint(self) -> str:
        yes, no = (self.keys(f"confirm.{each}") for each in ("yes", "no"))
        return f"{yes} {self.yes}, {no} {self.no}"

    def compose_body(self) -> ComposeResult:
        yield Static(Content(sanitize(self.question, keep_newlines=True)))

    def close_unanswered(self) -> None:
        self.dismiss(False)

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)


def headed(question: str) -> tuple[str, str]:
    """A question as the title of its dialog and the text below it: a short one is the title; of a longer one,
    what stands before a colon, a semicolon or a bracket."""
    if len(question) <= TITLE_CELLS and "\n" not in question:
        return question, ""
    if (found := _SUBJECT.match(question)) is None:
        return "Question", question
    rest = found[3][:-1] if found[2] == " (" and found[3].endswith(")") else found[3]
    return found[1], rest[:1].upper() + rest[1:]


class AskText(Dialog[str | None]):
    """Asks for one line of text. Enter gives it. Escape gives "", or None when an empty text is an answer
    too (``can_be_empty``)."""

    DEFAULT_CSS = QUESTION_CSS.format(name="AskText")
    GROUP = "ask"
    BINDINGS = bindings("ask")

    def __init__(
        self, question: str, value: str = "", placeholder: str = "", can_be_empty: bool = False
    ) -> None:
        super().__init__()
        self.heading, self.question = headed(question)
        self.value, self.placeholder = value, placeholder
        self.can_be_empty = can_be_empty

    def hint(self) -> str:
        return f"Enter accepts, {self.keys('ask.leave')} cancels"

    def compose_body(self) -> ComposeResult:
        if self.question:
            yield Static(Content(self.question))
        yield Input(self.value, placeholder=self.placeholder)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip())

    @property
    def unsaved(self) -> str:
        if self.query_one(Input).value == self.value:
            return ""
        return f"What you typed is not saved: Enter accepts it, {self.keys('ask.leave')} drops it."

    def close_unanswered(self) -> None:
        self.action_leave()

    def action_leave(self) -> None:
        self.dismiss(None if self.can_be_empty else "")


class Pick(ListDialog[int]):
    """One choice from a short list of (text, explanation). Enter gives the index under the cursor, Escape
    −1."""

    DEFAULT_CSS = "Pick > .dialog { width: 100; }"
    GROUP = "pick"
    BINDINGS = bindings("pick")

    def __init__(self, title: str, lines: Sequence[tuple[str, str]], at: int = 0) -> None:
        super().__init__()
        self.heading, self.lines, self.at = title, list(lines), at

    def hint(self) -> str:
        return f"Enter selects, {self.keys('pick.leave')} cancels"

    def on_mount(self) -> None:
        width = max((len(text) for text, _ in self.lines), default=0) + 2
        rows = []
        for number, (text, about) in enumerate(self.lines):
            label = sanitize(text).ljust(width) if about else sanitize(text)
            rows.append(Option(Content.assemble(label, (sanitize(about), "$text-muted")), id=str(number)))
        self.show_rows(rows, str(self.at))

    def action_take(self) -> None:
        self.dismiss(int(self.row_id))

    def close_unanswered(self) -> None:
        self.action_leave()

    def action_leave(self) -> None:
        self.dismiss(-1)


class RemedyDialog(Dialog[int]):
    """The changes that make a recipe fit the memory. A digit gives that remedy, Enter the first, Escape
    :data:`CANCELLED`; with ``start``, s gives :data:`START_ANYWAY`. ``remedies`` is None while they are
    being computed."""

    DEFAULT_CSS = "RemedyDialog > .dialog { width: 100; }"
    GROUP = "fit"
    SCROLLS = True
    BINDINGS = bindings("fit")
    heading = "Make it fit"

    def __init__(self, forecast: str, remedies: Sequence[Remedy] | None, start: bool = False) -> None:
        super().__init__()
        self.forecast, self.remedies, self.start = forecast, list(remedies or ()), start
        self.computed = remedies is not None

    def hint(self) -> str:
        cancel = f"{self.keys('fit.leave')} cancels"
        return f"1–{len(self.remedies)} selects, {cancel}" if self.remedies else cancel

    def compose_body(self) -> ComposeResult:
        parts: list[Any] = [sanitize(self.forecast), "\n\n"]
        for number, remedy in enumerate(self.remedies, 1):
            parts += [(f"[{number}] ", "bold"), remedy.text, (f": {remedy_text(remedy)}\n", "$text-success")]
            parts += [(f"    {step.cost}\n", "$text-muted") for step in remedy.steps]
        if not self.remedies:
            reason = "No known change makes it fit" if self.computed else "The remedies are being computed"
            parts.append(f"{reason}.\n")
        if self.start:
            parts += [
                "\n",
                (f"[{self.keys('fit.as_it_is').upper()}] ", "bold"),
                "start anyway: if memory runs out, the run continues with smaller micro-batches\n",
            ]
        yield Static(Content.assemble(*parts))

    def on_key(self, event: events.Key) -> None:
        if event.key.isdigit() and 0 < int(event.key) <= len(self.remedies):
            event.stop()
            self.dismiss(int(event.key) - 1)

    def close_unanswered(self) -> None:
        self.dismiss(CANCELLED)

    def action_as_it_is(self) -> None:
        if self.start:
            self.dismiss(START_ANYWAY)

    def action_first(self) -> None:
        self.dismiss(0 if self.remedies else CANCELLED)

    def action_answer(self, answer: int) -> None:
        self.dismiss(answer)
