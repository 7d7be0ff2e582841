"""Reports: the figures are those of the log and the result files in every state of a run; the command
makes the same recipe; damaged files and unknown figures are named."""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.evaluation.test_search import pilot as search_pilot
from tests.ui.sample_runs import comparison, make_run, result, save
from tui_lab.cli import main, options
from tui_lab.cli.recipe_args import prepare
from tui_lab.core.records import to_json
from tui_lab.evaluation import search_plan
from tui_lab.recipes.recipe import Recipe, build
from tui_lab.recipes.schema import FILLED_KEYS
from tui_lab.report import content
from tui_lab.report import write as report_files
from tui_lab.report.blocks import AnswersBlock, Bullets, DetailsBlock, FigureBlock, Paragraph, Quote
from tui_lab.report.charts import Table
from tui_lab.report.document import _score_values, document
from tui_lab.report.forest import ForestBlock
from tui_lab.report.headline import headline
from tui_lab.retention import results
from tui_lab.runs.events import EventWriter
from tui_lab.runs.folder import Run, RunLock, create
from tui_lab.runs.queue import sweep
from tui_lab.runs.schema import (
    ChoiceEvent,
    CommandEvent,
    DataEvent,
    EndEvent,
    ForecastEvent,
    LadderEvent,
    PlanEvent,
    RecipeChangedEvent,
    ResumedEvent,
    SampleEvent,
    ScoreEvent,
    StartedEvent,
    StepEvent,
    TelemetryEvent,
    ValidationEvent,
)
from tui_lab.runs.searches import SearchResult
from tui_lab.runs.state import Watcher

pytestmark = pytest.mark.usefixtures("runs_dir")
MIB = 1 << 20
PARTS = {"weights": 300 * MIB, "activations": 200 * MIB}


def written(run: Run, steps: int = 30, end: str = "finished", forecast: bool = True) -> Run:
    """A log as a run writes it: losses fall, memory rises to 600 MiB."""
    events = EventWriter(run.events_path)
    write = events.write
    write(ResumedEvent(from_step=0, attempt=1))
    device = {"type": "cpu", "name": "a CPU", "memory_bytes": 8 << 30, "bf16": True}
    write(StartedEvent(pid=1, host="secret-host", versions={"torch": "2.13.0"}, device=device, threads=2))
    write(ChoiceEvent(field="optim", value="adamw_torch", reason="because the recipe sets it"))
    write(DataEvent(name="support", train_rows=720, validation_rows=120, duplicates=3))
    if forecast:
        write(ForecastEvent(parts=PARTS, total=500 * MIB, low=400 * MIB, high=700 * MIB, device="cpu"))
    write(PlanEvent(total_steps=steps, epochs=1.0, cost={"formula": "6N", "flops_per_token": 2.4e7}))
    write(ValidationEvent(step=0, loss=8.5, rows=130, when="start"))
    examples = [{"prompt": "Who?", "answer": "no", "expected": "yes", "ok": False}]
    write(ScoreEvent(step=0, name="exact", value=0.1, rows=64, when="start", exact=0.1, examples=examples))
    write(SampleEvent(step=0, prompt="Say hello.", text="Hello."))
    for step in range(1, steps + 1):
        write(
            StepEvent(step=step, loss=8.0 / step, learning_rate=1e-3, grad_norm=1.0, tok_per_s=1000.0 + step,
            eta_s=0.0, memory={"resident": 570 * MIB + step * MIB},
        ))  # fmt: skip
    write(SampleEvent(step=steps, prompt="Say hello.", text="Arr!"))
    write(LadderEvent(step=3, rung="split", before={}, after={}, text="steps are split in 2", cost="time"))
    write(ValidationEvent(step=steps, loss=0.75, rows=130, when="end"))
    if end:
        examples = [{"prompt": "Who?", "answer": "yes", "expected": "yes", "ok": True}]
        write(
            ScoreEvent(
                step=steps,
                name="exact",
                value=0.9,
                rows=64,
                when="end",
                exact=0.9,
                examples=examples,
                by_task={"easy": 1.0, "hard": 0.8},
            )
        )
        write(EndEvent(state=end, step=steps, message="", seconds=61.0, peak_memory={"resident": 600 * MIB}))
    events.close()
    return run


