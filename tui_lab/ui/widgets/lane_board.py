"""The lanes of the Playground on the screen: the grid, the current lane, and how changes are undone."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Container
from textual.message import Message

from tui_lab.decoding.strategies import Lane
from tui_lab.ui.terminal.textual_internals import call_after_layout
from tui_lab.ui.views import lane_layout, lane_models
from tui_lab.ui.widgets.lane_view import LaneMemory, LaneView

#: How many changes can be undone.
MOST_UNDONE = 50


class LaneBoard(Container):
    """See the module's docstring. It posts :class:`Rearranged` when lanes or the current one change."""

    DEFAULT_CSS = """
    LaneBoard { height: 1fr; layout: grid; grid-size: 1 1; }
    """

    class Rearranged(Message):
        """What the line of tabs shows has changed."""

    def __init__(self, lanes: Sequence[Lane], id: str = "lanes") -> None:
        super().__init__(id=id)
        self.views: list[LaneView] = [LaneView(lane, n) for n, lane in enumerate(lanes, 1)]
        self.current = 0
        self.grid = lane_layout.LaneGrid(1, 1)
        self._past: list[tuple[list[LaneMemory], int]] = []

    def compose(self) -> ComposeResult:
        yield from self.views

    @property
    def view(self) -> LaneView | None:
        """The current lane; while a lane is being removed its number is that of no other."""
        return self.views[self.current] if self.current < len(self.views) else None

    @property
    def lanes(self) -> list[Lane]:
        return [view.lane for view in self.views]

    # ------------------------------------------------------------------ lay-out

    def on_resize(self, _event: events.Resize) -> None:
        call_after_layout(self, self.lay_out)

    def lay_out(self) -> None:
        """Shows the page of the current lane, in the grid that the window allows."""
        self.current = max(0, min(self.current, len(self.views) - 1))
        paired = lane_models.are_paired(self.lanes)
        self.grid = lane_layout.grid(self.size.width, self.size.height, len(self.views), paired)
        shown = lane_layout.page(self.grid, len(self.views), self.current)
        self.styles.grid_size_columns = self.grid.columns
        self.styles.grid_size_rows = self.grid.rows
        for number, view in enumerate(self.views):
            was = view.display
            view.display = number in shown
            if view.display and not was:
                view.show_again()
        self.post_message(self.Rearranged())

    def go_to(self, number: int) -> None:
        """Makes a lane the current one and focuses it."""
        if self.views:
            self.current = number % len(self.views)
            self.lay_out()
            self.views[self.current].focus()

    @on(events.DescendantFocus)
    def _focused(self, event: events.DescendantFocus) -> None:
        view = next((each for each in event.widget.ancestors_with_self if isinstance(each, LaneView)), None)
        if view in self.views:
            self.current = self.views.index(view)
            self.post_message(self.Rearranged())

    # ------------------------------------------------------------------ changes

    def relabel(self, lanes: Sequence[Lane]) -> None:
        """Gives every lane its strategy and its number."""
        for number, (view, lane) in enumerate(zip(self.views, lanes, strict=True), 1):
            view.set_lane(lane, number)

    def remember(self) -> None:
        """Keeps the lanes as they are for :meth:`undo`."""
        self._past = [*self._past, ([view.memory for view in self.views], self.current)][-MOST_UNDONE:]

    @on(LaneView.Edited)
    def _edited(self, event: LaneView.Edited) -> None:
        event.stop()
        memories = [event.before if view is event.view else view.memory for view in self.views]
        self._past = [*self._past, (memories, self.current)][-MOST_UNDONE:]
        self.post_message(self.Rearranged())

    async def undo(self) -> bool:
        """Takes back the last change; whether there was one."""
        if not self._past:
            return False
        memories, current = self._past.pop()
        await self._put(memories, current)
        return True

    async def insert(self, memory: LaneMemory) -> LaneView:
        """A lane after the current one."""
        self.remember()
        at = self.current + 1 if self.views else 0
        view = LaneView(memory.lane, at + 1, memory)
        after = self.views[at - 1] if self.views else None
        self.views.insert(at, view)
        await self.mount(view, after=after)
        self.relabel(self.lanes)
        self.go_to(at)
        return view

    async def remove_current(self) -> None:
        """Removes the current lane."""
        self.remember()
        await self.views.pop(self.current).remove()
        self.relabel(self.lanes)
        self.go_to(min(self.current, len(self.views) - 1))

    async def replace(self, lanes: Sequence[Lane]) -> None:
        """Other lanes in place of those that are there; what is the same keeps its answer."""
        self.remember()
        known = {view.lane.text: view.memory for view in self.views}
        await self._put([known.get(lane.text) or LaneMemory(lane) for lane in lanes], 0)

    async def _put(self, memories: Sequence[LaneMemory], current: int) -> None:
        had_focus = self.has_focus_within
        old, self.views = self.views, [LaneView(m.lane, n, m) for n, m in enumerate(memories, 1)]
        self.current = current
        for view in old:
            await view.remove()
        await self.mount(*self.views)
        self.lay_out()
        self.compare()
        if had_focus and self.views:
            self.views[self.current].focus()

    def compare(self) -> None:
        """Marks in every answer the first token that differs from that of the lane with the other model."""
        lanes = self.lanes
        for number, view in enumerate(self.views):
            other = lane_models.partner(lanes, number)
            theirs = self.views[other].done if other is not None else None
            if other is None or view.done is None or theirs is None or not view.is_mounted:
                continue
            position = lane_models.first_difference(view.done, theirs)
            if position is None:
                view.compare(f"same as {other + 1}", None)
            else:
                place = lane_models.characters(view.done, position)
                view.compare(f"differs from {other + 1} at token {position + 1}", place)
