"""The search under a promise: its decisions by hand, and whole searches over a simulated model and
clock: the budget holds, a killed search ends as one that was not, and the choice keeps the promise."""

from __future__ import annotations

import contextlib
import errno
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tui_lab.core.errors import LabError
from tui_lab.core.files import FileLock, write_atomically
from tui_lab.core.records import to_json
from tui_lab.evaluation import search_plan as plan
from tui_lab.evaluation import search_store
from tui_lab.evaluation.search import Search
from tui_lab.evaluation.search_runs import STOPPING_SHARE
from tui_lab.evaluation.search_settings import SearchSettings
from tui_lab.evaluation.search_store import JOURNAL, STOP
from tui_lab.forecast.cost import Prices
from tui_lab.retention.statistics import Interval
from tui_lab.runs.searches import LOCK, RESULT, Pilot, PilotPoint, SearchResult, read_result, state_of

pytest.importorskip("optuna")


def pilot(number: int, *points: tuple[float, float, float], steps: int = 20, seconds: float = 10.0) -> Pilot:
    found = [PilotPoint(s, gain, Interval(low + 0.05, low, low + 0.1)) for s, gain, low in points]
    return Pilot(
        trial=number, rung=0, steps=steps, seed=0, values={"lora_r": 8}, run=f"r{number}", seconds=seconds,
        points=found,
    )  # fmt: skip


# --- decisions ----------------------------------------------------------------------------------------


def test_the_best_strength_keeps_the_promise() -> None:
    one = pilot(0, (0.5, 0.4, 0.95), (0.75, 0.6, 0.91), (1.0, 0.8, 0.7))
    found = plan.best_point(one, 0.9)
    assert found is not None and found.kept and found.point.strength == 0.75
    assert plan.worth(one, 0.9) == 0.6
    missed = plan.best_point(one, 0.97)
    assert missed is not None and not missed.kept and missed.point.strength == 0.5
    assert plan.worth(one, 0.97) == pytest.approx(-0.02)
    assert plan.best_point(pilot(1), 0.9) is None and plan.worth(pilot(1), 0.9) == -1.0
    base_alone = pilot(2, (0.0, 0.9, 1.0))
    assert plan.best_point(base_alone, 0.9) is None


def test_one_that_keeps_the_promise_is_chosen_before_one_that_gains_more() -> None:
    wild, safe = pilot(0, (1.0, 0.9, 0.5)), pilot(1, (1.0, 0.2, 0.92))
    chosen = plan.choose([wild, safe], 0.9)
    assert chosen is not None and chosen.pilot is safe
    assert plan.choose([], 0.9) is None
    near, better = pilot(2, (1.0, 0.825, 0.97)), pilot(3, (1.0, 0.833, 0.91))
    chosen = plan.choose([near, better, pilot(4, (1.0, 0.7, 0.99))], 0.9)
    assert chosen is not None and chosen.pilot is near, "within 2 % of the gain, and it keeps more"
    result = SearchResult(
        search="s", model="m", data="d", keep=0.9, budget_s=600.0, pilots=[near, better], chosen=chosen
    )
    assert "the gain 0.825, within 2% of the highest (0.833), and keeps more, of 2 pilots" in plan.sentence(
        result
    )


def test_the_front_has_what_no_other_beats() -> None:
    pilots = [pilot(0, (1.0, 0.9, 0.5)), pilot(1, (1.0, 0.5, 0.9)), pilot(2, (1.0, 0.4, 0.8))]
    assert [choice.pilot.run for choice in plan.front(pilots)] == ["r0", "r1"]