def blocks(found: content.ReportContent, section: str) -> list[Any]:
    return [block for part in document(found).sections if part.id == section for block in part.blocks]


def cells(found: content.ReportContent, section: str) -> dict[str, list[str]]:
    """Rows of all tables of a section by their first cell."""
    tables = [block for block in blocks(found, section) if isinstance(block, Table)]
    return {row[0]: list(row[1:]) for table in tables for row in table.rows}


def text_of(found: content.ReportContent, section: str) -> str:
    texts: list[str] = []
    for block in blocks(found, section):
        if isinstance(block, Paragraph | Quote):
            texts.append(block.text)
        elif isinstance(block, Bullets):
            texts += block.texts
    return "\n".join(texts)


def test_figures_are_those_of_the_log_and_the_result_files() -> None:
    run = make_run()
    save(run.path / "retention" / "strength.json", {
        "suite": "everyday", "n": 100, "acquisition_rows": 64, "acquisition_metric": "exact",
        "recommended": {"strength": 0.5, "reason": "it keeps enough"},
        "points": [
            {"strength": at, "acquisition": at, "acquisition_interval": {"value": at, "low": at, "high": at},
             "retention": {"value": 1 - at / 4, "low": 0.7, "high": 1.0}, "verdict": "green", "b": 1, "c": 0}
            for at in (0.0, 0.5, 1.0)
        ],
    })  # fmt: skip
    found = content.read(run)
    state = Watcher(run).read_all()
    stored = results.read(run.path / "retention" / "everyday.json")
    kept = asdict(stored.comparison.headline)
    in_json: Any = content.as_json(found)["results"]
    assert in_json["everyday"]["comparison"] == msgspec.to_builtins(stored.comparison)
    assert "items" not in in_json["everyday"]
    row = cells(found, "retention")["everyday"]
    assert row[:2] == ["100", "0.25"] and row[4] == f"{kept['value']:.3f}"
    assert row[5] == f"{kept['low']:.3f} – {kept['high']:.3f}"
    assert row[-1] == "✗ forgotten" and row[6:8] == ["40", "2"]
    assert stored.comparison.sentence in text_of(found, "retention")
    assert "guessing gets 25% of it right" in text_of(found, "retention")
    assert "1 were right before and wrong after" in text_of(found, "retention")
    assert cells(found, "retention")["numbers"][-1] == "✓ kept"
    probes = [block for block in blocks(found, "retention") if isinstance(block, Table)][-1]
    assert [row[0] for row in probes.rows] == [str(probe.step) for probe in state.item_probes]
    assert cells(found, "acquisition")["exact match"] == ["0.100", "0.900"]
    assert cells(found, "strength")["0.5"][2] == "0.875"
    assert "Recommended: 0.5" in text_of(found, "strength")
    # the plot and the head of the page have the same figures
    plot = next(block for block in blocks(found, "retention") if isinstance(block, ForestBlock))
    assert [row.name for row in plot.rows][:2] == ["everyday", "animals"] or plot.rows[0].name == "everyday"
    assert plot.rows[0].estimate.value == kept["value"] and plot.rows[-1].name.startswith("last probe")
    head = headline(found)
    assert (head.tone, head.word) == ("bad", "✗ forgotten")
    assert head.text.startswith("Acquisition (exact match) rose from 0.10 to 0.90. It forgot part of")
    assert f"retention {kept['value']:.2f} ({kept['low']:.2f} – {kept['high']:.2f}) on 100 items" in head.text
    tiles = {tile.name: tile.value for tile in head.tiles}
    assert tiles["acquisition"] == "0.10 → 0.90" and tiles["retention"] == f"{kept['value']:.2f}"


