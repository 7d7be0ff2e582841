"""What a judge prefers of a run and its base: the win rate with its interval, and the pairs to page through.
The judge is that of the settings; blind votes of the user on the run calibrate it."""

from __future__ import annotations

import os

from textual import work
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static
from textual.widgets.option_list import Option

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation.judging import JUDGE, JudgeRequest, VotedPair
from tui_lab.evaluation.records import EvaluationRequest
from tui_lab.playground import vote_rows, votes
from tui_lab.retention.stored import JudgedPair, JudgeResult
from tui_lab.runs.folder import Run
from tui_lab.ui.actions.modal import ListDialog
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.screens.ask_changes import run_lab_job
from tui_lab.ui.screens.item_view import named_texts, open_item
from tui_lab.ui.views import retention

JOB = "tui_lab.evaluation.judge"
_WINS = {1.0: ("tuned", "$text-success"), 0.5: ("tie", "$text-muted"), 0.0: ("base", "$text-error")}
_UNREAD = ("unread", "$text-warning")


def judge_set() -> str:
    """The judge of the settings, "" for none."""
    return os.environ.get(JUDGE, "").strip()


class JudgedPairs(ListDialog[None]):
    """See the module's docstring. Without a result the judge is asked at once."""

    DEFAULT_CSS = """
    JudgedPairs > .dialog { width: 100%; height: 100%; max-height: 100%; }
    JudgedPairs OptionList, JudgedPairs OptionList:focus { height: 1fr; }
    """
    GROUP = "judged"
    BINDINGS = bindings("judged")
    heading = "Judge"

    def __init__(self, run: Run, found: JudgeResult) -> None:
        super().__init__()
        self.run, self.found = run, found
        self._is_asking = False

    def hint(self) -> str:
        again, leave = self.keys("judged.measure"), self.keys("judged.leave")
        if self._is_asking:
            return f"{leave} stops; what is judged is kept"
        return f"Enter shows, {again} asks the judge again, {leave} closes"

    def compose_body(self) -> ComposeResult:
        yield Static(id="sentence")
        yield from super().compose_body()

    def on_mount(self) -> None:
        self.frame()
        if self.found.pairs:
            self._show()
        else:
            self.action_measure()

    def _show(self) -> None:
        self._say(retention.judged(self.found))
        rows = [Option(_line(pair), id=str(number)) for number, pair in enumerate(self.found.items)]
        self.show_rows(rows, empty=f"Nothing is judged. {self.keys('judged.measure')} asks the judge.")

    def _say(self, text: Content) -> None:
        self.query_one("#sentence", Static).update(text)

    def action_take(self) -> None:
        if self.row_id:
            open_item(self, self.found.items, _whole, "Pair")

    def action_measure(self) -> None:
        if self._is_asking:
            return
        if not (judge := judge_set()):
            key = self.keys("app.settings")
            self._say(Content(f"No judge is set: {key} sets judge, a model or endpoint."))
            self.show_rows([])
            return
        self._is_asking = True
        self.frame()
        self._ask(judge)

    def action_leave(self) -> None:
        if self._is_asking:
            self.workers.cancel_group(self, "judged")
        else:
            self.dismiss(None)

    @work(exclusive=True, group="judged", description="ask the judge", exit_on_error=False)
    async def _ask(self, judge: str) -> None:
        try:
            pairs = vote_rows.pairs_of(self.run.path / votes.FILE_NAME)
            voted = tuple(VotedPair(*pair) for pair in pairs)
        except OSError:  # there are none
            voted = ()
        request = JudgeRequest(EvaluationRequest(run=str(self.run.path)), judge=judge, votes=voted)
        try:
            self.found = await run_lab_job(
                self, JOB, request, lambda line: self._say(Content(line)), JudgeResult
            )
        except LabError as error:
            self.show_error(error)
        finally:
            self._is_asking = False
            if self.is_mounted:
                self.frame()
                self._show()


def _line(pair: JudgedPair) -> Content:
    name, colour = _UNREAD if pair.win is None else _WINS[pair.win]
    prompt = " ".join(sanitize(pair.turns[0]).split())
    return Content.assemble((f"{name:<7}", colour), (f"{sanitize(pair.kind):<13}", "$text-muted"), prompt)


def _whole(pair: JudgedPair) -> Content:
    """A pair with both conversations, and what the judge preferred."""
    name, colour = _UNREAD if pair.win is None else _WINS[pair.win]
    turns = zip(pair.turns, pair.base, pair.tuned, strict=True)
    parts = [part for texts in turns for part in zip(("Prompt", "Base", "Tuned"), texts, strict=True)]
    return Content.assemble(
        ("The judge prefers: ", "$text-muted"), (f"{name}\n\n", colour), named_texts(parts)
    )