def test_a_pilot_starts_only_where_it_fits_beside_the_confirmations() -> None:
    pilots = [pilot(0, (1.0, 0.5, 0.95), seconds=10)]
    assert plan.predicted_seconds(pilots, 20) == 10 and plan.predicted_seconds(pilots, 60) == 30
    longer = [*pilots, pilot(1, (1.0, 0.4, 0.95), steps=60, seconds=18)]
    assert plan.predicted_seconds(longer, 60) == 18 and plan.predicted_seconds(longer, 20) == 10
    assert plan.predicted_seconds(longer, 120) == 36
    half = [msgspec.structs.replace(pilots[0], train_share=0.5)]
    assert plan.predicted_seconds(half, 60) == 20 and plan.predicted_seconds(half, 10) == 7.5
    kept = plan.reserve(pilots, 0.9, 20)
    assert kept == 2 * plan.SPREAD * 10 and plan.reserve(half, 0.9, 60) == 2 * plan.SPREAD * 20
    assert plan.fits(pilots, 20, kept + 11.01, kept) and not plan.fits(pilots, 20, kept + 10.99, kept)
    assert plan.fits([], 20, 1.0, 0.0), "the first is started: nothing is known yet"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("40min", 2400), ("2h", 7200), ("90s", 90), ("5", 300), ("0.5 h", 1800), ("3$", 5400), ("$3", 5400)],
)
def test_budgets(text: str, seconds: float) -> None:
    assert plan.parse_budget(text, Prices(per_hour=2.0)).seconds == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("soon", "--budget is a time such as 40min"),
        ("-3", "--budget is a time"),
        ("0min", "more than nothing"),
        ("0.2kWh", "no card here measures it: set machine_watts"),
        ("3$", "needs the price of an hour"),
        ("3$h", "--budget is a time"),
    ],
)
def test_bad_budgets_are_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(LabError, match=sentence):
        plan.parse_budget(text, Prices())
    for keep in (0.0, 1.1, math.nan):
        with pytest.raises(LabError, match="--keep is the share"):
            plan.check_keep(keep)


# --- whole searches -----------------------------------------------------------------------------------


class Killed(Exception):
    """Stands for SIGKILL."""


class Simulated:
    """A model whose gain and retention are known functions of the recipe, and a clock that pilots move."""

    keep, power_w = 0.9, None
    slowness, stopping_s, tick_s = 1.0, 0.0, 0.5
    stops_at, stop_file = -1, Path()

    def __init__(self, dies_at: int = -1, ceiling: float = 1.0) -> None:
        self.now, self.calls, self.dies_at, self.ceiling = 0.0, 0, dies_at, ceiling

    def clock(self) -> float:
        return self.now

    def __call__(
        self,
        values: dict[str, Any],
        steps: int,
        seed: int,
        strengths: Any,
        is_over: Callable[[], bool],
        *,
        confirms: bool,
    ) -> Pilot | None:
        self.calls += 1
        if self.calls == self.dies_at:
            raise Killed
        if self.calls == self.stops_at:
            self.stop_file.touch()
        cost = (5.0 + 0.5 * steps) * self.slowness
        until = self.now + cost
        while self.now < until:
            self.now = min(until, self.now + self.tick_s)
            if is_over():
                self.now += self.stopping_s
                return None
        push = math.log10(values["learning_rate"] / 2e-5) * (1 - math.exp(-steps / 30))
        points = []
        ordered = sorted(strengths, reverse=True)
        while ordered:
            strength = ordered.pop(0)
            moved = max(0.0, push) * strength
            low = self.ceiling - 0.25 * moved**2 * (1 - values["replay_fraction"]) + 0.001 * (seed % 7)
            points.append(PilotPoint(strength, 1 - math.exp(-moved), Interval(low + 0.03, low, low + 0.06)))
            if low >= self.keep:
                halfway = not confirms and strength in strengths and strength < max(strengths)
                ordered = [strength + 0.125] if halfway else []
        return Pilot(
            trial=-1, rung=0, steps=steps, seed=seed, values=values, run=f"run-{steps}", seconds=cost,
            points=points, power_w=self.power_w,
        )  # fmt: skip


def settings(budget_s: float = 1200.0, keep: float = 0.9, seed: int = 0) -> SearchSettings:
    return SearchSettings(
        search="s", model="pocket", data="support", keep=keep, budget_s=budget_s, suite="everyday", steps=20,
        learning_rate=2e-4, seed=seed,
    )  # fmt: skip


def quiet(text: str, done: int | None = None, total: int | None = None) -> None:
    del text, done, total


def searched(folder: Path, model: Simulated, **values: Any) -> SearchResult:
    return Search(settings(**values), folder, model, quiet, model.clock).run()