def test_the_head_of_a_run_that_crashed_before_it_was_measured() -> None:
    run = create(Recipe(preset="minute"), name="c")
    EventWriter(run.events_path).write(StartedEvent(pid=1))
    head = headline(content.read(run))
    assert (head.tone, head.word) == ("bad", "✗ crashed")
    assert head.text == "It crashed. What it forgot was not measured."
    assert {tile.name for tile in head.tiles} == {"time", "steps"}


def test_memory_is_compared_with_the_forecast() -> None:
    run = written(create(Recipe(preset="minute"), name="m"))
    found = content.read(run)
    assert found.memory.measured == 600 * MIB and found.memory.inside is True
    assert found.memory.difference == pytest.approx(0.2)
    text = text_of(found, "memory")
    assert "The forecast was 500 MiB (400 MiB to 700 MiB) on cpu" in text
    assert "Measured: 600 MiB (resident memory), 100 MiB (20.0%) more; that is within its bounds." in text
    assert cells(found, "memory")["weights"] == ["300 MiB"]
    lines = {line.name: line for figure in blocks(found, "curves") if isinstance(figure, FigureBlock)
             for line in figure.chart.series}  # fmt: skip
    assert set(lines["forecast of the peak"].ys) == {500 * MIB}
    assert list(lines["resident memory"].ys) == found.log.memory["resident"].values
    assert list(lines["training"].ys) == found.log.loss.values
    assert list(lines["validation"].ys) == [8.5, 0.75]
    none = content.read(written(create(Recipe(), name="n"), forecast=False))
    assert none.memory.difference is None and "not known" in text_of(none, "memory")
    assert "Memory against a forecast" in text_of(none, "unknown")


def test_losses_answers_flags_recipe_data_and_costs() -> None:
    found = content.read(written(create(Recipe(preset="minute"), name="r")))
    table = cells(found, "result")
    assert table["training loss"] == ["8 → 0.2667"] and table["validation loss"] == ["8.5 → 0.75"]
    assert table["acquisition (exact match)"] == ["0.100 → 0.900"] and table["steps"] == ["30 of 30"]
    answers = [block for block in blocks(found, "samples") if isinstance(block, AnswersBlock)]
    assert answers[0].table.rows[0] == ("Who?", "yes", "✗ no", "✓ yes")
    quotes = [(b.label, b.text) for b in blocks(found, "samples") if isinstance(b, Quote)]
    assert quotes[1:] == [("answer at step 0", "Hello."), ("answer at step 30", "Arr!")]
    assert cells(found, "flags")["3"] == ["steps are split in 2", "time"]
    assert "out of memory" in [row[0] for row in cells(found, "flags").values()]
    assert cells(found, "recipe")["optim"] == ["adamw_torch", "because the recipe sets it"]
    whole = next(b for b in blocks(found, "recipe") if isinstance(b, DetailsBlock)).tables[0]
    assert len(whole.rows) == len(Recipe.model_fields)
    assert cells(found, "data")["duplicates left out"] == ["3"]
    assert cells(found, "machine")["torch"] == ["2.13.0"]
    costs = cells(found, "costs")
    assert costs["time of all attempts"] == ["1:01"] and costs["operations per token"] == ["24 MFLOP"]
    assert "not known" in costs["energy"][0] and "not known" in costs["money"][0]
    assert "secret-host" not in json.dumps(content.as_json(found))


def test_money_and_energy_with_their_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUI_LAB_PRICE_PER_HOUR", "3.6")
    run = create(Recipe(), name="e")
    events = EventWriter(run.events_path)
    gpu = {"uuid": "a", "index": 0, "name": "a GPU", "used_bytes": 9 * MIB, "power_w": 100.0}
    events.write(ResumedEvent(from_step=0, attempt=1))
    events.write(TelemetryEvent(step=1, gpus=[gpu], process={}, energy_j=3.6e6, seconds=1000.0))
    events.write(EndEvent(state="finished", step=1, energy_j=3.6e6))
    events.close()
    found = cells(content.read(run), "costs")
    assert found["energy"] == ["1 kWh"] and found["money"] == ["$1.00 = hours × $3.60 per hour"]
    assert found["CO₂"][0].startswith("445 g CO₂ = energy × 445 g per kWh (world average 2024")
    assert cells(content.read(run), "memory")["GPU 0, a GPU, by all processes"] == ["9 MiB"]


