"""The token inspector: one lane, token by token. It gets all that it shows at the start; only the
probabilities that other models give to the lane's tokens are requested once, through a function."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from textual import work
from textual.app import ComposeResult

from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.decoding.records import Beams, ScoredToken
from tui_lab.playground.client import PlaygroundClient
from tui_lab.playground.messages import GenerateRequest, GenerationEvent, LaneDone, ScoreRequest
from tui_lab.ui.actions.footer import KeysLine
from tui_lab.ui.actions.modal import Modal
from tui_lab.ui.actions.registry import bindings
from tui_lab.ui.screens.pane import Pane
from tui_lab.ui.views import lane_models
from tui_lab.ui.widgets.inspector import InspectorView
from tui_lab.ui.widgets.lane_board import LaneBoard

Judge = Callable[[], Awaitable["JudgedLane"]]
TokenDetails = Callable[[], Awaitable[tuple[LaneDone, list[Beams]]]]
PAGE_TOKENS = 20
#: Models that stand side by side: more bars than that nobody compares at a glance.
MOST_MODELS = 3


@dataclass(frozen=True)
class JudgedLane:
    """What models make of the tokens of a lane, by the name of the model; the text of its prompt's tokens;
    and what they make of the lane beside it."""

    scores: Mapping[str, Sequence[ScoredToken]]
    prompt: tuple[str, ...] = ()
    theirs: Mapping[str, Sequence[ScoredToken]] = field(default_factory=dict)


class Inspector(Modal[None]):
    """See the module's docstring. ``beams``: the lane's hypotheses, step by step; ``judge`` gives, by name,
    what models make of ``done.token_ids``."""

    DEFAULT_CSS = """
    Inspector { background: $background; }
    """
    AUTO_FOCUS = "InspectorView"
    GROUP = "inspector"
    BINDINGS = bindings("inspector")

    def __init__(
        self,
        done: LaneDone,
        beams: Sequence[Beams] = (),
        judge: Judge | None = None,
        details: TokenDetails | None = None,
        theirs: LaneDone | None = None,
    ) -> None:
        super().__init__()
        self._view = InspectorView(done, beams, asks=judge is not None, theirs=theirs)
        self._judge, self._details = judge, details

    def compose(self) -> ComposeResult:
        yield self._view
        yield KeysLine(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        if self._judge is not None:
            self._view.show_note("Asking the models about every token …")
        if self._judge is not None or self._details is not None:
            self._ask()

    @work(exclusive=True, group="judge", description="ask about a lane", exit_on_error=False)
    async def _ask(self) -> None:
        if self._details is not None:
            try:
                self._view.show_details(*await self._details())
            except LabError as error:
                self.notify(sanitize(f"More about this lane is not available: {error}"), markup=False)
        if self._judge is not None:
            try:
                judged = await self._judge()
                self._view.show_prompt(judged.prompt)
                self._view.show_scores(judged.scores, judged.theirs)
            except LabError as error:
                self._view.show_note(f"The models cannot be queried: {error}")

    def action_move(self, by: int) -> None:
        self._view.move(by)

    def action_move_page(self, by: int) -> None:
        self._view.move(by * PAGE_TOKENS)

    def action_move_rows(self, by: int) -> None:
        self._view.move_rows(by)

    def action_surprise(self, by: int) -> None:
        if not self._view.move_to_surprise(by):
            where = "behind" if by > 0 else "before"
            self.notify(f"No token under 1.6% {where} this one.", timeout=2, markup=False)

    def action_panel(self, by: int) -> None:
        self._view.turn_panel(by)

    def action_colours(self) -> None:
        if not self._view.scene.scores_by_model:
            self.notify("Only the weights that the lane ran on are known.", timeout=2, markup=False)
        else:
            self._view.turn_colours()


def inspect_current(pane: Pane, client: PlaygroundClient, board: LaneBoard) -> None:
    """Opens the inspector over the current lane, beside the lane that it is compared with."""
    view = board.view
    if view is None or view.done is None or view.request is None:
        pane.notice("Run a prompt first; then look into a lane that has ended.", "warning")
        return
    other = lane_models.partner(board.lanes, board.views.index(view))
    theirs = board.views[other].done if other is not None else None
    pane.app.push_screen(inspect_lane(client, view.request, view.done, view.beams, theirs))


def inspect_lane(
    client: PlaygroundClient,
    request: GenerateRequest,
    done: LaneDone,
    beams: Sequence[Beams] = (),
    theirs: LaneDone | None = None,
) -> Inspector:
    """The inspector over a lane that the playground decoded: it requests what the lane did not bring, and
    what the base and the adapters beside it make of every token. ``theirs``: the lane to align with."""

    async def judge() -> JudgedLane:
        on = ("base", done.on or "base", *([theirs.on] if theirs else []), *client.names)
        names = tuple(dict.fromkeys(name for name in on if name))[:MOST_MODELS]
        scored = await client.score(ScoreRequest(done.prompt_token_ids, done.token_ids, names))
        if theirs is None or not theirs.token_ids:
            return JudgedLane(scored.tokens, scored.prompt)
        beside = await client.score(ScoreRequest(theirs.prompt_token_ids, theirs.token_ids, names, top=0))
        return JudgedLane(scored.tokens, scored.prompt, beside.tokens)

    async def details() -> tuple[LaneDone, list[Beams]]:
        steps: list[Beams] = []

        def on_event(event: GenerationEvent) -> None:
            if isinstance(event, Beams):
                steps.append(event)

        # alone in its batch, the same seed gives the same text (but for rounding in half precision)
        alone = msgspec.structs.replace(
            request, lanes=(done.description,), turns=(request.turns_of(done.lane),), details=True
        )
        again = await client.generate(alone, on_event)
        return merged(done, again[0]), steps

    known = any(token.alternatives or token.candidates for token in done.tokens) or bool(beams)
    return Inspector(done, beams, judge if done.token_ids else None, None if known else details, theirs)


def merged(done: LaneDone, again: LaneDone) -> LaneDone:
    """The lane with the details of another decoding of it, as far as both have the same tokens."""
    same = 0
    for ours, theirs in zip(done.token_ids, again.token_ids, strict=False):
        if ours != theirs:
            break
        same += 1
    return msgspec.structs.replace(done, tokens=(*again.tokens[:same], *done.tokens[same:]))