def test_the_choice_keeps_the_promise_within_the_budget_and_is_confirmed(tmp_path: Path) -> None:
    model = Simulated()
    found = searched(tmp_path / "s", model, budget_s=600.0)
    assert model.now <= 600.0 and found.spent_s == pytest.approx(model.now)
    assert found.chosen is not None and found.chosen.kept and found.confirmed
    assert found.chosen.point.retention.low >= 0.9
    assert {p.seed for p in found.confirmations} == {1000, 1001}
    # the best of a grid of single runs, all of whose strengths are measured
    best = 0.0
    for rate in (4e-5, 1e-4, 2e-4, 4e-4, 1e-3):
        for replay in (0.0, 0.1, 0.25, 0.5):
            one = Simulated()(
                {"learning_rate": rate, "replay_fraction": replay}, 60, 0, (0.25, 0.5, 0.75, 1.0),
                lambda: False, confirms=False,
            )  # fmt: skip
            assert one is not None
            best = max(best, plan.worth(one, 0.9))
    assert found.chosen.point.gain >= 0.9 * best
    assert "Chosen: " in found.sentence and "Confirmed by 2 fresh seeds" in found.sentence
    assert any(p.rung == 1 for p in found.pilots), "promising pilots are trained longer"
    assert any(p.rung == 0 and p.trial not in {q.trial for q in found.pilots if q.rung} for p in found.pilots)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    """A search that was not interrupted."""
    return searched(tmp_path_factory.mktemp("whole"), Simulated(), budget_s=160.0)


@pytest.mark.parametrize("dies_at", [1, 4])
def test_a_killed_search_ends_as_one_that_was_not(tmp_path: Path, whole: SearchResult, dies_at: int) -> None:
    model = Simulated(dies_at)
    with pytest.raises(Killed):
        searched(tmp_path / "killed", model, budget_s=160.0)
    with (tmp_path / "killed" / JOURNAL).open("ab") as journal:
        journal.write(b'{"op_code": 4, "wor')  # a line that the kill tore
    found = searched(tmp_path / "killed", Simulated(), budget_s=160.0)
    for name in ("pilots", "chosen", "confirmations"):  # as text: a NaN differs from itself
        assert to_json(getattr(found, name)) == to_json(getattr(whole, name))
    assert found.sentence == whole.sentence


def test_a_promise_that_cannot_be_kept_says_what_was_nearest(tmp_path: Path) -> None:
    found = searched(tmp_path / "s", Simulated(ceiling=0.85), budget_s=300.0)
    assert found.chosen is not None and not found.chosen.kept and not found.confirmed
    assert (
        "No pilot kept 90% for sure before the budget of 5:00 ended" in found.sentence
        and "The nearest:" in found.sentence
    )


def test_a_budget_for_no_pilot_is_one_sentence(tmp_path: Path) -> None:
    found = searched(tmp_path / "s", Simulated(), budget_s=3.0)
    assert found.chosen is None and "ended before one pilot was measured" in found.sentence
    assert found.spent_s <= 3.5


def test_a_search_that_was_stopped_goes_on(tmp_path: Path, whole: SearchResult) -> None:
    model = Simulated()
    model.stops_at, model.stop_file = 3, tmp_path / "s" / STOP
    found = searched(tmp_path / "s", model, budget_s=160.0)
    assert found.stopped and len(found.pilots) == 2 and "the search was stopped" in found.sentence
    assert state_of(tmp_path / "s", found) == "stopped"
    spent = found.spent_s
    found = searched(tmp_path / "s", Simulated(), budget_s=160.0 + spent)
    assert [each.values for each in found.pilots[:5]] == [each.values for each in whole.pilots[:5]]
    assert not found.stopped and found.spent_s > spent and state_of(tmp_path / "s", found) == "finished"