@pytest.mark.parametrize(
    ("end", "locked", "says"),
    [
        ("finished", False, "ran to its end"),
        ("stopped", False, "stopped before its planned end"),
        ("failed", False, "It failed"),
        ("", False, "It crashed"),
        ("", True, "was running when this was written"),
    ],
)
def test_every_state_has_its_sentence(end: str, locked: bool, says: str) -> None:
    run = written(create(Recipe(), name="s"), end=end)
    run.log_path.write_text("a last \x1b[31mword\n")
    lock = RunLock.take(run) if locked else None
    found = content.read(run)
    if lock:
        lock.release()
    assert says in text_of(found, "result")
    assert ("a last" in text_of(found, "result")) == (found.status in ("failed", "crashed"))
    if found.status != "finished":
        assert "would have given" in text_of(found, "unknown") or "had not ended" in text_of(found, "unknown")


def test_damaged_files_are_named_and_the_rest_is_reported() -> None:
    run = written(create(Recipe(), name="d"), end="")
    run.recipe_path.write_text("model = [")
    (run.path / "retention").mkdir()
    (run.path / "retention" / "everyday.json").write_text("{")
    (run.path / "retention" / "strength.json").write_text("[1]")
    (run.path / "retention" / "acquisition.json").write_text("{}")
    with run.events_path.open("ab") as log:
        log.write(
            b'{"kind":"score","when":"end"}\n\xff\xfe\n{"kind":"choice","field":[1],"reason":{"a":1}}\n{"half'
        )
    found = content.read(run)
    written_json = text_of(found, "result")
    for name in ("recipe.toml", "everyday.json", "strength.json", "events.jsonl, line "):
        assert name in written_json
    assert (
        found.recipe is None and found.command == "" and "no command can be given" in text_of(found, "repeat")
    )
    assert cells(found, "result")["training loss"] == ["8 → 0.2667"]
    empty = create(Recipe(), name="empty")
    for folder in (empty, Run(empty.path / "nothing")):
        nothing = content.read(folder)
        assert nothing.status == "created" and "No step was recorded" in text_of(nothing, "curves")
        assert math.isnan(nothing.log.loss.last)


def test_invalid_results_are_named_with_their_field() -> None:
    run = written(create(Recipe(), name="odd"))
    wild = result()
    wild["comparison"] = comparison(0.9, 0.5, "a_new_verdict", retention=None, above_chance=5)
    (run.path / "retention").mkdir()
    save(run.path / "retention" / "everyday.json", wild)
    save(run.path / "retention" / "strength.json", {"points": [{"strength": "x"}, 5]})
    save(run.path / "retention" / "acquisition.json", {"items": [1, {"base": 2}], "metrics": {"exact": 3}})
    found = content.read(run)
    assert [section.id for section in document(found).sections if not section.blocks] == []
    for name in ("comparison.retention must be an object", "strength.json: points", "acquisition.json: "):
        assert name in text_of(found, "result")
    assert cells(found, "result")["steps"] == ["30 of 30"]


def test_the_command_makes_the_same_recipe() -> None:
    recipe = build({
        "model": "pocket", "data": "support", "preset": "minute", "seed": 7, "learning_rate": 1.2345678901e-4,
        "lora_r": 4, "sample_prompt": "it's a $(test) \"of\" quotes", "gradient_checkpointing": True,
    })  # fmt: skip
    for preset in ("minute", "no-such-preset"):
        named = recipe.model_copy(update={"preset": preset})
        _, changed, command = content.repeat(named)
        assert {"seed", "learning_rate", "lora_r"} <= changed.keys()
        args = main.parser().parse_args(shlex.split(command)[1:])
        made = prepare(args)[0]
        assert set(changed) & set(FILLED_KEYS) == set(made.pins), "keys that the command sets are pinned"
        assert made.model_copy(update={"pinned": ""}) == recipe


