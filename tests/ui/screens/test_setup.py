"""Setup, driven by keys: picking, editing, the preview, the command, and what starting does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

from tests.ui.helpers import said, screen_text, until
from tui_lab.core.errors import LabError
from tui_lab.models.download import DownloadPlan, HubFile
from tui_lab.pocket import MODEL_DIR
from tui_lab.recipes.recipe import Recipe
from tui_lab.runs import launch
from tui_lab.runs.folder import Run, list_runs
from tui_lab.runs.queue import queue
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.ask_name import AskName, DataNames
from tui_lab.ui.screens.setup import SetupPane
from tui_lab.ui.widgets.chooser import Chooser


def pane(app: LabApp) -> SetupPane:
    assert isinstance(app.screen, SetupPane)
    return app.screen


async def ready(app: LabApp) -> None:
    await until(lambda: "starts the run" in screen_text(app), what=screen_text(app))
    await until(lambda: pane(app).memory.device is not None and pane(app).lists.entries)


async def test_one_key_starts_the_default_run_and_shows_it(started: list[Run]) -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(app)
        await pilot.press("s")
        await until(lambda: app.pane == "train")
        assert len(started) == 1 and app.run_id == started[0].id
        recipe = started[0].recipe()
        assert (recipe.model, recipe.preset, recipe.data) == ("pocket", "minute", "pirate")
        assert recipe.quantization == "nf4"


async def test_a_model_that_the_hub_refuses_is_told_before_it_waits(
    started: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[tuple[str, str]] = []

    def refuse(location: str, revision: str = "") -> None:
        requests.append((location, revision))
        raise LabError("it is gated: accept its licence")

    monkeypatch.setattr("tui_lab.models.download.preflight", refuse)
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(app)
        await pilot.press("s")
        await until(lambda: said(app, "it is gated"))
        pane(app).action_queue()
        await until(lambda: len(requests) == 2)
        assert not started and not list_runs() and not queue.items()
        assert requests[0][0].endswith("model")  # the folder of the bundled model


async def test_pressing_start_twice_starts_one(started: list[Run]) -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(app)
        await pilot.press("s", "s", "s")
        await until(lambda: app.pane == "train")
        await pilot.pause(0.2)
        assert len(list_runs()) == len(started) == 1


async def test_a_preset_a_set_and_a_field_go_into_the_recipe(started: list[Run]) -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(app)
        await pilot.press("d", "down", "enter")  # json
        await until(lambda: pane(app).values["data"] == "json")
        await pilot.press("h")
        pane(app).form.go_to("max_steps")
        await pilot.press("enter", "ctrl+u", "7", "enter")
        await until(lambda: pane(app).values["max_steps"] == 7)
        assert pane(app).summary is not None
        command = pane(app).summary.command
        assert command == "tui-lab train --model pocket --preset minute --data json --set max_steps=7"
        await pilot.press("s")
        await until(lambda: bool(started))
        recipe = started[0].recipe()
        assert recipe.data == "json" and recipe.max_steps == 7


async def test_another_preset_keeps_model_and_data_and_gives_its_fields(started: list[Run]) -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(app)
        await pilot.press("d", "down", "down", "enter")  # support
        pane(app).form.set_value("lora_r", 99)
        await pilot.pause()
        await pilot.press("p")
        chooser = pane(app).query_one("#preset-list")
        names = [item.id for item in chooser.items]  # type: ignore[attr-defined]
        assert names[0] == "minute"
        await pilot.press(*["down"] * names.index("starter"), "enter")
        await until(lambda: pane(app).preset == "starter")
        values = pane(app).values
        assert values["data"] == "support" and values["max_length"] == 2048
        assert values["lora_r"] == pane(app).base["lora_r"] != 99


async def test_a_preset_that_says_otherwise_for_the_bundled_model_follows_the_model() -> None:
    app = LabApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: bool(pane(app).values))
        pane(app)._take_preset("keeper")
        await pilot.pause()
        assert pane(app).values["method"] == "full" and not pane(app).summary.refusals  # type: ignore[union-attr]
        pane(app)._take("model", "Qwen/Qwen3-0.6B")
        await pilot.pause()
        assert pane(app).values["method"] == "lora" and pane(app).values["kl_weight"] > 0
        assert "--set" not in pane(app).summary.command  # type: ignore[union-attr]
        assert pane(app).form.values["method"] == "lora"
        pane(app)._take("model", "pocket")
        await pilot.pause()
        assert pane(app).values["method"] == "full"


async def test_the_last_changes_are_undone_one_by_one() -> None:
    app = LabApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app)
        at_first = dict(pane(app).values)
        pane(app).form.set_value("lora_r", 8)
        await pilot.pause()
        pane(app)._take("data", "json")
        pane(app)._take_preset("starter")
        await pilot.pause()
        assert pane(app).values["lora_r"] == 16
        await pilot.press("u")
        assert (pane(app).preset, pane(app).values["data"], pane(app).values["lora_r"]) == (
            "minute",
            "json",
            8,
        )
        await pilot.press("u", "u")
        await until(lambda: pane(app).values == at_first)
        assert pane(app).form.values["lora_r"] == 16
        await pilot.press("u")
        await until(lambda: said(app, "nothing to undo"))


async def test_epochs_replace_the_steps_of_the_preset_as_the_command_does() -> None:
    app = LabApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app)
        pane(app).form.set_value("num_train_epochs", 3.0)
        await pilot.pause()
        summary = pane(app).summary
        assert summary is not None and summary.recipe is not None
        assert summary.recipe.max_steps == 0 and summary.recipe.num_train_epochs == 3
        assert "--set max_steps=0" in summary.command


async def test_a_refused_combination_is_said_and_not_started(started: list[Run]) -> None:
    app = LabApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app)
        pane(app).form.set_value("method", "full")
        await until(lambda: "rounded weights cannot be trained" in " ".join(screen_text(app).split()))
        await pilot.press("s")
        await pilot.pause(0.2)
        assert not started and not list_runs() and app.pane == "setup"
        pane(app).form.set_value("quantization", "none")
        await until(lambda: "starts the run" in screen_text(app))


async def test_advice_stands_under_its_field() -> None:
    app = LabApp()
    async with app.run_test(size=(120, 60)) as pilot:
        await ready(app)
        pane(app).form.set_value("weight_decay", 0.5)
        await pilot.press("h")
        pane(app).form.go_to("weight_decay")
        await until(lambda: "weight_decay" in pane(app).form.advice)
        await until(lambda: "! weight_decay = 0.5 is above 0.1" in screen_text(app))


async def test_a_refused_model_cannot_be_picked() -> None:
    app = LabApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(app)
        chooser = pane(app).query_one("#model-list")
        ids = [item.id for item in chooser.items]  # type: ignore[attr-defined]
        chooser.list.highlighted = ids.index("Qwen/Qwen-1_8B")  # type: ignore[attr-defined]
        await pilot.press("enter")
        await until(lambda: any("remote code" in n.message for n in app._notifications))
        assert pane(app).values["model"] == "pocket"


async def test_a_list_is_filtered_and_enter_takes_the_first() -> None:
    app = LabApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(app)
        await pilot.press("slash", *"smol135")
        chooser = pane(app).query_one("#model-list", Chooser)
        await until(lambda: chooser.shown and "SmolLM2-135M" in chooser.shown[0].id)
        await pilot.press("escape")
        await until(lambda: len(chooser.shown) == len(chooser.items))
        await pilot.press("slash", *"pythia 70", "enter")
        await until(lambda: pane(app).values["model"] == "EleutherAI/pythia-70m")
        assert len(chooser.shown) == len(chooser.items) and app.focused is chooser.list


async def test_the_filter_is_of_the_list_that_has_the_focus() -> None:
    app = LabApp()
    async with app.run_test(size=(200, 60)) as pilot:
        await ready(app)
        for key, name, text, found in (
            ("p", "presets", "reas", "reasoning"), ("d", "data", "shop", "support"), ("m", "models", "gpt2",
            "gpt2"),
        ):  # fmt: skip
            await pilot.press(key, "slash", *text)
            chooser = pane(app).query_one(f"#{name} Chooser", Chooser)
            await until(lambda c=chooser, f=found: c.shown and f in c.shown[0].id)  # type: ignore[misc]
            await pilot.press("escape")
        pane(app).action_show("fields")
        await pilot.press("slash", *"warm")
        await until(lambda: "warm-up steps" in screen_text(app) and "LoRA rank r" not in screen_text(app))
        await pilot.press("escape")
        await until(lambda: "LoRA rank r" in screen_text(app))


async def test_a_model_that_is_not_in_the_list_is_asked_for_and_an_error_stays_in_the_dialog() -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(app)
        await pilot.press("slash", *"smolm2", "up", "enter")  # the last line asks for a name
        await until(lambda: isinstance(app.screen, AskName))
        asked = app.screen
        assert isinstance(asked, AskName) and asked.query_one(Input).value == "smolm2"
        await pilot.press("enter")
        await until(
            lambda: "'smolm2' is not known" in " ".join(screen_text(app).split()), what=screen_text(app)
        )
        assert asked.query_one(Input).value == "smolm2" and asked.is_current
        await pilot.press("ctrl+u", *"smollm2-135m", "enter")
        await until(lambda: isinstance(app.screen, SetupPane))
        await until(lambda: pane(app).values["model"] == "HuggingFaceTB/SmolLM2-135M")
        assert "trains" in screen_text(app)


async def test_a_model_folder_is_described_as_a_model(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(MODEL_DIR, folder)
    app = LabApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app)
        pane(app)._named("models", str(folder))
        chooser = pane(app).query_one("#model-list", Chooser)
        await until(lambda: any(item.id == str(folder) for item in chooser.items))
        item = next(item for item in chooser.items if item.id == str(folder))
        assert item.columns[0] == "mine" and item.columns[1] == "4.23 M" and item.columns[3] == "folder"
        assert "llama, 5 layers of 256" in item.about and "JSONL" not in item.about
        await until(lambda: next(i for i in chooser.items if i.id == str(folder)).columns[2].startswith("✓"))
        await pilot.pause()


async def test_models_are_sorted_by_how_they_fit() -> None:
    app = LabApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app)
        chooser = pane(app).query_one("#model-list", Chooser)
        await until(lambda: sum(item.columns[2] != "" for item in chooser.items) > 20)
        await pilot.press("greater_than_sign", "greater_than_sign", "greater_than_sign")
        await until(lambda: "here▴" in screen_text(app))
        found = pane(app).lists._marks.found.models
        needed = [
            found[item.id].needed_bytes or 0
            for item in chooser.shown
            if item.id in found and found[item.id].verdict == "fits"
        ]
        assert needed == sorted(needed) and len(needed) > 10 and chooser.shown[-1].refused
        await pilot.press("I")
        await until(lambda: "here▾" in screen_text(app))
        assert chooser.shown[-1].id == "pocket"


async def test_nothing_that_cannot_be_had_looks_as_if_it_could_start() -> None:
    """Offline, a model whose files are not here is an obstacle with the key that removes it."""
    app = LabApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app)
        pane(app)._take("model", "google/gemma-3-270m")
        await pilot.pause()
        assert "starts the run" not in screen_text(app)
        await until(lambda: "cannot be reached" in " ".join(screen_text(app).split()), what=screen_text(app))
        text = " ".join(screen_text(app).split())
        assert "m chooses another" in text and "starts the run" not in text and "gated" in text
        pane(app)._take("model", "pocket")
        await until(lambda: "starts the run" in screen_text(app))
        pane(app)._take("data", "/nowhere/rows.jsonl")
        await until(lambda: "There is no data file" in " ".join(screen_text(app).split()))
        assert "starts the run" not in screen_text(app)


async def test_what_could_not_be_had_is_asked_about_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[DownloadPlan | LabError] = [LabError("it is gated: accept its licence")]

    def answer(location: str, revision: str = "") -> DownloadPlan:
        if isinstance(found := answers[-1], LabError):
            raise found
        return found

    monkeypatch.setattr("tui_lab.models.download.preflight", answer)
    app = LabApp()
    async with app.run_test(size=(120, 40)):
        await ready(app)
        pane(app)._take("model", "google/gemma-3-270m")
        await until(lambda: "✗ it is gated" in screen_text(app))
        file = HubFile("model.safetensors", 1 << 30, False)
        answers.append(DownloadPlan("google/gemma-3-270m", "", "0" * 40, (file,)))
        app.action_pane("train")
        await until(lambda: app.pane == "train")
        app.action_pane("setup")
        await until(lambda: "s downloads 1 GiB and starts the run" in screen_text(app), what=screen_text(app))


async def test_a_file_is_previewed(jobs_here: None, tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"[b]Say[/] {i}"}, {"role": "assistant", "content": "yes"}]}
        for i in range(4)
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    app = LabApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app)
        pane(app)._named("data", str(file))
        await pilot.press("d")
        await until(lambda: "[b]Say[/] 0" in screen_text(app), 300, "the preview")
        text = screen_text(app)
        assert "format messages" in text and "trained" in text
        assert pane(app).values["data"] == str(file)


async def test_a_file_that_is_not_there_is_said(jobs_here: None, tmp_path: Path) -> None:
    app = LabApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app)
        pane(app)._named("data", str(tmp_path / "nothing.jsonl"))
        await pilot.press("d")
        await until(lambda: "✗" in screen_text(app) and "nothing.jsonl" in screen_text(app), 300)


async def test_rows_without_a_format_are_an_obstacle_until_other_data_is_chosen(
    jobs_here: None, tmp_path: Path
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"left": 1, "middle": 2}\n' * 3)
    app = LabApp()
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(app)
        pane(app)._named("data", str(file))
        chooser = pane(app).query_one("#data-list", Chooser)
        assert chooser.list.highlighted == len(chooser.items) - 1, "the cursor is on what was typed"
        await until(lambda: "The rows of rows.jsonl cannot be used" in screen_text(app), 30)
        assert "starts the run" not in screen_text(app)
        problem = pane(app).data_preview.problem(pane(app).values)
        assert "rows.jsonl" in problem
        for key, refusal in (("s", "Not started"), ("a", "Not queued")):
            await pilot.press(key)
            await until(lambda: said(app, f"{refusal}: {problem}"))  # noqa: B023
        assert list_runs() == []
        file.write_text('{"prompt": "a", "completion": "b"}\n' * 3)
        await until(lambda: not pane(app).data_preview.refusal(pane(app).values), 30)  # it is read again
        await pilot.press("u")
        await until(lambda: "starts the run" in screen_text(app))


async def test_what_cannot_be_started_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(run: Run, environment: object = None) -> Any:
        raise LabError("run x: its folder cannot be written (Read-only file system)")

    monkeypatch.setattr(launch, "start", refuse)
    app = LabApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(app)
        await pilot.press("s")
        await until(lambda: any("Read-only" in n.message for n in app._notifications))
        assert app.pane == "setup"


async def test_the_command_is_copied() -> None:
    app = LabApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(app)
        await pilot.press("c")
        assert app.clipboard == "tui-lab train --model pocket --preset minute --data pirate"


@pytest.mark.parametrize("size", [(60, 18), (80, 24), (120, 40), (200, 60)])
async def test_every_list_is_reachable_at_every_size(size: tuple[int, int]) -> None:
    app = LabApp()
    async with app.run_test(size=size) as pilot:
        await ready(app)
        for key, words in (("m", "pocket"), ("p", "minute"), ("d", "pirate"), ("h", "rank r")):
            await pilot.press(key)
            if key == "h":
                pane(app).form.go_to("lora_r")
            await until(lambda words=words: words in screen_text(app))  # type: ignore[misc]
        assert "tui-lab train" in screen_text(app)


def test_the_last_part_of_a_mixture_is_completed_and_each_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"text": "x"}\n')
    names = DataNames()
    assert names.near("pirate:3 + ./ro") == ["pirate:3 + ./rows.jsonl"]
    assert names.near("pirate:3 + supp") == ["pirate:3 + support"]
    assert names.check("pirate:3 + rows.jsonl") == "pirate:3 + rows.jsonl"
    for text, sentence in (("pirate + gone.jsonl", "no data file"), ("pirate:0 + rows.jsonl", "above 0")):
        with pytest.raises(LabError, match=sentence):
            names.check(text)


def chosen(app: LabApp) -> Recipe | None:
    summary = pane(app).summary
    return summary.recipe if summary is not None else None


async def test_rows_that_no_preview_has_read_are_read_before_a_start(
    started: list[Run], tmp_path: Path
) -> None:
    """`s` before the preview has finished (here it never does): bad data is one sentence, no start."""
    good = {"prompt": "a", "completion": "b", "label": True}
    for name, rows in (
        ("good", [good] * 3),
        ("best", [good]),
        ("pairs", [{"prompt": "a", "completion": "b"}]),
        ("empty", []),
    ):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    one, other, pairs, empty = (
        str(tmp_path / f"{name}.jsonl") for name in ("good", "best", "pairs", "empty")
    )
    cases = [
        (one, "kto", "every answer is desirable"),
        (f"{one}:1 + {other}:1", "kto", "every answer is desirable"),
        (pairs, "kto", "needs the columns prompt, completion and a label"),
        (f"{pairs}:0.5 + {empty}:0.5", "none", "empty.jsonl"),
        (f"{pairs}:0.5 + {tmp_path}/absent.jsonl:0.5", "none", "absent.jsonl"),
    ]
    app = LabApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(app)
        for data, loss, sentence in cases:
            app.clear_notifications()
            pane(app)._named("data", data)
            await until(lambda: (r := chosen(app)) and r.data == data)  # noqa: B023
            pane(app).form.set_value("per_device_train_batch_size", 2)
            await until(lambda: pane(app).values["per_device_train_batch_size"] == 2)
            pane(app).form.set_value("preference_loss", loss)
            await until(lambda: (r := chosen(app)) and (r.data, r.preference_loss) == (data, loss))  # noqa: B023
            assert not pane(app).data_preview.is_read(pane(app).values)
            await pilot.press("s")
            await until(lambda: said(app, sentence), what=f"{sentence}: {screen_text(app)}")  # noqa: B023
        assert not started and not list_runs()