def test_a_full_disk_is_one_sentence_and_the_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        if path.name == RESULT and '"trial"' in text:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomically(path, text)

    with monkeypatch.context() as patch:
        patch.setattr("tui_lab.evaluation.search.write_atomically", full)
        with pytest.raises(LabError, match=r"\(No space left on device\); free some space, and --resume s"):
            searched(tmp_path / "s", Simulated(), budget_s=160.0)
    with monkeypatch.context() as patch:
        backend = "optuna.storages.journal.JournalFileBackend.append_logs"
        patch.setattr(backend, lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
        with pytest.raises(LabError, match=r"\(No space left\); free some space"):
            searched(tmp_path / "s", Simulated(), budget_s=160.0)
    found = searched(tmp_path / "s", Simulated(), budget_s=160.0)
    assert found.confirmed and found.spent_s <= 160.0


@given(
    budget_s=st.floats(20, 250),
    slowness=st.floats(0.1, 5),
    kills=st.lists(st.integers(1, 4), max_size=2),
    seed=st.integers(0, 50),
)
@hypothesis_settings(max_examples=6, deadline=None)
def test_no_search_is_over_its_budget_by_more_than_two_percent(
    budget_s: float, slowness: float, kills: list[int], seed: int
) -> None:
    """Also with pilots of any length, kills, and a run that takes all the time that it gets to stop."""
    spent = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for dies_at in [*kills, -1]:
            model = Simulated(dies_at)
            model.slowness, model.stopping_s = slowness, STOPPING_SHARE * budget_s
            model.tick_s = min(0.5, budget_s / 200)
            search = Search(settings(budget_s, seed=seed), Path(folder), model, quiet, model.clock)
            with contextlib.suppress(Killed):
                search.run()
            spent += model.now
    assert spent <= 1.02 * budget_s


def test_a_budget_in_energy_lasts_as_long_as_the_measured_power_allows(tmp_path: Path) -> None:
    budget = plan.parse_budget("0.02kWh", Prices(), watts=100.0)
    assert budget == (720.0, 0.02, 100.0)
    model = Simulated()
    model.power_w = 300.0  # the runs draw three times what was assumed
    one = msgspec.structs.replace(
        settings(budget.seconds), budget_kwh=budget.kwh, watts=budget.watts, steps=10
    )
    found = Search(one, tmp_path / "s", model, quiet, model.clock).run()
    assert found.confirmed and 120 < model.now <= 240.0 and found.spent_kwh <= 0.02
    assert "for sure" in found.sentence or "Confirmed" in found.sentence


def test_another_search_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    searched(tmp_path / "s", Simulated(), budget_s=60.0)
    with pytest.raises(LabError, match="has another keep"):
        searched(tmp_path / "s", Simulated(), budget_s=60.0, keep=0.5)


def test_a_choice_that_fresh_seeds_do_not_keep_is_not_confirmed() -> None:
    chosen = plan.choose([pilot(0, (1.0, 0.5, 0.95))], 0.9)
    fresh = [pilot(1, (1.0, 0.4, 0.91)), pilot(2, (1.0, 0.4, 0.85))]
    assert not plan.is_confirmed(fresh, 0.9) and plan.is_confirmed(fresh[:1] * 2, 0.9)
    result = SearchResult(
        search="s", model="m", data="d", keep=0.9, budget_s=600.0, pilots=[], chosen=chosen,
        confirmations=fresh,
    )  # fmt: skip
    assert "Not confirmed" in plan.sentence(result) and "winner's curse" in plan.sentence(result)


def test_a_key_stops_a_search_that_runs_and_lets_another_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / ".searches" / "s"
    searched(place, Simulated(), budget_s=60.0)
    with pytest.raises(LabError, match="s has used its budget"):
        search_store.toggle(tmp_path, "s")
    with pytest.raises(LabError, match="is a sweep and no search"):
        search_store.toggle(tmp_path, "sweep-1")
    lock = FileLock.acquire(place / LOCK)
    assert lock is not None
    with lock:
        text, child = search_store.toggle(tmp_path, "s")
    assert child is None and "keeps the measured pilots" in text and (place / STOP).exists()
    result = msgspec.structs.replace(read_result(place), stopped=True)
    (place / RESULT).write_text(to_json(result))
    started: list[SearchSettings] = []
    monkeypatch.setattr(search_store, "start", lambda settings, directory: started.append(settings))
    assert search_store.toggle(tmp_path, "s")[0] == "s goes on." and started[0].keep == 0.9