def test_the_command_writes_the_files_or_fails_with_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = written(create(Recipe(), name="files"))
    assert main.main(["report", "latest", "--json", "--out", str(tmp_path / "a" / "b")]) == 0
    written_json = json.loads(capsys.readouterr().out)
    assert written_json["state"] == "finished" and written_json["memory"]["difference"] == pytest.approx(0.2)
    assert [Path(path).name for path in written_json["written"]] == ["report.md", "report.html"]
    assert (
        all(Path(path).is_file() for path in written_json["written"])
        and not (run.path / "report.md").exists()
    )
    assert main.main(["report", "latest", "--format", "md"]) == 0
    assert str(run.path / "report.md") in capsys.readouterr().out
    assert not (run.path / "report.html").exists()
    (tmp_path / "file").write_text("")
    assert main.main(["report", "latest", "--out", str(tmp_path / "file")]) == options.EXIT_USAGE
    assert "name a place with --out" in capsys.readouterr().err
    assert report_files.write_at_end(run) == "" and (run.path / "report.html").is_file()
    assert "no report was written" in report_files.write_at_end(Run(tmp_path / "gone"))


def test_a_run_logs_why_there_is_no_report_unless_it_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tui_lab.training.__main__ import _report

    monkeypatch.setattr(report_files, "write_at_end", lambda run: "no report was written: x")
    _report(create(Recipe(), name="says"), 1)
    assert capsys.readouterr().err == "", "the end of the log stays that of the failure"
    _report(create(Recipe(), name="says"), 0)
    assert capsys.readouterr().err == "no report was written: x\n"


def test_a_run_writes_no_report_for_a_long_log(monkeypatch: pytest.MonkeyPatch) -> None:
    run = written(create(Recipe(), name="long"))
    monkeypatch.setattr(report_files, "MAX_LOG_BYTES_AT_END", 10)
    assert "the log is long" in report_files.write_at_end(run)
    assert not (run.path / "report.md").exists()


def test_changes_of_the_recipe_are_part_of_the_course() -> None:
    run = written(create(Recipe(preset="minute"), name="c"), end="")
    events = EventWriter(run.events_path)
    events.write(CommandEvent(id="a", name="checkpoint", outcome="saved at step 30"))
    events.write(ResumedEvent(from_step=20, attempt=2))
    change = {
        "field": "max_steps",
        "before": 30,
        "after": 40,
        "weight": "course",
        "text": "another end",
    }
    events.write(RecipeChangedEvent(changes=[change]))
    events.write(EndEvent(state="finished", step=40))
    events.close()
    found = content.read(run)
    written_json = [row["what"] for row in cells_of(found, "Course of the run")]
    assert written_json == [
        "checkpoint: saved at step 30",
        "attempt 2 continues from step 20",
        "max_steps: 30 → 40 (course: another end)",
    ]
    assert cells(found, "result")["attempts"] == ["2"] and found.log.step == 20
    assert "no single command repeats the run exactly" in text_of(found, "repeat")


def test_json_keeps_its_keys() -> None:
    """Those of version 1; programs read them."""
    found = content.as_json(content.read(written(create(Recipe(preset="minute"), name="j"))))
    assert set(found) == {
        "run", "folder", "state", "message", "started_at", "updated_at", "last_words", "written_at",
        "written_by", "recipe", "changed", "base_preset", "command", "choices", "warnings", "data", "model",
        "plan", "versions", "device", "threads", "attempts", "course", "step", "total_steps", "losses",
        "scores", "samples", "examples", "answers", "acquisition", "results", "flips", "item_probes",
        "kl_probes", "threshold", "probe_reason", "strength", "memory", "flags", "ladder", "ladder_cost",
        "spent", "prices", "saved", "stages", "search", "unknown", "problems",
    }  # fmt: skip
    as_dict: Any = found
    assert as_dict["scores"][0]["name"] == "exact" and "examples" not in as_dict["scores"][0]
    assert as_dict["device"]["name"] == "a CPU" and as_dict["saved"] == {} and as_dict["threads"] == 2
    assert as_dict["memory"]["inside"] is True and as_dict["losses"]["train_first"] == 8.0
    assert as_dict["samples"][0]["after"]["text"] == "Arr!" and as_dict["choices"][0]["field"] == "optim"


