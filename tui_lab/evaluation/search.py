"""``tui-lab search``: pilots under a promise about retention and within a budget. Optuna's TPE sampler
proposes recipes, its successive halving prunes them, and its journal in the folder of the search is the
memory: after any kill the search goes on from the measured pilots. Every pilot is a run folder like any
other."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from tui_lab.core import input_files
from tui_lab.core.errors import LabError
from tui_lab.core.files import FileLock, write_atomically
from tui_lab.core.job_protocol import OnProgress
from tui_lab.core.records import from_json, to_json
from tui_lab.evaluation import search_plan as plan
from tui_lab.evaluation.search_plan import Choice, Pilot, SearchResult
from tui_lab.evaluation.search_settings import SearchSettings, SearchValues

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import Trial

RESULT, JOURNAL, LOCK = "search.json", "journal.log", "search.lock"
#: The most trials: a search that proposes for ever has a budget that is never used up.
MOST_TRIALS = 200


class Measure(Protocol):
    """Trains and measures one pilot. Returns None when ``deadline`` (of the clock) came first."""

    def __call__(
        self,
        values: SearchValues,
        steps: int,
        seed: int,
        strengths: tuple[float, ...],
        deadline: float,
        *,
        confirms: bool,
    ) -> Pilot | None: ...


#: Strengths of the adapter that every pilot measures beside the base.
STRENGTHS = (0.25, 0.5, 0.75, 1.0)


def propose(trial: Trial, learning_rate: float) -> SearchValues:
    """The recipe of a trial: recipe fields with their values."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", learning_rate / 5, learning_rate * 5, log=True),
        "lora_r": trial.suggest_categorical("lora_r", [4, 8, 16, 32]),
        "replay_fraction": trial.suggest_categorical("replay_fraction", [0.0, 0.1, 0.25, 0.5]),
        "kl_weight": trial.suggest_categorical("kl_weight", [0.0, 0.1, 0.5]),
        "target_modules": trial.suggest_categorical("target_modules", ["attention", "all"]),
    }


