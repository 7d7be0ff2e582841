"""Blind votes: two answers to a prompt, unnamed and in random order; one key votes. Answers are shown
when both are complete, because their speed would tell them apart; the next ones are generated while the user
reads. Votes are saved at once, and a session continues where it stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from textual import events, work
from textual.app import ComposeResult
from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.decoding.strategies import parse
from tui_lab.playground import votes
from tui_lab.playground.client import PlaygroundClient
from tui_lab.playground.messages import GenerateRequest
from tui_lab.ui.actions.footer import KeysLine
from tui_lab.ui.actions.modal import Modal
from tui_lab.ui.actions.registry import bindings, filled
from tui_lab.ui.terminal.types import AnyScreen
from tui_lab.ui.views.playground_settings import PlaygroundSettings
from tui_lab.ui.widgets.dialogs import AskText
from tui_lab.ui.widgets.lane_view import PROMPT_MARK
from tui_lab.ui.widgets.panel import as_panel
from tui_lab.ui.widgets.stream_text import HeadPart, StreamText

#: Prompts whose answers are generated ahead.
AHEAD = 3
#: Prompts with a vote whose answers are kept, so that a vote can be taken back at once.
KEPT = 20
#: What is typed in place of a file to vote on the turns of the chat on the screen.
CONVERSATION = "conversation"
#: Window width from which the two answers are side by side.
SIDE_BY_SIDE_COLUMNS = 100
QUESTION = (
    "Which is better? {blind.first} the first, {blind.second} the second, {blind.tie} no difference, "
    "{blind.skip} skip, {blind.end} ends."
)
SAME = "Both answers are the same. {blind.tie} no difference, {blind.skip} skip, {blind.end} ends."


class ShownAnswer(Protocol):
    """An answer as a vote sees it."""

    @property
    def description(self) -> str:
        """The lane."""
        ...

    @property
    def text(self) -> str:
        """Its text."""
        ...


class AnswerSource(Protocol):
    """What gives two answers to a prompt: the playground process, or a file."""

    @property
    def wants(self) -> str:
        """The model."""
        ...

    def location(self, name: str) -> str:
        """Where the weights that a lane names are."""
        ...

    async def generate(
        self, request: GenerateRequest, on_event: Callable[[object], None]
    ) -> Sequence[ShownAnswer]:
        """The two answers. Raises LabError."""
        ...


class Blind(Modal[votes.VoteSummary | None]):
    """See the module's docstring. Gives the summary, or None when nothing was voted on."""

    DEFAULT_CSS = """
    Blind { background: $background; }
    Blind #where { height: 1; padding: 0 1; background: $surface; }
    Blind #prompt-box { height: auto; max-height: 25%; padding: 0 1; }
    Blind #prompt { width: 1fr; height: auto; }
    Blind #answers { height: 1fr; layout: vertical; }
    Blind #answers.-side-by-side { layout: horizontal; }
    Blind .answer { width: 1fr; height: 1fr; }
    Blind .answer.-chosen { border: heavy $success; }
    Blind #status { height: auto; min-height: 1; padding: 0 1; background: $surface; }
    Blind #outcome { display: none; height: 1fr; padding: 1 2; }
    Blind.-over #outcome { display: block; }
    Blind.-over #answers, Blind.-over #prompt-box, Blind.-over #status { display: none; }
    """
    AUTO_FOCUS = ""
    GROUP = "blind"
    BINDINGS = bindings("blind")

    def __init__(
        self,
        client: AnswerSource,
        settings: votes.BlindSettings,
        votes_path: Path,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self._client = client
        first, second = (client.location(parse(lane).on) for lane in settings.lanes)
        wanted = replace(settings, model=client.wants, places=(first, second))
        self.session = votes.open_session(wanted, votes_path, seed)
        self._answers: dict[int, tuple[ShownAnswer, ShownAnswer]] = {}  # also of prompts with a vote
        self._failed = ""
        self._at = self.session.next
        self._wake = asyncio.Event()

    # ------------------------------------------------------------------ building

    def compose(self) -> ComposeResult:
        yield Static(id="where")
        with VerticalScroll(id="prompt-box", can_focus=False):
            yield Static(id="prompt")
        with Container(id="answers"):
            for side, action, title in (("left", "first", "First"), ("right", "second", "Second")):
                with Vertical(classes="answer", id=side) as box:
                    as_panel(box, title, self.keys(f"blind.{action}"))
                    yield StreamText("Generating …")
        yield Static(id="status")
        yield VerticalScroll(Static(id="outcome-text"), id="outcome", can_focus=False)
        yield KeysLine(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        if self.session.resumed:
            done = len(self.session.votes)
            self.notify(f"Continued: {done} prompts already have votes.", markup=False)
        self._show()
        self._generate_ahead()

    def on_resize(self, event: events.Resize) -> None:
        self.query_one("#answers").set_class(event.size.width >= SIDE_BY_SIDE_COLUMNS, "-side-by-side")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # the footer shows only actions that have an effect now
        over = self.has_class("-over")
        if action == "vote" and over:
            return False
        if action == "close" and not over:
            return False
        if action == "undo" and not self.session.votes:
            return False
        if action == "again" and (over or not self._failed):
            return False
        return super().check_action(action, parameters)

    # ------------------------------------------------------------------ answers

    @work(exclusive=True, group="blind", description="generate the next answers", exit_on_error=False)
    async def _generate_ahead(self) -> None:
        """Generates the answers of the next prompts, and waits while there are enough."""
        settings = self.session.settings
        while True:
            missing = [n for n in self.session.upcoming(AHEAD) if n not in self._answers]
            if not missing or self._failed:
                self._wake.clear()
                await self._wake.wait()
                continue
            prompt = missing[0]
            request = GenerateRequest(
                settings.prompts[prompt],
                settings.lanes,
                system=settings.system,
                raw=settings.raw,
                max_new_tokens=settings.max_new_tokens,
                thinking=settings.thinking,
                cut=True,
                turns=(self.session.turns(prompt, 0), self.session.turns(prompt, 1)) if settings.chat else (),
            )
            try:
                first, second = await self._client.generate(request, lambda _event: None)
            except LabError as error:
                self._failed = str(error)
            else:
                self._answers[prompt] = (first, second)
                self.session.answers[prompt] = (first.text, second.text)
            if prompt == self._at:
                self._show()

    @property
    def shown(self) -> tuple[ShownAnswer, ShownAnswer] | None:
        """The answers on the screen, left and right; None while they are being generated."""
        both = self._answers.get(self._at) if self._at is not None else None
        if both is None or self._at is None:
            return None
        left = self.session.left(self._at)
        return both[left], both[1 - left]

    def _show(self) -> None:
        if self._at is None:
            self._finish()
            return
        settings, total = self.session.settings, len(self.session.settings.prompts)
        done = len(self.session.votes)
        self._update_text("#where", f"Blind vote: prompt {self._at + 1} of {total}, {done} voted on")
        self._update_text("#prompt", settings.prompts[self._at])
        both = self.shown
        for number, side in enumerate(("left", "right")):
            text = self.query_one(f"#{side} StreamText", StreamText)
            hint = "(no text)" if both else "Failed." if self._failed else "Generating …"
            text.replace(both[number].text if both else "", hint, self._head(number) if both else ())
            text.scroll_home(animate=False)
        if both:
            question = SAME if both[0].text == both[1].text else QUESTION
            self._update_text("#status", filled(question, self.keymap))
        elif self._failed:
            self._update_text(
                "#status",
                f"{self._failed}. Press {self.keys('blind.again')} to try again, "
                f"{self.keys('blind.skip')} to leave this prompt out.",
            )
        else:
            self._update_text("#status", "Generating two answers; they are shown when both are complete.")

        self.refresh_bindings()

    def _head(self, side: int) -> list[HeadPart]:
        """The conversation of one side before the answer, in a chat."""
        assert self._at is not None
        left = self.session.left(self._at)
        head = []
        for turn in self.session.turns(self._at, left if side == 0 else 1 - left):
            head += [HeadPart(PROMPT_MARK + turn.prompt, prominent=True), HeadPart(turn.answer + "\n")]
        return head

    def _update_text(self, where: str, text: str) -> None:
        self.query_one(where, Static).update(Content(sanitize(text, keep_newlines=True)))

    # ------------------------------------------------------------------ votes

    def action_vote(self, choice: votes.VoteChoice) -> None:
        prompt = self._at
        if prompt is None:
            return
        both = self._answers.get(prompt)
        if both is None and choice != "skip":
            self.notify("The answers are not ready yet.", timeout=2, markup=False)
            return
        answers = [{"lane": done.description, "text": done.text} for done in both or ()]
        try:
            self.session.vote(prompt, choice, answers)
        except LabError as error:
            self.notify(sanitize(str(error)), severity="error", markup=False)
            return
        for old in list(self._answers)[: -KEPT - AHEAD]:
            del self._answers[old]  # a vote that is taken back after that is answered again
        self._failed = ""
        self._at = self.session.next
        self._wake.set()
        self._show()

    def action_undo(self) -> None:
        try:
            prompt = self.session.undo()
        except LabError as error:
            self.notify(sanitize(str(error)), severity="error", markup=False)
            return
        if prompt is None:
            self.notify("There is no vote to take back.", timeout=2, markup=False)
            return
        self._failed = ""
        self._at = prompt
        if self.has_class("-over"):
            self.set_class(False, "-over")
            self._generate_ahead()
        self._wake.set()
        self._show()

    def action_again(self) -> None:
        if self._failed:
            self._failed = ""
            self._wake.set()
            self._show()

    def action_scroll_answers(self, by: int) -> None:
        for text in self.query(StreamText):
            text.scroll_relative(y=by * max(1, text.size.height - 1), animate=False)

    # ------------------------------------------------------------------ the end

    def _finish(self) -> None:
        """Shows which lane was which, and the result of the votes."""
        self.set_class(True, "-over")
        self.refresh_bindings()
        self.workers.cancel_node(self)
        self._update_text("#where", "Blind vote: the outcome")
        lines = votes.sentences(self.session)
        left = self.session.left_over
        if left:
            lines.append(f"{left} prompts are left: the same two lanes on the same prompts continue here.")
        closes = f"{self.keys('blind.close')} or {self.keys('blind.end')} closes."
        lines.append(f"Saved in {self.session.path}. {closes}")
        self._update_text("#outcome-text", "\n\n".join(lines))

    def action_leave(self) -> None:
        if not self.session.votes:
            self.dismiss(None)
        elif self.has_class("-over"):
            self.dismiss(self.session.summary)
        else:
            self._finish()

    def action_close(self) -> None:
        if self.has_class("-over"):
            self.action_leave()


# ------------------------------------------------------------------ from Playground


def two_lanes(lanes: Sequence[str], names: Sequence[str]) -> tuple[str, str] | None:
    """The two lanes to compare: those of a comparison of two, else greedy on the base against greedy on what
    was tuned, else the first two that differ; None when there are none."""
    different = list(dict.fromkeys(lanes))
    if len(different) == 2:
        return different[0], different[1]
    if len(names) > 1:
        return f"greedy on={names[0]}", f"greedy on={names[1]}"
    return (different[0], different[1]) if len(different) > 1 else None


def start_blind(
    pane: AnyScreen,
    client: PlaygroundClient,
    lanes: Sequence[str],
    options: PlaygroundSettings,
    conversation: Sequence[str] = (),
) -> None:
    """Asks for the prompts and begins. ``conversation``: the questions of the chat on the screen."""
    chosen = two_lanes(lanes, client.names)
    if chosen is None:
        pane.notify("A blind comparison needs two lanes that differ, or an adapter.", severity="warning")
        return

    async def begin(source: str) -> None:
        try:
            chat = bool(conversation) and source.strip() == CONVERSATION
            prompts = list(conversation) if chat else await asyncio.to_thread(votes.read_prompts, source)
            tuned = next((on for text in reversed(chosen) if (on := parse(text).on) not in ("", "base")), "")
            path = votes.votes_path(client.location(tuned))
            settings = votes.BlindSettings(
                lanes=chosen,
                prompts=tuple(prompts),
                system="" if options.raw else options.system,
                raw=options.raw,
                max_new_tokens=options.max_new_tokens,
                thinking=options.thinking,
                chat=chat,
            )
            screen = Blind(client, settings, path)
        except LabError as error:
            pane.notify(sanitize(str(error)), severity="error", markup=False)
            ask(source)  # what was typed can be corrected
        else:
            pane.app.push_screen(screen)

    def entered(source: str | None) -> None:
        if source:
            pane.app.run_worker(begin(source), group="blind", exclusive=True, exit_on_error=False)

    this = f", or `{CONVERSATION}`: the questions of this chat, turn by turn" if conversation else ""
    question = sanitize(
        f"Blind vote: prompts for {chosen[0]} and {chosen[1]}. A file (one a line, or rows with a key "
        f"prompt), or a bundled set: pirate, json, support{this}."
    )

    def ask(value: str) -> None:
        pane.app.push_screen(AskText(question, value, "prompts.txt"), entered)

    ask(CONVERSATION if conversation else "")