def cells_of(found: content.ReportContent, caption: str) -> list[dict[str, str]]:
    """The rows of one table, without their first cells."""
    tables = [block for block in blocks(found, "result") if isinstance(block, Table)]
    table = next(table for table in tables if table.caption == caption)
    return [dict(zip(table.headers[1:], row[1:], strict=True)) for row in table.rows]


def test_a_score_has_the_values_of_its_tasks() -> None:
    score = ScoreEvent(name="exact", value=0.9, rouge_l=0.5, by_task={"easy": 1.0, "hard": 0.8})
    wanted = {"exact": 0.9, "exact match, task easy": 1.0, "exact match, task hard": 0.8, "rouge_l": 0.5}
    assert _score_values(score) == wanted


def test_a_run_that_goes_on_has_the_scores_of_all_stages() -> None:
    first = make_run()
    second = make_run(from_run=str(first.path))
    found = content.read(second)
    rows = cells(found, "stages")
    assert rows["stage 1"] == [first.id, "0.900", "0.100"]
    assert rows["stage 2"] == [second.id, "0.900", "0.900"]
    assert "backward transfer +0.000" in text_of(found, "stages")
    in_json: Any = content.as_json(found)["stages"]
    assert [[each["value"] for each in row] for row in in_json["scores"]] == [[0.9, 0.1], [0.9, 0.9]]
    assert (in_json["backward_transfer"], in_json["forgetting"]) == (0.0, [0.0])
    assert not blocks(content.read(first), "stages") and content.as_json(content.read(first))["stages"] == {}


def test_the_chosen_run_of_a_search_shows_the_front_and_the_fresh_seeds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, other = written(make_run()), make_run()
    pilots = [search_pilot(0, (0.5, 0.4, 0.95), (1.0, 0.8, 0.7)), search_pilot(1, (1.0, 0.5, 0.92))]
    pilots[1] = msgspec.structs.replace(pilots[1], run=run.id)
    pilots[0] = msgspec.structs.replace(pilots[0], run=other.id)
    fresh = [search_pilot(7, (1.0, 0.45, 0.91)), search_pilot(8, (1.0, 0.47, 0.93))]
    found = SearchResult(
        search="search-1", model="pocket", data="support", keep=0.9, budget_s=600.0, pilots=pilots,
        front=search_plan.front(pilots), chosen=search_plan.choose(pilots, 0.9), confirmations=fresh,
        confirmed=True,
    )  # fmt: skip
    found = msgspec.structs.replace(found, sentence=search_plan.sentence(found))
    place = run.path.parent / ".searches" / "search-1"
    place.mkdir(parents=True)
    (place / "search.json").write_text(to_json(found))
    for each in (run, other):
        sweep.write_place(each, sweep.SweepPlace("search-1", 1, 0, {}))
    assert content.read(other).search is None, "a pilot that was not chosen"
    report = content.read(run)
    kinds = [block.kind for block in blocks(report, "search")]
    assert kinds == ["paragraph", "figure", "table", "table"]
    assert "Confirmed by 2 fresh seeds" in text_of(report, "search")
    front, seeds = (block for block in blocks(report, "search") if isinstance(block, Table))
    assert [(row[0], row[3]) for row in front.rows] == [
        (other.id, "0.80"), (run.id, "0.50"), (other.id, "0.40")
    ]  # fmt: skip
    assert seeds.rows[0][3:] == ("0.45", "0.96 (0.91 to 1.01)")
    assert main.main(["report", "--search", "latest", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["search"]["chosen"]["pilot"]["run"] == run.id
    assert main.main(["report"]) == 2 and "name a run" in capsys.readouterr().err
