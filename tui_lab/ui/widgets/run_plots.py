"""One plot of a run, fed with the run's state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tui_lab.runs.flag_rules.flag import Flag
from tui_lab.runs.state import RunState
from tui_lab.ui.views.run_plots import EMPTY_AT_END, MARKED, PLOTS, last_step, run_marks
from tui_lab.ui.widgets.plot import Plot


class RunPlot(Plot):
    """One of :data:`PLOTS`, fed with a run's state."""

    def __init__(self, kind: str) -> None:
        options, self._make = PLOTS[kind]
        self._empty = options.empty
        self._machine = kind == "memory"  # telemetry concerns only this plot
        self._marked = kind in MARKED
        super().__init__(replace(options, title=""))  # the panel names it

    def show_run(self, key: str, state: RunState, ended: bool = False, flags: Sequence[Flag] = ()) -> None:
        """Shows the state of run ``key``. ``ended``: it gets no more data."""
        self.set_options(empty=EMPTY_AT_END if ended else self._empty, x_high=last_step(state, ended))
        lengths = tuple(len(curve.steps) for curve in state.curves())
        probes = (len(state.kl_probes), len(state.item_probes), state.probe_plan is not None)
        machine = (state.telemetry.records, state.forecast) if self._machine else ()
        marks = run_marks(state, flags) if self._marked else []
        version = (key, state.attempt, state.step, lengths, probes, machine, tuple(marks))
        self.show(lambda: self._make(state), version, lambda: marks)
