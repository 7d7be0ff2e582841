"""The token inspector on the screen: holds the position in a lane, draws it with ``views.inspector_draw``,
and redraws only the rows that changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.cells import cell_len
from textual import events

from tui_lab.decoding.records import Beams, ScoredToken
from tui_lab.playground.messages import LaneDone
from tui_lab.ui.views.inspector_draw import TokenPiece, draw, lay_out, row_of, text_window
from tui_lab.ui.views.inspector_state import InspectorState, level
from tui_lab.ui.widgets.rows import RowsWidget

#: Level of surprise at which the jump keys stop: 6 bits, p under 1.6 %.
STOP_AT_LEVEL = 3


class InspectorView(RowsWidget, can_focus=True):
    """See the module's docstring."""

    DEFAULT_CSS = """
    InspectorView { width: 1fr; height: 1fr; background: $background; }
    """

    def __init__(
        self, done: LaneDone, beams: Sequence[Beams] = (), asks: bool = False, theirs: LaneDone | None = None
    ) -> None:
        super().__init__()
        by_step = {event.step: event for event in beams if event.lane == done.lane}
        scene = InspectorState(done, by_step, asks=asks, theirs=theirs)
        self.scene = replace(scene, view=scene.views[0]) if scene.views else scene
        self._texts = [token.text for token in done.tokens]
        self._layout: list[list[TokenPiece]] = [[]]
        self._layout_width = -1

    # ------------------------------------------------------------------ data

    def show_scores(
        self,
        scores_by_model: Mapping[str, Sequence[ScoredToken]],
        their_scores: Mapping[str, Sequence[ScoredToken]] | None = None,
    ) -> None:
        """Adds the scores of the lane's tokens and of those of the lane beside it, by model name."""
        self._change(
            scores_by_model=dict(scores_by_model), their_scores=dict(their_scores or {}), note="", asks=True
        )

    def show_prompt(self, pieces: Sequence[str]) -> None:
        """Adds the prompt, with the turns before it, over the answer."""
        self._layout_width = -1
        self._change(prompt=tuple(pieces))

    def show_details(self, done: LaneDone, beams: Sequence[Beams] = ()) -> None:
        """Replaces the lane by the same one with details."""
        by_step = {event.step: event for event in beams} or self.scene.beams
        first = not any(view != "models" for view in self.scene.views)
        self._change(done=done, beams=by_step)
        if first and self.scene.views:
            self._change(view=self.scene.views[0])

    def show_note(self, text: str) -> None:
        """Shows a sentence in place of the model scores."""
        self._change(note=text)

    # ------------------------------------------------------------------ moving

    def move(self, by: int) -> None:
        """Moves by a number of tokens, within the answer; from its first token into the prompt."""
        last, position = max(0, len(self.scene.tokens) - 1), self.scene.position
        first = 0 if position > 0 else -len(self.scene.prompt)
        self._change(position=min(last, max(first, position + by)))

    def move_rows(self, by: int) -> None:
        """Moves to the token ``by`` rows below; a negative ``by`` moves up."""
        at = row_of(self._layout, self.scene.position)
        row = min(len(self._layout) - 1, max(0, at + by))
        if row == at or not self._layout[row]:
            return
        column = 0
        for place in self._layout[at]:
            if place.token == self.scene.position:
                break
            column += cell_len(place.text)
        used = 0
        for place in self._layout[row]:
            used += cell_len(place.text)
            if used > column:
                break
        self._change(position=place.token)

    def move_to_surprise(self, by: int) -> bool:
        """Moves to the next surprising token in direction ``by`` (1 or −1). Returns whether there is one."""
        at = max(self.scene.position, -1) + by
        while 0 <= at < len(self.scene.tokens):
            if level(self.scene.logprob(at)) >= STOP_AT_LEVEL:
                self._change(position=at)
                return True
            at += by
        return False

    def turn_panel(self, by: int) -> None:
        """Selects the panel ``by`` places further."""
        views = self.scene.views
        if views:
            at = views.index(self.scene.view) if self.scene.view in views else 0
            self._change(view=views[(at + by) % len(views)])

    def turn_colours(self) -> str:
        """Colours the text by the next model. Returns its name, "" for the lane's own weights."""
        names = ["", *self.scene.scores_by_model]
        at = names.index(self.scene.colour_by) if self.scene.colour_by in names else 0
        self._change(colour_by=names[(at + 1) % len(names)])
        return self.scene.colour_by

    # ------------------------------------------------------------------ drawing

    def _change(self, **changes: Any) -> None:
        scene = replace(self.scene, **changes)
        if scene != self.scene:
            self.scene = scene
            self._draw()

    def on_mount(self) -> None:
        marker = getattr(self.app, "marker", "block")
        self.scene = replace(self.scene, marks="ascii" if marker == "ascii" else "block")

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        width, height = self.size
        if not width or not height:
            return
        if width != self._layout_width:
            texts = [*self.scene.prompt, *self._texts]
            self._layout, self._layout_width = lay_out(texts, width, len(self.scene.prompt)), width
        self.set_rows(draw(self.scene, self._layout, width, height))

    def on_click(self, event: events.Click) -> None:
        """Moves to the clicked token."""
        token = self.token_at(event.x, event.y)
        if token is not None:
            self._change(position=token)

    def token_at(self, x: int, y: int) -> int | None:
        """The index of the token at a cell of the widget; None outside of the text."""
        first, count = text_window(self.scene, self._layout, self.size.height)
        row, used = first + (y - 1) // 2, 0
        if not (1 <= y <= 2 * count and row < len(self._layout)):
            return None
        for place in self._layout[row]:
            used += cell_len(place.text)
            if x < used:
                return place.token
        return None
