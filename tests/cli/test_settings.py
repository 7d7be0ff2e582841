"""``tui-lab settings`` through the command line's own entry."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import pytest

from tui_lab.cli.main import main
from tui_lab.cli.options import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from tui_lab.core import settings
from tui_lab.core.settings_file import template


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUI_LAB_CONFIG_DIR", str(tmp_path / "config"))
    for each in settings.FIELDS.values():
        if each.metadata["env"]:
            monkeypatch.setenv(each.metadata["env"], "")  # hand_over writes there: given back after the test
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_what_is_set_is_listed_with_where_it_came_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["settings", "theme=lab-light", "price_per_hour=2", "keys.train.stop=ctrl+x"]) == EXIT_OK
    assert "written to" in capsys.readouterr().out
    data = tomllib.loads(settings.path().read_text())
    assert data == {"theme": "lab-light", "price_per_hour": 2.0, "keys": {"train.stop": "ctrl+x"}}
    monkeypatch.setenv("TUI_LAB_PLOTS", "block")
    assert main(["--ascii", "settings", "--json"]) == EXIT_OK
    rows = json.loads(capsys.readouterr().out)["settings"]
    found = {name: (row["value"], row["source"]) for name, row in rows.items() if row["source"] != "default"}
    assert found == {
        "theme": ("lab-light", "file"),
        "plots": ("block", "environment"),
        "ascii": (True, "command line"),
        "price_per_hour": (2.0, "file"),
        "keys": ({"train.stop": "ctrl+x"}, "file"),
    }
    assert main(["settings"]) == EXIT_OK
    out = capsys.readouterr().out
    assert str(settings.path()) in out and "keys.train.stop = ctrl+x" in out
    assert [line.split()[:3] for line in out.splitlines() if line.startswith("plots")] == [
        ["plots", "block", "environment"]
    ]


def test_nothing_after_the_sign_takes_a_setting_out(capsys: pytest.CaptureFixture[str]) -> None:
    main(["settings", "theme=lab-light", "keys.train.stop=ctrl+x"])
    assert main(["settings", "theme=", "keys.train.stop="]) == EXIT_OK
    assert settings.path().read_text() == template()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["colour=no"], "'colour' is not a setting; the settings are theme"),
        (["plots=dots"], "plots = 'dots': must be one of auto, braille, block, ascii"),
        (["theme"], "theme: write it as NAME=VALUE"),
        (["theme=nosuch"], "theme 'nosuch': there is none of that name; there are"),
        (["keys=x"], "name the action too"),
        (["keys.train.stopp=x"], "train.stop"),
        (["keys.train.stop=2"], "app.setup"),  # 2 goes to Setup
        (["--template", "--json"], "--template takes no other arguments"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert main(["settings", *words]) == EXIT_USAGE
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert not settings.path().exists()


def test_a_theme_is_known_by_its_name_and_a_faulty_one_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = settings.path().parent / "themes"
    folder.mkdir(parents=True)
    (folder / "a-file.toml").write_text('name = "mine"\n[colors]\nprimary = "red"')
    (folder / "bad.toml").write_text('[colors]\nprimary = "rot"')
    assert main(["settings", "theme=mine"]) == EXIT_OK
    capsys.readouterr()
    for name, told in {
        "a-file": "there is none of that name",
        "bad": "primary = 'rot' is not a colour",
    }.items():
        assert main(["settings", f"theme={name}"]) == EXIT_USAGE
        assert told in (error := capsys.readouterr().err) and ", bad" not in error
    assert settings.read()[0]["theme"] == "mine"


def test_what_goes_before_the_file_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUI_LAB_PLOTS", "block")
    main(["settings", "plots=ascii"])
    assert "plots: the environment (TUI_LAB_PLOTS) overrides the file" in capsys.readouterr().err


def test_the_template_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "--template"]) == EXIT_OK
    assert capsys.readouterr().out == template()


def test_a_library_that_is_missing_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rich.cells", None)
    assert main(["settings"]) == EXIT_FAILED
    error = capsys.readouterr().err
    assert error.startswith("tui-lab: rich") and "is not installed" in error and error.count("\n") == 1


def test_keys_that_are_left_out_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    settings.path().parent.mkdir(parents=True)
    settings.path().write_text('[keys]\n"train.stop" = "k"\n"setup.strat" = "g"\n')
    assert main(["settings"]) == EXIT_OK
    told = capsys.readouterr().err
    assert "is 'setup.start' meant?" in told and "k is the key of train.probe" in told
    assert main(["settings", "--json"]) == EXIT_OK
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 2


def test_a_config_folder_that_is_shut_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TUI_LAB_CONFIG_DIR", str(tmp_path / ("x" * 300)))  # no disk takes that name
    for words in (["settings"], ["locate"], ["presets"]):
        assert main(words) == EXIT_OK
        assert capsys.readouterr().err == (
            "tui-lab: settings.toml cannot be read: File name too long; the defaults apply\n"
        )
    assert main(["settings", "theme=lab-light"]) == EXIT_USAGE
    assert capsys.readouterr().err.count("\n") == 2
