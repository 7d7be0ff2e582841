"""What the Setup pane does about memory: watches what is free, works out what would make the recipe fit,
applies it with one key, counts it exactly on demand, and asks before a run starts that does not fit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from textual import work

from tui_lab.core.errors import LabError
from tui_lab.ui.actions.registry import keys_of
from tui_lab.ui.screens.pane import Pane

if TYPE_CHECKING:
    from textual.timer import Timer

    from tui_lab.forecast.estimate import DataFacts, Probe
    from tui_lab.forecast.remedies import LargestFit, Remedy
    from tui_lab.hardware.device import DeviceFacts
    from tui_lab.hardware.memory_budget import MemoryBudget
    from tui_lab.recipes.recipe import Recipe
    from tui_lab.ui.views.recipe_summary import RecipeSummary
    from tui_lab.ui.widgets.form import FieldsForm
    from tui_lab.ui.widgets.summary_view import SummaryView

#: Seconds between two looks at the free memory, and after a keystroke until remedies are worked out.
LOOK_S, THINK_S = 3.0, 0.12
#: Free memory that changed by less than this part is not drawn anew.
CHANGE = 0.01
#: Actions whose keys the bar names.
_KEYS = {
    "fit": "setup.fit",
    "ways": "setup.ways",
    "probe": "setup.probe",
    "gpu": "setup.gpu",
    "calibrate": "setup.calibrate",
}


class FitPane(Pane):
    """The part of :class:`tui_lab.ui.screens.setup.SetupPane` that the module's docstring tells of."""

    if TYPE_CHECKING:
        values: dict[str, Any]
        summary: RecipeSummary | None

        @property
        def form(self) -> FieldsForm: ...
        @property
        def summary_view(self) -> SummaryView: ...
        def _summarise(self) -> None: ...

    def __init__(self) -> None:
        super().__init__()
        self.device: DeviceFacts | None = None
        self.rooms: list[MemoryBudget] = []
        self.room: MemoryBudget | None = None
        self.data_facts: DataFacts | None = None
        self._data_of: tuple[Any, Any] = (None, None)
        self._uuid: str | None = None  # of the GPU that was chosen by hand
        self._thought: Recipe | None = None  # that remedies are worked out for
        self._stale = False  # they are worked out again, and shown until then
        self._thinking: Timer | None = None
        self._remedies: tuple[Remedy, ...] | None = None
        self._largest: LargestFit | None = None
        self._before: dict[str, Any] = {}
        self._applied: dict[str, Any] = {}
        self._probing = ""
        self._probe: tuple[Any, Probe] | None = None

    # ------------------------------------------------------------------ where it would run

    @work(
        thread=True, exclusive=True, group="machine", description="ask for free memory", exit_on_error=False
    )
    def _look_at_machine(self) -> None:
        from tui_lab.hardware import memory_budget as room

        rooms = room.detect()
        if self.room is None:
            from tui_lab.forecast.estimate import warm_up

            warm_up(rooms[0])  # the first forecast reads a table: not in the event loop
        self.app.call_from_thread(self._take_rooms, rooms)

    def _watch_memory(self) -> None:
        self._look_at_machine()
        self.set_interval(LOOK_S, self._look_again)

    def _look_again(self) -> None:
        if self.is_current:
            self._look_at_machine()

    def _take_rooms(self, rooms: list[MemoryBudget]) -> None:
        from tui_lab.hardware.memory_budget import select

        before, self.rooms = self.room, rooms
        places = [room.uuid for room in rooms]
        if self._uuid in places and self._uuid is not None:
            self.room = rooms[places.index(self._uuid)]
        elif before is not None and before.uuid in places:
            self.room = rooms[places.index(before.uuid)]  # the freest may change: the choice does not
        else:
            self.room = rooms[select(rooms, os.environ)]
        self.device = self.room.device
        if before is None or before.uuid != self.room.uuid or _moved(before, self.room):
            self._stale = True
            self._summarise()
        else:
            self.room = before

    def action_next_gpu(self) -> None:
        """The next GPU of this machine."""
        if len(self.rooms) < 2 or self.room is None:
            where = self.room.label if self.room else "this machine"
            self.notice(f"There is nothing else to run on than {where}.")
            return
        places = [room.uuid for room in self.rooms]
        self.room = self.rooms[(places.index(self.room.uuid) + 1) % len(places)]
        self._uuid, self.device, self._thought = self.room.uuid, self.room.device, None
        self._summarise()

    def launch_options(self) -> dict[str, Any]:
        """What starting a run must be told so that it takes the GPU that was chosen."""
        several = self.values.get("num_processes", 1) != 1
        if len(self.rooms) > 1 and self.room is not None and self.room.uuid and not several:
            return {"environment": self.room.environment}
        return {}

    def _take_data_facts(self, request: dict[str, Any], answer: dict[str, Any]) -> None:
        """What the preview counted, while it is about the data and model that are chosen."""
        from tui_lab.core.records import from_plain
        from tui_lab.data.preview import PreviewAnswer
        from tui_lab.forecast.estimate import data_of

        if all(self.values.get(key) == request.get(key) for key in ("data", "model", "max_rows")):
            self.data_facts, self._thought = (
                data_of(from_plain(answer, PreviewAnswer, "the preview's answer").facts),
                None,
            )
            self._data_of = request["data"], request["model"]
            self._summarise()

    def _forget_data(self) -> None:
        """Other data, or a model with another tokenizer: what was counted is of no use."""
        if self._data_of != (self.values.get("data"), self.values.get("model")):
            self.data_facts = None

    # ------------------------------------------------------------------ what is shown

    def _show_forecast(self) -> None:
        """After every change of the recipe, the model or the machine: at once what the formula says, and a
        moment later what helps."""
        summary = self.summary
        if summary is None or summary.outlook is None or summary.recipe is None:
            self._thought = None
            self.summary_view.show_forecast(None)
            return
        if summary.recipe != self._thought or self._stale:
            if summary.recipe != self._thought:
                self._remedies, self._largest = None, None
            self._thought, self._stale = summary.recipe, False
            if self._thinking is not None:
                self._thinking.stop()
            self._thinking = self.set_timer(THINK_S, self._think)
        self._draw()

    def _draw(self) -> None:
        from dataclasses import replace

        from tui_lab.ui.views.forecast import ForecastView

        if self.summary is None or self.summary.outlook is None:
            return
        outlook = self.summary.outlook
        if self._probe is not None and self._probe[0] == self._probed_for():
            outlook = replace(outlook, probe=self._probe[1])
        keymap = self.keymap
        self.summary_view.show_forecast(
            ForecastView(
                outlook,
                self._remedies,
                self._largest,
                self._probing,
                len(self.rooms),
                self._can_undo(),
                {name: keys_of(action, keymap) for name, action in _KEYS.items()},
            )
        )

    @work(thread=True, exclusive=True, group="fit", description="work out what fits", exit_on_error=False)
    def _think(self) -> None:
        from tui_lab.forecast import remedies as fit

        summary, room = self.summary, self.room
        if summary is None or summary.recipe is None or summary.entry is None or room is None:
            return
        recipe, entry, shape = summary.recipe, summary.entry, summary.entry.shape
        lengths = self.data_facts.lengths if self.data_facts else ()
        remedies: tuple[Remedy, ...] = ()
        largest = None
        try:
            if shape is not None:
                remedies = tuple(fit.remedies(shape, recipe, room.device, room.free_bytes, entry, lengths))
                largest = fit.largest(shape, recipe, room.device, room.free_bytes, entry)
        except LabError:
            remedies = ()  # the summary says why there is no forecast
        self.app.call_from_thread(self._thought_out, recipe, remedies, largest)

    def _thought_out(self, recipe: Recipe, remedies: tuple[Remedy, ...], largest: LargestFit | None) -> None:
        if recipe == self._thought:
            self._remedies, self._largest = remedies, largest
            self._draw()

    # ------------------------------------------------------------------ making it fit

    def action_make_fit(self) -> None:
        """Applies the best remedy; where one was applied, takes it back."""
        if self._can_undo():
            self._change(self._before)
            self._before, self._applied = {}, {}
            self.notice("As it was before.")
        elif self._remedies and not self._fits():
            self._apply(self._remedies[0])
        elif self._remedies is None and self.summary is not None and self.summary.outlook is not None:
            self.notice("What helps is not worked out yet.")
        else:
            self.notice(self._no_way())

    def _fits(self) -> bool:
        bar = self.summary_view.forecast
        return bar is not None and bar.outlook.verdict == "fits"

    def _can_undo(self) -> bool:
        return bool(self._applied) and all(self.values.get(k) == v for k, v in self._applied.items())

    def _apply(self, remedy: Remedy) -> None:
        self._before = {key: self.values[key] for key in remedy.changes}
        self._applied = dict(remedy.changes)
        self._change(remedy.changes)
        key = keys_of("setup.fit", self.keymap)
        self.notice(f"{remedy.text}\n{remedy.cost}\n{key} undoes it.")

    def _change(self, changes: dict[str, Any]) -> None:
        """Sets fields as if they had been typed."""
        for key, value in changes.items():
            self.form.set_value(key, value)

    def _no_way(self) -> str:
        """Why there is nothing to change."""
        if self._fits():
            return "The recipe fits as it is."
        if self.summary_view.forecast is None:
            return "The memory is not forecast yet."
        return "Nothing that can be changed here makes it fit: choose a smaller model."

    def action_ways(self) -> None:
        """Lists everything that makes it fit."""
        if self._remedies and not self._fits():
            self._ask_how(start=False)
        else:
            self.notice(self._no_way())

    def _ask_how(self, start: bool) -> None:
        from tui_lab.forecast import estimate as words
        from tui_lab.ui.widgets.dialogs import START_ANYWAY, RemedyDialog

        assert self.summary is not None and self.summary.outlook is not None
        title, offered = words.line(self.summary.outlook), self._remedies

        def taken(number: int | None) -> None:
            # of what was listed: meanwhile the pane may have worked out others
            if number == START_ANYWAY:
                self.start_unasked()
            elif number is not None and number >= 0 and offered:
                self._apply(offered[number])

        self.app.push_screen(RemedyDialog(title, offered, start), taken)

    def start_unasked(self) -> None:
        """Starts the run although it does not fit."""
        raise NotImplementedError

    def does_not_fit(self) -> bool:
        """Whether the run would not fit by what is known now."""
        bar = self.summary_view.forecast
        return bar is not None and bar.outlook.verdict == "over"

    # ------------------------------------------------------------------ the exact probe

    def _probed_for(self) -> Any:
        """What a probe's answer is valid for."""
        if self.summary is None or self.summary.recipe is None or self.room is None:
            return None
        plain = self.summary.recipe.model_dump()
        return {k: v for k, v in plain.items() if k not in ("data", "preset")}, self.room.device

    def action_exact(self) -> None:
        """Counts two real steps over tensors without content."""
        summary = self.summary
        if summary is None or summary.recipe is None or summary.outlook is None or self.room is None:
            self.notice("There is no recipe to count yet.", "warning")
        elif not self._probing:
            self._count(summary.recipe, self.room, self._probed_for())

    def action_calibrate(self) -> None:
        """Measures ten steps of the recipe on this machine."""
        summary = self.summary
        if summary is None or summary.recipe is None or summary.outlook is None:
            self.notice("There is no recipe to measure yet.", "warning")
        elif not self._probing:
            self._measure(summary.recipe, self.room.environment if self.room else {})

    def _progress(self, text: str, done: int | None = None, total: int | None = None) -> None:
        self._probing = text if not done else f"{text} {done} of {total}"
        self._draw()

    @work(exclusive=True, group="probe", description="count the memory exactly", exit_on_error=False)
    async def _count(self, recipe: Recipe, room: MemoryBudget, key: Any) -> None:
        from tui_lab.core import job_client
        from tui_lab.forecast import estimate as words

        self._progress("starting the exact probe")
        try:
            answer = await job_client.run_job(
                "tui_lab.training.memory_probe", words.probe_request(recipe, room), self._progress
            )
        except LabError as error:
            self.notice(error, "error")
        else:
            if key == self._probed_for() and self.summary is not None and self.summary.outlook is not None:
                found = words.probed(self.summary.outlook, answer)
                self._probe = (key, cast("Probe", found.probe))
            else:
                self.notice("The recipe changed while it was counted: press the key again.")
        finally:
            self._probing = ""
            self._draw()

    @work(exclusive=True, group="probe", description="measure the speed", exit_on_error=False)
    async def _measure(self, recipe: Recipe, environment: dict[str, str]) -> None:
        from tui_lab.core import job_client
        from tui_lab.forecast import estimate as words

        self._progress("starting ten steps")
        try:
            answer = await job_client.run_job(
                "tui_lab.training.calibrate",
                words.calibration_request(recipe, self.data_facts),
                self._progress,
                environment,
            )
        except LabError as error:
            self.notice(error, "error")
        else:
            self.notice(answer.get("text") or "Measured.")
        finally:
            self._probing = ""
            self._summarise()


def _moved(before: MemoryBudget, now: MemoryBudget) -> bool:
    """Whether the free memory differs enough to be drawn anew."""
    if before.free_bytes is None or now.free_bytes is None:
        return before.free_bytes is not now.free_bytes
    return abs(now.free_bytes - before.free_bytes) > CHANGE * max(before.free_bytes, 1)
