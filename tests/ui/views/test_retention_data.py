"""The data of Retention: results, points, the Pareto front, damaged files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ui import sample_runs as made
from tui_lab.runs.folder import list_runs
from tui_lab.ui.views import retention_data
from tui_lab.ui.views.retention_data import RunPoint, advice_input, front, point, points, read


def test_a_run_is_read_with_all_results(own_folders: Path) -> None:
    run = made.make_run(method="full", learning_rate=2e-3)
    kept = read(run)
    assert kept.acquisition == (0.1, 0.9)
    assert kept.results["everyday"].comparison.verdict == "red"
    assert not kept.problems
    found = advice_input(kept, "everyday")
    assert (found.verdict, found.method, found.learning_rate) == ("red", "full", 2e-3)
    assert found.gained is not None
    assert abs(found.gained - 0.8) < 1e-9
    assert (found.worst_category, found.worst_lost) == ("numbers", 40)
    assert not found.strength_tried
    assert advice_input(kept, "other").verdict == ""
    place = point(kept, "everyday")
    assert place is not None
    assert abs(place.retention - (0.52 - 0.25) / (0.9 - 0.25)) < 1e-9, "retention above chance"


def test_no_sweep_is_advised_for_a_fixed_strength(own_folders: Path) -> None:
    run = made.make_run()
    assert advice_input(read(run), "everyday").strength_refused == "", "nothing is known yet"
    config = run.adapter_path / "adapter_config.json"
    config.write_text('{"peft_type": "LORA"}')
    assert advice_input(read(run), "everyday").strength_refused == ""
    config.write_text('{"peft_type": "LORA", "use_dora": true}')
    assert "DoRA" in advice_input(read(run), "everyday").strength_refused
    for damage in ("[", "[]"):
        config.write_text(damage)
        assert advice_input(read(run), "everyday").strength_refused == ""
    begun = made.make_run(name="pissa", init_lora_weights="pissa")
    (begun.adapter_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    assert "pissa" in advice_input(read(begun), "everyday").strength_refused


def test_a_probe_gives_the_point_of_a_run_without_results(own_folders: Path) -> None:
    run = made.make_run()
    (run.path / "retention" / "everyday.json").unlink()
    place = point(read(run), "everyday")
    assert place is not None
    assert abs(place.retention - 0.1) < 1e-9
    assert point(read(run), "hellaswag") is None


def test_damaged_files_are_reported_and_skipped(own_folders: Path) -> None:
    run = made.make_run()
    folder = run.path / "retention"
    (folder / "broken.json").write_text("{")
    (folder / "list.json").write_text("[]")
    (folder / "strength.json").write_text("\x00")
    (folder / "nothing.json").write_text("{}")
    kept = read(run)
    assert list(kept.results) == ["everyday"]
    assert not kept.strength.points
    assert len(kept.problems) == 4
    assert all(".json" in problem for problem in kept.problems)


def test_all_runs_as_points(own_folders: Path) -> None:
    made.make_run(name="one")
    made.make_run(name="two", gain=(0.0, 0.5))
    known: dict = {}
    found = points(list_runs(), "everyday", known)
    assert sorted(round(p.gained, 3) for p in found) == [0.5, 0.8]


def test_a_run_is_read_again_only_when_it_changed(own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made.make_run(name="one")
    made.make_run(name="two", gain=(0.0, 0.5))
    known: dict = {}
    before = points(list_runs(), "everyday", known)
    reads: list[str] = []
    whole = retention_data.read
    monkeypatch.setattr(retention_data, "read", lambda each: reads.append(each.id) or whole(each))
    assert points(list_runs(), "everyday", known) == before and not reads
    with run.events_path.open("a") as log:
        log.write("\n")
    assert points(list_runs(), "everyday", known) == before and reads == [run.id]


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1.2)), max_size=30))
def test_the_front_dominates_every_other_run(places: list[tuple[float, float]]) -> None:
    found = [RunPoint(str(n), "", "", gained, kept) for n, (gained, kept) in enumerate(places)]
    best = front(found)
    for each in found:
        here = (each.gained, each.retention)
        others = [(o.gained, o.retention) for o in found]
        beaten = any(o[0] >= here[0] and o[1] >= here[1] and o != here for o in others)
        assert beaten or any((b.gained, b.retention) == here for b in best)
        if each in best:
            assert not beaten
    assert [p.gained for p in best] == sorted(p.gained for p in best)
