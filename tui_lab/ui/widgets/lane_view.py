"""One lane of the Playground: its strategy, which can be edited in place, its conversation, its answer while
it is decoded, and its figures."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import Input, Static

from tui_lab.core.errors import LabError
from tui_lab.core.format import decimal, plural
from tui_lab.core.sanitize import sanitize
from tui_lab.decoding import strategies
from tui_lab.decoding.records import Beams
from tui_lab.decoding.strategies import FAMILIES, Lane
from tui_lab.playground.messages import ChatTurn, GenerateRequest, LaneDone, Tokens
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.terminal.output import FIGURES, STREAM, Paced
from tui_lab.ui.views.saved_comparison import figures
from tui_lab.ui.views.states import PLAYGROUND_STATES
from tui_lab.ui.widgets.stream_text import HeadPart, StreamText
from tui_lab.ui.widgets.tab_bar import Tab

LaneState = Literal["idle", "running", "done", "stopped"]
#: Why a lane ended, in words.
ENDS = {
    "stop_token": "ended by itself",
    "stop_string": "stop text",
    "length": "token limit",
    "context": "context full",
    "cancelled": "stopped",
}
#: The colour of strategies that have none of their own.
_COLOUR_OF = {"sample": "temperature", "min-p": "top-p"}


def role(lane: Lane) -> str:
    """The role of the lane's colour."""
    name = lane.strategy.name
    return f"strategy-{_COLOUR_OF.get(name, name)}"


#: Narrower lanes use shorter names.
ROOMY_COLUMNS, WIDE_COLUMNS = 68, 90
#: Stands before what the user said in a conversation.
PROMPT_MARK = "› "


@dataclass(frozen=True)
class LaneMemory:
    """A lane with its conversation and its last answer, as it can be restored."""

    lane: Lane
    turns: tuple[ChatTurn, ...] = ()  # before the last answer
    request: GenerateRequest | None = None  # of the last answer
    done: LaneDone | None = None
    beams: tuple[Beams, ...] = ()

    @property
    def conversation(self) -> tuple[ChatTurn, ...]:
        """All turns, the last answer included if there is any text of it."""
        if self.request is None or self.done is None or not self.done.text.strip():
            return self.turns
        return (*self.turns, ChatTurn(self.request.prompt, self.done.text))

    @property
    def branch(self) -> LaneMemory:
        """The conversation of the lane, for another lane that goes on from here."""
        return LaneMemory(self.lane, self.conversation)


@dataclass
class _Rate:
    """Tokens per second since the first ones came; the time for the prompt does not count."""

    first: tuple[float, int] | None = None
    tok_per_s: float = 0.0

    def add(self, count: int, now: float) -> None:
        if self.first is None:
            self.first = now, count
        elif now > self.first[0]:
            self.tok_per_s = (count - self.first[1]) / (now - self.first[0])