class Search:
    """One search in ``folder``, which is made where it is missing. ``clock`` counts seconds."""

    def __init__(
        self,
        settings: SearchSettings,
        folder: Path,
        measure: Measure,
        on_progress: OnProgress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._folder, self._measure = settings, folder, measure
        self._on_progress, self._clock = on_progress, clock
        self.result = SearchResult(
            search=settings.search,
            model=settings.model,
            data=settings.data,
            keep=settings.keep,
            budget_s=settings.budget_s,
            suite=settings.suite,
        )

    def run(self) -> SearchResult:
        """Searches until the budget is used. Raises LabError, also when another process searches here."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FileLock.acquire(self._folder / LOCK)
        except OSError as error:
            raise LabError(f"the folder of the search cannot be written ({error.strerror})") from None
        if lock is None:
            raise LabError(f"search {self._settings.search} is in progress in another process")
        with lock:
            self._read()
            self._deadline = self._clock() + self._settings.budget_s - self.result.spent_s
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Optuna's notes on experimental parts
                self._pilots()
            self._confirm()
            return self.result

    # --- pilots -----------------------------------------------------------------------------------

    def _pilots(self) -> None:
        study = self._study()
        while len(study.trials) < MOST_TRIALS + 1 and self._has_time(self._settings.steps):
            trial = self._next_trial(study)
            values = propose(trial, self._settings.learning_rate)
            found = self._climb(trial, values)
            if found is None:  # the budget ended: the trial stays open for a search that goes on
                return
            study.tell(trial, found)

    def _climb(self, trial: Trial, values: SearchValues) -> float | None:
        """Measures a trial at each rung until it is pruned; its worth, None where the budget ended first."""
        found: float | None = None
        for rung, factor in enumerate(plan.RUNGS):
            steps = self._settings.steps * factor
            pilot = self._known(trial.number, rung)
            if pilot is None:
                if not self._has_time(steps):
                    return found
                pilot = self._pilot(trial.number, rung, values, steps)
                if pilot is None:
                    return found
            found = plan.worth(pilot, self._settings.keep)
            reported = trial.study._storage.get_trial(trial._trial_id).intermediate_values  # noqa: SLF001
            if rung + 1 not in reported:
                trial.report(found, rung + 1)
            if trial.should_prune():
                return found
        return found

    def _pilot(self, number: int, rung: int, values: SearchValues, steps: int) -> Pilot | None:
        before = plan.choose(self.result.pilots, self._settings.keep)
        best = f", best gain {before.point.gain:.3f}" if before is not None and before.kept else ""
        left = max(0.0, self._deadline - self._clock())
        self._on_progress(
            f"pilot {len(self.result.pilots) + 1}: {steps} steps{best}, {left / 60:.0f} min left"
        )
        found = self._timed(values, steps, self._settings.seed, STRENGTHS, confirms=False)
        if found is None:
            return None
        pilot = msgspec.structs.replace(found, trial=number, rung=rung)
        self._store(pilots=[*self.result.pilots, pilot])
        return pilot

    def _timed(
        self,
        values: SearchValues,
        steps: int,
        seed: int,
        strengths: tuple[float, ...],
        *,
        confirms: bool,
    ) -> Pilot | None:
        """Measures, and counts the seconds into the budget, also those of a pilot that it ended."""
        began = self._clock()
        found = self._measure(values, steps, seed, strengths, self._deadline, confirms=confirms)
        seconds = self._clock() - began
        self.result = msgspec.structs.replace(self.result, spent_s=self.result.spent_s + seconds)
        if found is None:
            self._store()
            return None
        if found.problem and not self.result.pilots:
            raise LabError(f"the first pilot could not be measured: {found.problem}")
        return msgspec.structs.replace(found, seconds=seconds)

    def _known(self, trial: int, rung: int) -> Pilot | None:
        return next((p for p in self.result.pilots if (p.trial, p.rung) == (trial, rung)), None)

    def _has_time(self, steps: int) -> bool:
        left = self._deadline - self._clock()
        reserved = plan.reserve(self.result.pilots, self._settings.keep)
        return left > 0 and plan.fits(self.result.pilots, steps, left, reserved)

    # --- Optuna -----------------------------------------------------------------------------------

    def _study(self) -> Study:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        storage = JournalStorage(JournalFileBackend(str(self._folder / JOURNAL)))
        return optuna.create_study(
            storage=storage,
            study_name=self._settings.search,
            direction="maximize",
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=plan.REDUCTION),
            load_if_exists=True,
        )

    def _next_trial(self, study: Study) -> Trial:
        """The trial that a killed search left open, else a new one. The sampler's seed follows from the
        trial's number, so that a search that was killed proposes what it would have proposed."""
        import optuna

        open_trials = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
        number = open_trials[0].number if open_trials else len(study.trials)
        study.sampler = optuna.samplers.TPESampler(
            seed=self._settings.seed * 10_007 + number, n_startup_trials=5, multivariate=True
        )
        if open_trials:
            return optuna.trial.Trial(study, open_trials[0]._trial_id)  # noqa: SLF001
        return study.ask()

    # --- confirmation -----------------------------------------------------------------------------

    def _confirm(self) -> None:
        """Trains the chosen recipe with fresh seeds and measures it on the whole suite."""
        keep = self._settings.keep
        chosen = plan.choose(self.result.pilots, keep)
        known = self.result.confirmations if chosen == self.result.chosen else []
        self._store(chosen=chosen, confirmations=known, front=plan.front(self.result.pilots))
        if chosen is not None and chosen.kept:
            for at in range(len(known), plan.CONFIRMATIONS):
                if self._clock() >= self._deadline or not plan.fits(
                    self.result.pilots, chosen.pilot.steps, self._deadline - self._clock(), 0.0
                ):
                    break
                self._on_progress(f"confirming with fresh seed {at + 1} of {plan.CONFIRMATIONS}")
                found = self._confirmation(chosen, at)
                if found is None:
                    break
                self._store(confirmations=[*self.result.confirmations, found])
        self._store(confirmed=plan.is_confirmed(self.result.confirmations, keep))
        self._store(sentence=plan.sentence(self.result))

    def _confirmation(self, chosen: Choice, at: int) -> Pilot | None:
        pilot = chosen.pilot
        seed = self._settings.seed + 1000 + at
        return self._timed(pilot.values, pilot.steps, seed, (chosen.point.strength,), confirms=True)

    # --- files ------------------------------------------------------------------------------------

    def _read(self) -> None:
        """The result of an earlier process, with this budget. Raises LabError where it searched another
        thing."""
        with contextlib.suppress(FileNotFoundError):
            text = input_files.read_bytes(self._folder / RESULT)
            found = from_json(text, SearchResult, f"{RESULT} of search {self._settings.search}")
            for name in ("model", "data", "keep", "suite"):
                if getattr(found, name) != getattr(self.result, name):
                    raise LabError(
                        f"search {self._settings.search} has another {name} ({getattr(found, name)}): go on "
                        "with it, or start a new search"
                    )
            self.result = msgspec.structs.replace(found, budget_s=self._settings.budget_s)

    def _store(self, **changes: object) -> None:
        self.result = msgspec.structs.replace(self.result, **changes)
        try:
            write_atomically(self._folder / RESULT, to_json(self.result) + "\n")
        except OSError as error:
            raise LabError(
                f"the result of the search cannot be written ({error.strerror}); free some space and repeat "
                "the command: measured pilots are kept"
            ) from None
