"""``tui-lab search``: pilots under a promise about retention and within a budget. Optuna's TPE sampler
proposes recipes, its successive halving prunes them, and its journal in the folder of the search is the
memory: after any kill the search goes on from the measured pilots. Every pilot is a run folder like any
other."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from tui_lab.core.errors import LabError
from tui_lab.core.files import FileLock, write_atomically
from tui_lab.core.job_protocol import OnProgress
from tui_lab.core.records import to_json
from tui_lab.evaluation import search_plan as plan
from tui_lab.evaluation import search_store as store
from tui_lab.evaluation.search_settings import SearchSettings, SearchValues
from tui_lab.evaluation.search_space import propose, sampler
from tui_lab.runs import searches
from tui_lab.runs.searches import Choice, Pilot, SearchResult

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import Trial

#: The most trials: a search that proposes for ever has a budget that is never used up.
MOST_TRIALS = 200
#: The time that was spent is stored at least after this share of the budget, and after these seconds.
STORED_SHARE, STORED_S = 0.005, 10.0
#: Strengths of the adapter that a pilot may be measured at, the first that keeps the promise from above.
STRENGTHS = (0.25, 0.5, 0.75, 1.0)


class Measure(Protocol):
    """Trains and measures one pilot at the strengths from the highest on, until one keeps the promise; one
    that does not confirm also between that and the one before. Returns None when ``is_over`` first; it is to
    be asked twice a second."""

    def __call__(
        self,
        values: SearchValues,
        steps: int,
        seed: int,
        strengths: tuple[float, ...],
        is_over: Callable[[], bool],
        *,
        confirms: bool,
    ) -> Pilot | None: ...


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
        self._counted = self._stored_s = 0.0
        self._stopped = False
        self.result = SearchResult(
            search=settings.search,
            model=settings.model,
            data=settings.data,
            keep=settings.keep,
            budget_s=settings.budget_s,
            budget_kwh=settings.budget_kwh,
            watts=settings.watts,
            suite=settings.suite,
        )

    def run(self) -> SearchResult:
        """Searches until the budget is used. Raises LabError, also when another process searches here and on
        a full disk; measured pilots are kept."""
        with self._disk():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FileLock.acquire(self._folder / searches.LOCK)
        if lock is None:
            raise LabError(f"search {self._settings.search} is in progress in another process")
        with lock, self._disk():
            self.result = store.earlier(self._folder, self.result)
            (self._folder / store.STOP).unlink(missing_ok=True)
            write_atomically(self._folder / store.SETTINGS, to_json(self._settings) + "\n")
            self._stored_s = self.result.spent_s
            self._counted = self._clock()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Optuna's notes on experimental parts
                self._pilots()
            self._confirm()
            return self.result

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LabError(
                f"the folder of search {self._settings.search} cannot be written "
                f"({error.strerror or error}); free some space, and --resume {self._settings.search} goes on "
                "from the measured pilots"
            ) from None

    # --- the budget -------------------------------------------------------------------------------

    @property
    def _budget_s(self) -> float:
        """The budget in seconds; one in energy, at the power that was measured until now."""
        return plan.budget_seconds(self.result)

    def _count(self) -> None:
        """Counts the time since the last count as spent."""
        now = self._clock()
        spent = self.result.spent_s + now - self._counted
        self.result, self._counted = msgspec.structs.replace(self.result, spent_s=spent), now

    def _left(self) -> float:
        self._count()
        return self._budget_s - self.result.spent_s

    def _is_over(self) -> bool:
        """Whether the pilot in progress has to end: the budget is used, or the user stopped the search.
        Stores what was spent now and then, so that the time before a kill counts."""
        left = self._left()
        if self.result.spent_s - self._stored_s >= min(STORED_S, STORED_SHARE * self._budget_s):
            self._store()
        self._stopped = self._stopped or (self._folder / store.STOP).exists()
        return left <= 0 or self._stopped

    def _has_time(self, steps: int, *, confirms: bool = False) -> bool:
        if self._is_over():
            return False
        reserved = 0.0 if confirms else plan.reserve(self.result.pilots, self._settings.keep, steps)
        return plan.fits(self.result.pilots, steps, self._left(), reserved)

    # --- pilots -----------------------------------------------------------------------------------

    def _pilots(self) -> None:
        study = self._study()
        while len(study.trials) < MOST_TRIALS + 1 and self._has_time(self._settings.steps):
            trial = self._next_trial(study)
            values, factor = propose(trial, self._settings)
            found = self._climb(trial, values, factor)
            if found is None:  # the budget ended: the trial stays open for a search that goes on
                return
            study.tell(trial, found)

    def _climb(self, trial: Trial, values: SearchValues, factor: int) -> float | None:
        """Measures a trial at each rung until it is pruned; its worth, None where the budget ended first. A
        first rung that costs nearly as much as the last is left out."""
        found: float | None = None
        last = len(plan.RUNGS) - 1
        for rung, multiple in enumerate(plan.RUNGS):
            steps = self._settings.steps * factor * multiple
            pilot = self._known(trial.number, rung)
            if pilot is None:
                long = steps * plan.RUNGS[last]
                if rung < last and not plan.short_pays(self.result.pilots, steps) and self._has_time(long):
                    continue
                if not self._has_time(steps):
                    return found
                pilot = self._pilot(trial.number, rung, values, steps)
                if pilot is None:
                    return found
            found = plan.worth(pilot, self._settings.keep)
            reported = trial.study._storage.get_trial(trial._trial_id).intermediate_values  # noqa: SLF001
            if rung + 1 not in reported:
                trial.report(found, rung + 1)
            if rung < last and trial.should_prune():
                return found
        return found

    def _pilot(self, number: int, rung: int, values: SearchValues, steps: int) -> Pilot | None:
        before = plan.choose(self.result.pilots, self._settings.keep)
        best = f", best gain {before.point.gain:.3f}" if before is not None and before.kept else ""
        self._progress(f"pilot {len(self.result.pilots) + 1}: {steps} steps{best}")
        found = self._timed(values, steps, self._settings.seed, STRENGTHS, confirms=False)
        if found is None:
            return None
        pilot = msgspec.structs.replace(found, trial=number, rung=rung)
        self._store(pilots=[*self.result.pilots, pilot])
        self._store(front=plan.front(self.result.pilots), chosen=self._choice())
        return pilot

    def _choice(self) -> Choice | None:
        """The best pilot of those that fresh seeds did not refute."""
        refuted = self.result.refuted
        pilots = [each for each in self.result.pilots if each.run not in refuted]
        return plan.choose(pilots or self.result.pilots, self._settings.keep)

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
        self._count()
        before = self.result.spent_s
        found = self._measure(values, steps, seed, strengths, self._is_over, confirms=confirms)
        self._count()
        if found is None:
            self._store()
            return None
        if found.problem and not self.result.pilots:
            raise LabError(f"the first pilot could not be measured: {found.problem}")
        return msgspec.structs.replace(found, seconds=self.result.spent_s - before)

    def _known(self, trial: int, rung: int) -> Pilot | None:
        return next((p for p in self.result.pilots if (p.trial, p.rung) == (trial, rung)), None)

    # --- Optuna -----------------------------------------------------------------------------------

    def _study(self) -> Study:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        store.cut_torn_line(self._folder / store.JOURNAL)
        storage = JournalStorage(JournalFileBackend(str(self._folder / store.JOURNAL)))
        return optuna.create_study(
            storage=storage,
            study_name=self._settings.search,
            direction="maximize",
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=plan.REDUCTION),
            load_if_exists=True,
        )

    def _next_trial(self, study: Study) -> Trial:
        """The trial that a killed search left open, else a new one. The sampler follows from the trial's
        number, so that a search that was killed proposes what it would have proposed."""
        import optuna

        open_trials = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
        number = open_trials[0].number if open_trials else len(study.trials)
        study.sampler = sampler(self._settings, number)
        if open_trials:
            return optuna.trial.Trial(study, open_trials[0]._trial_id)  # noqa: SLF001
        return study.ask()

    # --- confirmation -----------------------------------------------------------------------------

    def _confirm(self) -> None:
        """Confirms the chosen recipe with fresh seeds; where they refute it, the next best, while the budget
        lasts."""
        chosen = self._choice()
        known = self.result.confirmations
        if any(chosen is None or each.values != chosen.pilot.values for each in known):
            known = []
        self._store(confirmations=known, front=plan.front(self.result.pilots), chosen=chosen)
        while (chosen := self.result.chosen) is not None and chosen.kept and self._try_choice(chosen):
            after = plan.choose(
                [p for p in self.result.pilots if p.run not in {*self.result.refuted, chosen.pilot.run}],
                self._settings.keep,
            )
            if after is None or not after.kept or not self._has_time(after.pilot.steps, confirms=True):
                break
            self._store(refuted=[*self.result.refuted, chosen.pilot.run], confirmations=[], chosen=after)
        confirmed = plan.is_confirmed(self.result.confirmations, self._settings.keep)
        self._store(confirmed=confirmed, stopped=self._stopped and not confirmed, progress="")
        self._store(sentence=plan.sentence(self.result))

    def _try_choice(self, chosen: Choice) -> bool:
        """Trains the chosen recipe with fresh seeds and measures it on the whole suite, at its strength or
        the next lower ones that all seeds keep the promise at. Returns whether they refute it."""
        pilot, strength = chosen.pilot, chosen.point.strength
        for done in self.result.confirmations:
            strength = min(strength, done.points[-1].strength)
        for at in range(len(self.result.confirmations), plan.CONFIRMATIONS):
            if not self._has_time(pilot.steps, confirms=True):
                return False
            self._progress(f"confirming with fresh seed {at + 1} of {plan.CONFIRMATIONS}")
            found = self._fresh(chosen, at, (strength, *(each for each in STRENGTHS if each < strength)))
            if found is None:
                return False
            if not found.points or not plan.is_kept(found.points[-1], self._settings.keep):
                self._store(confirmations=[*self.result.confirmations, found])
                return True
            strength = found.points[-1].strength
            earlier = self.result.confirmations
            for number, other in enumerate(earlier):
                if other.points[-1].strength > strength:  # the same run, at the strength that serves all
                    again = self._fresh(chosen, number, (strength,))
                    if again is None:
                        return False
                    earlier = [*earlier[:number], again, *earlier[number + 1 :]]
            self._store(confirmations=[*earlier, found])
        return not plan.is_confirmed(self.result.confirmations, self._settings.keep)

    def _fresh(self, chosen: Choice, at: int, strengths: tuple[float, ...]) -> Pilot | None:
        seed = self._settings.seed + 1000 + at
        return self._timed(chosen.pilot.values, chosen.pilot.steps, seed, strengths, confirms=True)

    # --- files ------------------------------------------------------------------------------------

    def _progress(self, text: str) -> None:
        self._store(progress=text)
        self._on_progress(f"{text}, {max(0.0, self._left()) / 60:.0f} min left")

    def _store(self, **changes: object) -> None:
        self.result = msgspec.structs.replace(self.result, **changes)
        self._stored_s = self.result.spent_s
        write_atomically(self._folder / searches.RESULT, to_json(self.result) + "\n")
