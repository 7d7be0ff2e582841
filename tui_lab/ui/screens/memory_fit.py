"""What Setup does about memory: it reads how much is free, works out what would make the recipe fit, applies
that with one key, counts the memory exactly on demand, and asks before a run starts that does not fit."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

from tui_lab.core.errors import LabError
from tui_lab.ui.actions.registry import first_key
from tui_lab.ui.screens.pane import Pane

if TYPE_CHECKING:
    from textual.timer import Timer

    from tui_lab.data.preview_records import PreviewFacts
    from tui_lab.forecast.cost import DataFacts
    from tui_lab.forecast.estimate import Probe
    from tui_lab.forecast.remedies import LargestFit, Remedy
    from tui_lab.hardware.device import DeviceFacts
    from tui_lab.hardware.memory_budget import MemoryBudget
    from tui_lab.models.catalog import Entry
    from tui_lab.recipes.recipe import Recipe
    from tui_lab.ui.views.forecast import ForecastView
    from tui_lab.ui.views.recipe_summary import RecipeSummary
    from tui_lab.ui.widgets.form import FieldsForm
    from tui_lab.ui.widgets.summary_view import SummaryView

    FoundRemedies = tuple[Recipe, tuple[Remedy, ...], LargestFit | None]

#: Seconds between two readings of the free memory, and after a keystroke until remedies are worked out.
READ_EVERY_S, THINK_AFTER_S = 6.0, 0.12
#: A smaller relative change of the free memory is not shown.
SHOWN_CHANGE = 0.01
#: Actions whose keys the bar names.
_KEYS = {
    "fit": "setup.fit",
    "ways": "setup.ways",
    "probe": "setup.probe",
    "gpu": "setup.gpu",
    "calibrate": "setup.calibrate",
}


class RecipeEditor(Protocol):
    """The recipe that is edited, as :class:`MemoryFit` sees it."""

    values: dict[str, object]
    summary: RecipeSummary | None

    @property
    def form(self) -> FieldsForm: ...
    @property
    def summary_view(self) -> SummaryView: ...
    def update_summary(self) -> None: ...
    def start_without_question(self) -> None: ...


class MemoryFit:
    """See the module's docstring. ``editor`` holds the recipe, ``pane`` runs workers and shows messages; both
    are the Setup pane."""

    def __init__(self, pane: Pane, editor: RecipeEditor) -> None:
        self._pane, self._editor = pane, editor
        self.budgets: list[MemoryBudget] = []  # one for each device
        self._budget: MemoryBudget | None = None  # of the device that the run takes, unless it is on the CPU
        self._cpu_budget: MemoryBudget | None = None
        self.data: DataFacts | None = None  # what the preview counted
        self._data_of: tuple[object, object] = (None, None)
        self._too_long: tuple[object, str] = (None, "")  # at which max_length, and what is lost
        self._chosen_uuid: str | None = None  # of the GPU that was chosen by hand
        self._recipe: Recipe | None = None  # that the remedies below are for
        self._is_stale = False  # the remedies are worked out again, and shown until then
        self._timer: Timer | None = None
        self._remedies: tuple[Remedy, ...] | None = None
        self._largest: LargestFit | None = None
        self._before: dict[str, object] = {}  # fields before the remedy that was applied
        self._applied: dict[str, object] = {}
        self._progress = ""  # of the probe in progress
        self._probe: tuple[object, Probe] | None = None  # (what it is valid for, its result)

    # ------------------------------------------------------------------ where the run would be

    @property
    def budget(self) -> MemoryBudget | None:
        """Of the device that the run would take; None until it is known."""
        return self._cpu_budget if self._editor.values.get("device") == "cpu" else self._budget

    @property
    def device(self) -> DeviceFacts | None:
        """The device that the run would take; None until it is known."""
        return self.budget.device if self.budget is not None else None

    def refusal(self) -> str:
        """Why no run can start on that device; "" where one can."""
        return self.budget.problem if self.budget is not None else ""

    def start_watching(self) -> None:
        """Reads the free memory now and then again at intervals."""
        self._read_memory()
        self._pane.set_interval(READ_EVERY_S, self._read_if_shown)

    def _read_if_shown(self) -> None:
        if self._pane.is_current:
            self._read_memory()

    def _read_memory(self) -> None:
        self._pane.in_thread(self._detect, self._set_budgets, "machine")

    def _detect(self) -> tuple[list[MemoryBudget], MemoryBudget]:
        from tui_lab.hardware import memory_budget

        budgets = memory_budget.detect()
        if self._budget is None:
            from tui_lab.forecast.estimate import warm_up

            warm_up(budgets[0])  # the first forecast reads a table: not in the event loop
        return budgets, memory_budget.on_cpu()

    def _set_budgets(self, found: tuple[list[MemoryBudget], MemoryBudget]) -> None:
        from tui_lab.hardware.memory_budget import select

        budgets, self._cpu_budget = found
        before, self.budgets = self._budget, budgets
        uuids = [each.uuid for each in budgets]
        if self._chosen_uuid in uuids and self._chosen_uuid is not None:
            now = budgets[uuids.index(self._chosen_uuid)]
        elif before is not None and before.uuid in uuids:
            now = budgets[
                uuids.index(before.uuid)
            ]  # another GPU may have more free memory now: keep the choice
        else:
            now = budgets[select(budgets, os.environ)]
        if before is None or before.uuid != now.uuid or _has_changed(before, now):
            self._budget = now
            self._is_stale = True
            self._editor.update_summary()

    def choose_next_gpu(self) -> None:
        """Takes the next GPU of this machine."""
        if len(self.budgets) < 2 or self.budget is None or self.budget is self._cpu_budget:
            where = self.budget.label if self.budget else "this machine"
            self._pane.notice(f"The run can only be on {where}: there is no other GPU.")
            return
        uuids = [each.uuid for each in self.budgets]
        self._budget = self.budgets[(uuids.index(self.budget.uuid) + 1) % len(uuids)]
        self._chosen_uuid, self._recipe = self._budget.uuid, None
        self._pane.lab.playground_client.environment = self._budget.environment
        self._editor.update_summary()

    def launch_environment(self) -> Mapping[str, str] | None:
        """The environment that makes a run take the chosen GPU; None where there is no choice."""
        is_distributed = self._editor.values.get("num_processes", 1) != 1
        if len(self.budgets) > 1 and self.budget is not None and self.budget.uuid and not is_distributed:
            return self.budget.environment
        return None

    def set_data(self, request: Mapping[str, object], counted: PreviewFacts) -> None:
        """Takes what the preview counted, if it is about the data and the model that are chosen."""
        from tui_lab.forecast.estimate import data_of
        from tui_lab.ui.views.preview import too_long_text

        values = self._editor.values
        if all(values.get(key) == request.get(key) for key in ("data", "model", "max_rows")):
            self.data, self._recipe = data_of(counted), None
            self._data_of = request["data"], request["model"]
            self._too_long = request.get("max_length"), too_long_text(counted)
            self._editor.update_summary()

    def data_warnings(self) -> tuple[str, ...]:
        """What the preview found that the recipe should be changed for."""
        length, text = self._too_long
        is_of_this = self.data is not None and self._editor.values.get("max_length") == length
        return (text,) if text and is_of_this else ()

    def forget_other_data(self) -> None:
        """Drops what was counted if the data or the model (and with it the tokenizer) is another one."""
        values = self._editor.values
        if self._data_of != (values.get("data"), values.get("model")):
            self.data = None

    # ------------------------------------------------------------------ what is shown

    def show(self) -> None:
        """After each change of the recipe, the model or the device: shows the forecast at once, and what
        helps a moment later."""
        summary = self._editor.summary
        if summary is None or summary.estimate is None or summary.recipe is None:
            self._recipe = None
            self._editor.summary_view.show_forecast(None)
            return
        if summary.recipe != self._recipe or self._is_stale:
            if summary.recipe != self._recipe:
                self._remedies, self._largest = None, None
            self._recipe, self._is_stale = summary.recipe, False
            if self._timer is not None:
                self._timer.stop()
            self._timer = self._pane.set_timer(THINK_AFTER_S, self._start_thinking)
        self._draw()

    def _draw(self) -> None:
        from dataclasses import replace

        from tui_lab.ui.views.forecast import ForecastView

        self._pane.call_after_refresh(self._pane.update_footer)
        summary = self._editor.summary
        if summary is None or summary.estimate is None:
            return
        shown = summary.estimate
        if self._probe is not None and self._probe[0] == self._probe_key():
            shown = replace(shown, probe=self._probe[1])
        self._editor.summary_view.show_forecast(
            ForecastView(
                shown,
                self._remedies,
                self._largest,
                self._progress,
                len(self.budgets),
                self._can_undo(),
                keys={name: first_key(action, self._pane.keymap) for name, action in _KEYS.items()},
            )
        )

    def _start_thinking(self) -> None:
        summary, budget = self._editor.summary, self.budget
        if summary is not None and summary.recipe and summary.entry and budget is not None:
            work = partial(self._work_out, summary.recipe, summary.entry, budget)
            self._pane.in_thread(work, lambda found: self._set_remedies(*found), "fit")

    def _work_out(self, recipe: Recipe, entry: Entry, budget: MemoryBudget) -> FoundRemedies:
        from tui_lab.forecast import remedies as fit

        shape = entry.shape
        lengths = self.data.lengths if self.data else ()
        remedies: tuple[Remedy, ...] = ()
        largest = None
        try:
            if shape is not None:
                remedies = tuple(
                    fit.remedies(shape, recipe, budget.device, budget.free_bytes, entry, lengths)
                )
                largest = fit.largest(shape, recipe, budget.device, budget.free_bytes, entry)
        except LabError:
            remedies = ()  # the summary says why there is no forecast
        return recipe, remedies, largest

    def _set_remedies(self, recipe: Recipe, remedies: tuple[Remedy, ...], largest: LargestFit | None) -> None:
        if recipe == self._recipe:
            self._remedies, self._largest = remedies, largest
            self._draw()

    # ------------------------------------------------------------------ making it fit

    def apply_or_undo(self) -> None:
        """Applies the best remedy; takes it back if one was applied."""
        summary = self._editor.summary
        if self._can_undo():
            self._set_fields(self._before)
            self._before, self._applied = {}, {}
            self._pane.notice("The recipe is as it was before.")
        elif self._remedies and not self._fits():
            self._apply(self._remedies[0])
        elif self._remedies is None and summary is not None and summary.estimate is not None:
            self._pane.notice("The lab still works out what helps.")
        else:
            self._pane.notice(self._why_nothing())

    def _forecast_bar(self) -> ForecastView | None:
        """The forecast that is shown, if there is one."""
        return self._editor.summary_view.forecast

    def _fits(self) -> bool:
        bar = self._forecast_bar()
        return bar is not None and bar.estimate.verdict == "fits"

    def _can_undo(self) -> bool:
        values = self._editor.values
        return bool(self._applied) and all(values.get(k) == v for k, v in self._applied.items())

    def _apply(self, remedy: Remedy) -> None:
        self._before = {key: self._editor.values[key] for key in remedy.changes}
        self._applied = dict(remedy.changes)
        self._set_fields(remedy.changes)
        key = self._pane.keys("setup.fit")
        self._pane.notice(f"{remedy.text}\n{remedy.cost}\n{key} undoes it.")

    def _set_fields(self, changes: Mapping[str, object]) -> None:
        """Sets fields as if they had been typed."""
        for key, value in changes.items():
            self._editor.form.set_value(key, value)

    def _why_nothing(self) -> str:
        """Why there is nothing to change."""
        if self._fits():
            return "The recipe fits as it is."
        if self._forecast_bar() is None:
            return "The memory is not forecast yet."
        return "No change of the recipe makes it fit: choose a smaller model."

    def list_ways(self) -> None:
        """Lists everything that makes the recipe fit."""
        if self._remedies and not self._fits():
            self.ask_how(start=False)
        else:
            self._pane.notice(self._why_nothing())

    def ask_how(self, start: bool) -> None:
        """Asks how to make the recipe fit. ``start``: the run may also be started as it is."""
        from tui_lab.forecast import estimate
        from tui_lab.ui.widgets.dialogs import START_ANYWAY, RemedyDialog

        summary = self._editor.summary
        assert summary is not None and summary.estimate is not None
        title, offered = estimate.line(summary.estimate), self._remedies

        def taken(number: int | None) -> None:
            # of the list that was shown: meanwhile other remedies may have been worked out
            if number == START_ANYWAY:
                self._editor.start_without_question()
            elif number is not None and number >= 0 and offered:
                self._apply(offered[number])

        self._pane.app.push_screen(RemedyDialog(title, offered, start), taken)

    def is_too_large(self) -> bool:
        """Whether the run would not fit, by the present forecast or probe."""
        bar = self._forecast_bar()
        return bar is not None and bar.estimate.verdict == "over"

    # ------------------------------------------------------------------ exact memory

    def _probe_key(self) -> object:
        """What the result of a probe is valid for."""
        summary = self._editor.summary
        if summary is None or summary.recipe is None or self.budget is None:
            return None
        plain = summary.recipe.model_dump()
        return {k: v for k, v in plain.items() if k not in ("data", "preset")}, self.budget.device

    def count_memory(self) -> None:
        """Counts the memory of two real steps over tensors without content."""
        summary = self._editor.summary
        if summary is None or summary.recipe is None or summary.estimate is None or self.budget is None:
            self._pane.notice("There is no recipe to count yet.", "warning")
        elif not self._progress:
            self._start_probe(
                partial(self._count, summary.recipe, self.budget, self._probe_key()),
                "count the memory exactly",
            )

    def measure_speed(self) -> None:
        """Measures ten steps of the recipe on this machine."""
        summary = self._editor.summary
        if summary is None or summary.recipe is None or summary.estimate is None:
            self._pane.notice("There is no recipe to measure yet.", "warning")
        elif not self._progress:
            environment = self.budget.environment if self.budget else {}
            self._start_probe(partial(self._measure, summary.recipe, environment), "measure the speed")

    def _start_probe(self, work: Callable[[], Awaitable[None]], description: str) -> None:
        self._pane.run_worker(
            work, exclusive=True, group="probe", description=description, exit_on_error=False
        )

    def _show_progress(self, text: str, done: int | None = None, total: int | None = None) -> None:
        self._progress = text if not done else f"{text} {done} of {total}"
        self._draw()

    def _as_run(self, recipe: Recipe) -> Recipe:
        """The recipe as it is divided on the GPU."""
        summary = self._editor.summary
        return summary.estimate.as_run(recipe) if summary and summary.estimate else recipe

    async def _count(self, recipe: Recipe, budget: MemoryBudget, key: object) -> None:
        from tui_lab.core import job_client
        from tui_lab.forecast import estimate
        from tui_lab.forecast.jobs import MemoryProbeAnswer

        self._show_progress("counting the memory exactly")
        try:
            answer = await job_client.run_job(
                "tui_lab.training.memory_probe",
                estimate.probe_request(self._as_run(recipe), budget),
                self._show_progress,
                answer=MemoryProbeAnswer,
            )
        except LabError as error:
            self._pane.notice(error, "error")
        else:
            summary = self._editor.summary
            if key == self._probe_key() and summary is not None and summary.estimate is not None:
                found = estimate.with_probe(summary.estimate, answer)
                self._probe = (key, cast("Probe", found.probe))
            else:
                self._pane.notice("The recipe changed while its memory was counted: press the key again.")
        finally:
            self._progress = ""
            self._draw()

    async def _measure(self, recipe: Recipe, environment: dict[str, str]) -> None:
        from tui_lab.core import job_client
        from tui_lab.forecast import estimate
        from tui_lab.forecast.jobs import CalibrationAnswer

        self._show_progress("starting ten steps")
        try:
            answer = await job_client.run_job(
                "tui_lab.training.calibrate",
                estimate.calibration_request(self._as_run(recipe), self.data),
                self._show_progress,
                environment,
                answer=CalibrationAnswer,
            )
        except LabError as error:
            self._pane.notice(error, "error")
        else:
            self._pane.notice(answer.text or "Measured.")
        finally:
            self._progress = ""
            self._editor.update_summary()


def _has_changed(before: MemoryBudget, now: MemoryBudget) -> bool:
    """Whether a problem or the free memory differs enough to be shown."""
    if before.problem != now.problem:
        return True
    if before.free_bytes is None or now.free_bytes is None:
        return before.free_bytes is not now.free_bytes
    return abs(now.free_bytes - before.free_bytes) > SHOWN_CHANGE * max(before.free_bytes, 1)
