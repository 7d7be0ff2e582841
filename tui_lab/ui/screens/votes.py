"""Votes and edited answers of the playground: an answer is edited, and all of them are listed, read whole,
taken back and written as preference data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import TextArea
from textual.widgets.option_list import Option

from tui_lab.core.errors import LabError
from tui_lab.core.format import plural
from tui_lab.core.paths import expanded
from tui_lab.core.sanitize import sanitize
from tui_lab.playground import vote_rows, votes
from tui_lab.playground.client import PlaygroundClient
from tui_lab.playground.vote_rows import PreferenceVote
from tui_lab.ui.actions.modal import Dialog, ListDialog
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.screens.item_view import FOOT_LINES, named_texts, open_item
from tui_lab.ui.screens.pane import Pane
from tui_lab.ui.widgets.dialogs import AskText
from tui_lab.ui.widgets.lane_view import LaneView


class EditAnswer(Dialog[str | None]):
    """An answer in an editor: what the model should have said. Escape gives None."""

    DEFAULT_CSS = """
    EditAnswer TextArea, EditAnswer TextArea:focus {
        height: 14; border: none; padding: 0; background: $surface;
    }
    """
    GROUP = "answer"
    BINDINGS = bindings("answer")
    heading = "What the model should have said"

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def hint(self) -> str:
        return f"{self.keys('answer.save')} saves, {self.keys('answer.leave')} cancels"

    def compose_body(self) -> ComposeResult:
        yield TextArea(self._text, soft_wrap=True, show_line_numbers=False)

    @property
    def unsaved(self) -> str:
        return (
            "" if self.query_one(TextArea).text == self._text else f"The answer is not saved: {self.hint()}."
        )

    def action_save(self) -> None:
        self.dismiss(self.query_one(TextArea).text)


def edit_answer(pane: Pane, client: PlaygroundClient, view: LaneView) -> None:
    """Asks for the answer that a lane should have given, and saves it as a pair."""
    done, request, turns = view.done, view.request, view.turns
    if done is None or request is None or not done.text.strip():
        pane.notice("This lane has no answer to edit yet.", "warning")
        return

    def save(path: Path, edited: str) -> Path:
        votes.save_edit(path, request, turns, done, edited)
        return path

    def entered(edited: str | None) -> None:
        if edited is None:
            return
        path = votes.votes_path(client.location(view.lane.on))
        listed = f"{pane.keys('playground.votes')} lists votes and edited answers"
        pane.in_thread(
            partial(save, path, edited), lambda found: pane.notice(f"Saved in {found}. {listed}."), "votes"
        )

    pane.app.push_screen(EditAnswer(done.text), entered)


class VoteTable(ListDialog[None]):
    """All votes that decided between two answers, the newest first."""

    GROUP = "votes"
    BINDINGS = bindings("votes")

    def __init__(self, found: Sequence[PreferenceVote]) -> None:
        super().__init__()
        self.found = sorted(found, key=lambda vote: -vote.t)

    def hint(self) -> str:
        keys = [self.keys(f"votes.{each}") for each in ("remove", "save", "leave")]
        return "Enter shows, {} takes back, {} writes a data set, {} closes".format(*keys)

    def on_mount(self) -> None:
        self._show()

    def _show(self) -> None:
        edited = sum(vote.edited for vote in self.found)
        self.heading = f"Votes: {plural(len(self.found), 'pair')} of answers, {edited} edited"
        self.frame()
        rows = [Option(_line(vote), id=str(number)) for number, vote in enumerate(self.found)]
        empty = "No vote has decided between two answers yet."
        self.show_rows(rows, empty=empty)
        self.describe()

    def about(self, row_id: str) -> Content:
        return _both(self.found[int(row_id)], FOOT_LINES)

    def action_take(self) -> None:
        if self.row_id:
            open_item(self, self.found, _both, "Vote")

    def action_remove(self) -> None:
        if not self.row_id:
            return
        at = int(self.row_id)
        vote = self.found[at]
        try:
            votes.take_back(vote.path, vote.session, vote.prompt)
        except LabError as error:
            self.show_error(error)
            return
        shown = self.shown_ids.index(self.row_id)
        del self.found[at]
        self._show()
        self.options.highlighted = min(shown, len(self.shown_ids) - 1) if self.shown_ids else None

    def action_save(self) -> None:
        def entered(name: str | None) -> None:
            if not name:
                return
            path = expanded(name)
            try:
                if path.exists():
                    raise LabError(f"{path} exists already: give another name")
                vote_rows.write_rows([vote.row for vote in reversed(self.found)], path)
            except (LabError, OSError) as error:
                self.show_error(error)
                return
            self.notify(
                sanitize(f"Written to {path}: take it as data on Setup, with the preset dpo."), markup=False
            )

        if self.found:
            question = f"Write {plural(len(self.found), 'pair')} as preference data: to which file?"
            self.app.push_screen(AskText(question, "votes-pairs.jsonl"), entered)


def _line(vote: PreferenceVote) -> Content:
    kind = "edited" if vote.edited else "vote"
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(vote.t))
    question = " ".join(sanitize(vote.question).split())
    return Content.assemble(
        (f"{day}  {kind:6}  ", "$text-muted"), question, (f"  {sanitize(vote.run)}", "$text-muted")
    )


def _both(vote: PreferenceVote, lines: int = 0) -> Content:
    """The prompt and both answers; of each at most some ``lines``."""
    names = ("prompt", "edited to" if vote.edited else "chosen", "before" if vote.edited else "rejected")
    return named_texts(zip(names, (vote.question, vote.chosen, vote.rejected), strict=True), lines)


def open_votes(pane: Pane) -> None:
    """Lists the votes of all runs and of the data folder."""

    def read() -> list[PreferenceVote]:
        return [vote for path in vote_rows.vote_files() for vote in vote_rows.votes_of(path)]

    pane.in_thread(read, lambda found: pane.app.push_screen(VoteTable(found)), "votes")
