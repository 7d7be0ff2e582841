"""Learn: short pages about how language models work, computed on the model in hand. A change of a value
computes the page again, in a job; pages that need no model are computed here at once."""

from __future__ import annotations

import asyncio

from textual import events, work
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tui_lab.core.errors import LabError
from tui_lab.core.records import to_json
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation.learn_records import (
    JOB_MODULE,
    PAGES,
    LearnAnswer,
    LearnRequest,
    Page,
    PageBlock,
    lines,
)
from tui_lab.ui.actions.modal import Dialog
from tui_lab.ui.actions.registry import bindings, pane_digits
from tui_lab.ui.widgets.dialogs import AskText

#: Seconds without a key before a page is computed again.
SETTLED_S = 0.3
AROUND = 4


class LearnScreen(Dialog[None]):
    """The pages, on ``model``: a catalog name, a folder, a hub id, or the path of a run."""

    DEFAULT_CSS = """
    LearnScreen > .dialog { height: 100%; max-height: 100%; }
    LearnScreen #head { padding-bottom: 1; }
    LearnScreen VerticalScroll { height: 1fr; scrollbar-size-vertical: 1; }
    """
    GROUP = "learn"
    AUTO_FOCUS = "VerticalScroll"
    INFORMATIONAL = True
    BINDINGS = [*bindings("learn"), *pane_digits()]  # noqa: RUF012

    def __init__(self, model: str) -> None:
        super().__init__()
        self.model, self.at, self.knob = model, 0, 0
        self.values = {page.name: {knob.name: knob.start for knob in page.knobs} for page in PAGES}
        self.texts = {page.name: page.text for page in PAGES}
        self.blocks: list[PageBlock] = []
        self._computed: dict[str, list[PageBlock]] = {}  # so that a page that was seen is at once there
        self._status = ""

    @property
    def page(self) -> Page:
        return PAGES[self.at]

    @property
    def heading(self) -> str:  # type: ignore[override]
        return f"Learn {self.at + 1}/{len(PAGES)}: {self.page.title}, on {self._request().model_name}"

    def hint(self) -> str:
        parts = [f"{self.keys('learn.next_page')} turns the page"]
        if self.page.knobs:
            parts.append(f"{self.keys('learn.less')} {self.keys('learn.more')} change the value")
        if len(self.page.knobs) > 1:
            parts.append(f"{self.keys('learn.next_value')} picks the other")
        if self.page.uses_text:
            parts.append(f"{self.keys('learn.text')} edits the text")
        return ", ".join([*parts, f"{self.keys('learn.close')} closes"])

    def compose_body(self) -> ComposeResult:
        yield Static(id="head")
        with VerticalScroll():
            yield Static(id="page")

    def on_mount(self) -> None:
        self._compute(0.0)

    def on_resize(self, _event: events.Resize) -> None:
        self._draw()

    # ------------------------------------------------------------------ actions

    def action_turn_page(self, by: int) -> None:
        self.at, self.knob, self.blocks = (self.at + by) % len(PAGES), 0, []
        self._compute(0.0)

    def action_turn_value(self, by: int) -> None:
        """Takes the next choice of the value, if there is one."""
        if not self.page.knobs:
            return
        knob = self.page.knobs[self.knob]
        at = knob.choices.index(self.values[self.page.name][knob.name]) + by
        if 0 <= at < len(knob.choices):
            self.values[self.page.name][knob.name] = knob.choices[at]
            self._compute(SETTLED_S)

    def action_next_value(self) -> None:
        if self.page.knobs:
            self.knob = (self.knob + 1) % len(self.page.knobs)
            self._draw()

    def action_text(self) -> None:
        if not self.page.uses_text:
            return

        def take(text: str | None) -> None:
            if text and text.strip():
                self.texts[self.page.name] = text
                self._compute(0.0)

        self.app.push_screen(AskText("Which text?", self.texts[self.page.name]), take)

    # ------------------------------------------------------------------ computing

    def _request(self) -> LearnRequest:
        page = self.page.name
        return LearnRequest(
            page=page, model=self.model, text=self.texts[page], values=dict(self.values[page])
        )

    @work(exclusive=True, group="learn", description="compute a page", exit_on_error=False)
    async def _compute(self, settled_s: float) -> None:
        from tui_lab.core.job_client import run_job

        page, request = self.page, self._request()
        if seen := self._computed.get(to_json(request)):
            self.blocks = seen
            self._show("")
            return

        def progress(text: str, _done: int | None, _total: int | None) -> None:
            self._show(f"{text} …")

        self._show("computing …")
        await asyncio.sleep(settled_s)
        try:
            if page.needs_model:
                answer = await run_job(JOB_MODULE, request, progress, answer=LearnAnswer)
            else:
                from tui_lab.evaluation.learn import compute

                answer = await asyncio.to_thread(compute, request)
        except LabError as error:
            self._show(str(error))
            return
        self.blocks = self._computed[to_json(request)] = list(answer.blocks)
        self._show("")

    def _show(self, status: str) -> None:
        self._status = status
        self._draw()

    def _draw(self) -> None:
        if not self.query("#page"):
            return
        values = self.values[self.page.name]
        head = [Content.styled(self.page.about, "$text-muted")]
        for at, knob in enumerate(self.page.knobs):
            marks = " ".join(f"[{c:g}]" if c == values[knob.name] else f" {c:g} " for c in knob.choices)
            chosen = "bold" if at == self.knob else ""
            head.append(Content.assemble((f"{knob.title}: ", chosen), (marks, chosen)))
        if self.page.uses_text:
            head.append(Content.assemble("text: ", (sanitize(self.texts[self.page.name]), "bold")))
        if self._status:
            head.append(Content.styled(sanitize(self._status), "$text-warning"))
        self.query_one("#head", Static).update(Content("\n").join(head))
        width = min(104, self.app.size.width) - AROUND - 1
        ascii_only = getattr(self.app, "marker", "") == "ascii"
        text = "\n".join(lines(self.blocks, width, ascii_only))
        self.query_one("#page", Static).update(Content(text))
        self.frame()