class LaneView(Vertical, can_focus=True):
    """See the module's docstring. The pane passes it all data."""

    BINDINGS = bindings("lane")
    DEFAULT_CSS = """
    LaneView { height: 1fr; background: $background; }
    Pane LaneView.panel { padding: 0 0 0 1; }  /* the scroll bar stands at the right */
    Pane.-narrow LaneView.panel, Pane.-short LaneView.panel { padding: 0; }
    LaneView .figures {
        height: 1; width: 100%; color: $text-muted; text-wrap: nowrap; text-overflow: ellipsis;
    }
    Pane.-narrow LaneView .figures, Pane.-short LaneView .figures { height: 2; }
    LaneView:focus-within .figures { text-wrap: wrap; height: auto; min-height: 1; max-height: 7; }
    Pane.-narrow LaneView:focus-within .figures, Pane.-short LaneView:focus-within .figures {
        height: auto; min-height: 2;
    }
    LaneView Input, LaneView Input:focus { height: 1; border: none; padding: 0; background: $panel; }
    """

    @dataclass
    class Edited(Message):
        """The user has changed the lane. ``before``: what it was."""

        view: LaneView
        before: LaneMemory

    def __init__(self, lane: Lane, number: int, memory: LaneMemory | None = None, **kwargs: Any) -> None:
        """``memory``: a conversation and an answer that the lane begins with."""
        super().__init__(**kwargs)
        self.add_class("panel")
        self.lane, self.number = lane, number
        self.state: LaneState = "idle"
        self.turns = memory.turns if memory else ()
        self.request = memory.request if memory else None
        self.done = memory.done if memory else None
        self.beams: list[Beams] = list(memory.beams) if memory else []
        self.difference = ""
        self.count = 0
        self._rate = _Rate()
        # attributes, because queries fail while the lane is being mounted or removed
        self._figures = Static(classes="figures")
        self._titled = self._noted = Content()  # what the border shows
        self._text = StreamText(strategies.meaning(lane.strategy))
        self._paced_figures = Paced(self, FIGURES, self._draw_progress)
        self._paced_beams = Paced(self, STREAM, self._draw_beams)

    def compose(self) -> ComposeResult:
        yield self._text
        yield self._figures

    def on_mount(self) -> None:
        if self.done is not None:
            self._text.replace("", head=self._head())
            self.finish(self.done)
        elif self.turns:
            self._text.replace("", head=self._head())
        self._draw_title()
        self._draw_figures()

    # ------------------------------------------------------------------ state

    @property
    def memory(self) -> LaneMemory:
        """The lane as it can be restored."""
        return LaneMemory(self.lane, self.turns, self.request, self.done, tuple(self.beams))

    def set_lane(self, lane: Lane, number: int) -> None:
        """Sets strategy, seed and number. A changed strategy or seed clears an answer that stands alone; one
        of a conversation becomes a turn of it."""
        changed = lane.text != self.lane.text
        if changed:
            self.turns = self.memory.conversation if self._is_chat else ()
        self.lane, self.number = lane, number
        if changed:
            self.request = None
            self._reset(strategies.meaning(lane.strategy))
        self._draw_title()

    def forget(self) -> None:
        """Begins a new conversation."""
        self.turns, self.request = (), None
        self._reset(strategies.meaning(self.lane.strategy))
        self._draw_title()

    def _reset(self, hint: str) -> None:
        self._text.grows = False
        self.state, self.done, self.beams, self.count = "idle", None, [], 0
        self.difference, self._rate = "", _Rate()
        self._text.replace("", hint, self._head())
        self._draw_figures()

    def _head(self) -> list[HeadPart]:
        """The conversation before the answer; nothing where the answer stands alone."""
        shown = []
        for turn in self.turns:
            shown += [HeadPart(PROMPT_MARK + turn.prompt, prominent=True), HeadPart(turn.answer + "\n")]
        if self.request is not None and self._is_chat:
            shown.append(HeadPart(PROMPT_MARK + self.request.prompt, prominent=True))
        return shown

    @property
    def _is_chat(self) -> bool:
        return bool(self.turns) or bool(self.request and self.request.turns)

    def begin(self, request: GenerateRequest, turns: tuple[ChatTurn, ...] = ()) -> None:
        """Called when a request is sent. ``turns``: those of this lane before it."""
        self.request, self.turns = request, turns
        self._reset("waiting for the first token …")
        self._text.grows = True
        self.state = "running"
        self._draw_title()

    def compare(self, difference: str, place: tuple[int, int] | None) -> None:
        """Shows in which token the answer differs from that of another lane; ``place``: its characters."""
        self.difference = difference
        self._text.mark(place)
        self._draw_figures()

    def handle(self, event: Tokens | Beams | LaneDone) -> None:
        """Called with every event of this lane."""
        if isinstance(event, Tokens):
            self.count = event.count
            self._rate.add(event.count, time.monotonic())
            self._text.append(event.text)
        elif isinstance(event, Beams):
            self.beams.append(event)
            self.count = event.step + 1
            self._rate.add(self.count, time.monotonic())
            if self._is_visible:
                self._paced_beams.want()
        else:
            self.finish(event)
            return
        if self._is_visible:
            self._paced_figures.want()

    @property
    def _is_visible(self) -> bool:
        """Whether the lane is in view; else :meth:`show_again` draws it later."""
        return self.display and self.screen.is_current

    def _draw_beams(self) -> None:
        """Shows the most probable hypothesis so far, until the lane ends."""
        if self.beams and self.beams[-1].hypotheses and self.done is None:
            self._text.replace(self.beams[-1].hypotheses[0].text)

    def finish(self, done: LaneDone) -> None:
        """Called when the lane has ended, and again when more is known about it."""
        self.done = done
        self._text.grows = False
        self.state = "stopped" if done.finish_reason == "cancelled" else "done"
        if done.text != self._text.raw:
            self._text.replace(done.text, "the answer is empty")
        elif not done.text:
            self._text.replace("", "the answer is empty")
        self._draw_title()
        self._draw_figures()

    def abandon(self) -> None:
        """Called when the request fails before this lane ended. Its text stays."""
        if self.state == "running":
            self._text.grows = False
            self.state = "stopped" if self._text.raw else "idle"
            if not self._text.raw:
                self._text.replace("", strategies.meaning(self.lane.strategy))
            self._draw_title()
            self._draw_figures()

    @property
    def explains(self) -> str:
        """The term that F10 explains: the strategy."""
        return f"playground.{self.lane.strategy.name.replace('-', '_')}"

    @property
    def text(self) -> str:
        """The text of the lane."""
        return self.done.text if self.done else self._text.raw

    @property
    def tab(self) -> Tab:
        """The lane's tab, for windows that cannot show all lanes at once."""
        mark, index = f"{self.number}{PLAYGROUND_STATES[self.state].glyph}", self.number - 1
        labels = (
            f" {self.number} {self.lane.strategy.name}{PLAYGROUND_STATES[self.state].glyph} ",
            f" {mark} ",
            mark,
        )
        return Tab(str(index), labels, f"go_to({index})", f"${role(self.lane)}")

    def show_again(self) -> None:
        """Draws what arrived while the lane was out of view."""
        if not self.display:
            return
        self._draw_beams()
        self._text.catch_up()
        self._draw_figures()

    def _draw_title(self) -> None:
        name, _, rest = Lane(self.lane.strategy, self.lane.seed).text.partition(" ")
        parts: list[Any] = [
            f"{PLAYGROUND_STATES[self.state].glyph} {self.number} ",
            (name, f"bold ${role(self.lane)}"),
        ]
        details: list[Any] = [f" {rest}" if rest else ""]
        if self.lane.on:
            on = sanitize(self.lane.on)
            details.append((f" on {on}", "$base-model" if on == "base" else "bold $tuned-model"))
        parts += details[::-1] if self._is_narrow else details  # the end may be cut
        title = Content.assemble(*parts)
        if title != self._titled:
            self._titled = self.border_title = title

    @property
    def _speed(self) -> str:
        """The tokens per second, while the lane runs those so far; "" where there are none."""
        rate = self.done.tok_per_s if self.done is not None else self._rate.tok_per_s
        return f"{decimal(rate, 0 if rate >= 10 else 1)} tok/s" if rate > 0 else ""

    def _draw_progress(self) -> None:
        self._draw_title()
        self._draw_figures()

    def on_resize(self) -> None:
        self._draw_progress()

    def watch_has_focus(self, value: bool) -> None:
        super().watch_has_focus(value)
        self._draw_figures()

    def _draw_figures(self) -> None:
        """The first figures stand in the lower border; without one, or where they are cut there and the lane
        has the focus, above the others."""
        if not self.children or not self.display or self.query(Input):
            return
        has_border = self.styles.border_bottom[0] not in ("", "none")
        first, others = self._first_figures(), self._other_figures()
        is_cut = self.has_focus and len(first) > self.size.width - 1
        lines = [others] if has_border and not is_cut else [first, others]
        self._figures.update(
            Content("\n".join(filter(None, lines))), layout=self.done is not None and self.has_focus
        )
        noted = Content(first if has_border else "")
        if noted != self._noted:
            self._noted = self.border_subtitle = noted

    def _first_figures(self) -> str:
        done = self.done
        if done is None:
            parts = [plural(self.count, "token") if self.count else "", self._speed]
        else:
            end = ENDS.get(done.finish_reason, done.finish_reason)
            latency = "" if self.difference and self._is_narrow else f"first {figures(done)['first']}"
            parts = [plural(len(done.token_ids), "token"), self.difference, self._speed, end, latency]
        return " · ".join(filter(None, parts))

    def _other_figures(self) -> str:
        """The figures that are known once the lane has ended."""
        if self.done is None:
            return ""
        shown = figures(self.done)
        perplexity = f"ppl {shown['ppl base']}"
        if self.done.on not in ("", "base"):
            perplexity = f"ppl base {shown['ppl base']}, own {shown['ppl own']}"
            if self.size.width >= WIDE_COLUMNS:
                own = sanitize(self.done.on)
                perplexity = f"ppl under base {shown['ppl base']}, under {own} {shown['ppl own']}"
        logprob = "" if self._is_narrow else f"logprob {shown['logprob']}"
        distinct = "dist-2" if self._is_narrow else "distinct-2"
        parts = [perplexity, logprob, f"rep-4 {shown['rep-4']}", f"{distinct} {shown['distinct-2']}"]
        return "  ".join(filter(None, parts))

    @property
    def _is_narrow(self) -> bool:
        return self.size.width < ROOMY_COLUMNS

    # ------------------------------------------------------------------ editing in place

    async def edit(self) -> None:
        """Opens a text field above the text."""
        if self.query(Input):
            return
        field = Input(
            self.lane.text,
            suggester=SuggestFromList([Lane(f.start).text for f in FAMILIES.values()]),
            compact=True,
        )
        await self.mount(field, before=0)
        field.focus()
        self._check(self.lane.text)

    def _check(self, text: str) -> Lane | None:
        """Shows the parameters of the typed strategy under the lane, or the problem with it."""
        lane: Lane | None = None
        try:
            lane = strategies.parse(text)
        except LabError as error:
            prefix = f"lane {text.strip()!r}: "
            sentence, style = str(error).removeprefix(prefix), "$text-error"
        else:
            names = ", ".join(strategies.parameters(lane.strategy))
            sentence, style = f"{names}, seed, on (a model) can be set, each as name=value.", ""
        self._figures.update(Content.styled(sanitize(sentence), style))
        return lane

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._check(event.value)

    @on(Input.Submitted)
    async def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        lane = self._check(event.value)
        if lane is None:
            self.app.bell()
            return
        await self._close_editor()
        before = self.memory
        self.set_lane(lane, self.number)
        if lane != before.lane:
            self.post_message(self.Edited(self, before))

    async def _close_editor(self) -> None:
        await self.query(Input).remove()
        self._draw_figures()
        self.focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "leave":
            return bool(self.query(Input))
        return super().check_action(action, parameters)

    async def action_leave(self) -> None:
        await self._close_editor()

    def action_scroll_text(self, by: int) -> None:
        self._text.scroll_relative(y=by, animate=False)
