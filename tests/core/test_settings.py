"""Settings: what goes before what, and one sentence for what is wrong."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core.errors import LabError
from tui_lab.core.settings import FIELDS, Settings, checked, export_to_env, load
from tui_lab.core.settings_file import write


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


def test_command_line_before_environment_before_file_before_default(file: Path) -> None:
    file.write_text('theme = "of-file"\nplots = "block"\nslow_link = true\nprice_per_hour = 2\n')
    environment = {"TUI_LAB_THEME": "of-environment", "TUI_LAB_SLOW_LINK": "no"}
    found = load({"theme": "of-command-line", "ascii": None}, environment, file)
    assert found.problems == []
    assert found.settings == Settings(theme="of-command-line", plots="block", price_per_hour=2.0)
    assert {name: found.sources[name] for name in ("theme", "plots", "slow_link", "ascii")} == {
        "theme": "command line",
        "plots": "file",
        "slow_link": "environment",
        "ascii": "default",
    }


def test_without_anything_the_defaults_hold(file: Path) -> None:
    found = load({}, {}, file)
    assert found.settings == Settings() and found.problems == []
    assert set(found.sources.values()) == {"default"}


def test_what_is_wrong_is_named_and_the_rest_holds(file: Path) -> None:
    file.write_text(
        'colour = "no"\nplots = "dots"\nmouse = "perhaps"\nascii = true\ncurrency = 3\nkeys = 1\n'
    )
    found = load({}, {"TUI_LAB_HOST_IDLE_S": "-1"}, file)
    assert found.settings == Settings(ascii=True)
    told = "\n".join(found.problems)
    assert "settings.toml: 'colour' is not a setting; the settings are theme, plots" in told
    assert "plots = 'dots': must be one of auto, braille, block, ascii" in told
    assert "mouse = 'perhaps': must be true or false" in told
    assert "currency = 3: must be text" in told
    assert "TUI_LAB_HOST_IDLE_S: playground_idle_s = '-1': must be a number of 0 or more" in told
    assert len(found.problems) == 6


@pytest.mark.parametrize("content", [b"theme = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_file_that_is_none_is_one_sentence(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    (problem,) = load({}, {}, file).problems
    assert problem.startswith("settings.toml cannot be read: ") and "\n" not in problem


def test_what_was_typed_now_is_refused_at_once(file: Path) -> None:
    with pytest.raises(LabError, match="plots = 'dots': must be one of auto, braille, block, ascii"):
        load({"plots": "dots"}, {}, file)


def test_no_color_switches_colours_off_unless_ours_says_otherwise(file: Path) -> None:
    assert not load({}, {"NO_COLOR": "1"}, file).settings.color
    assert load({}, {"NO_COLOR": ""}, file).settings.color
    assert load({}, {"NO_COLOR": "1", "TUI_LAB_COLOR": "1"}, file).settings.color
    assert load({"color": True}, {"NO_COLOR": "1"}, file).settings.color


def test_other_programs_find_theirs_in_the_environment() -> None:
    environment = {"TUI_LAB_CURRENCY": "€"}
    export_to_env(Settings(theme="x", runs_dir="r", price_per_hour=0.5, currency="CHF"), environment)
    assert environment == {
        "TUI_LAB_RUNS_DIR": "r",
        "TUI_LAB_PRICE_PER_HOUR": "0.5",
        "TUI_LAB_CURRENCY": "CHF",
    }


def test_former_names_of_a_setting_and_its_variable_work(file: Path) -> None:
    file.write_text("host_idle_s = 30.0  # short\n")
    found = load({}, {}, file)
    assert found.settings.playground_idle_s == 30.0 and found.problems == []
    assert load({}, {"TUI_LAB_HOST_IDLE_S": "40"}, file).settings.playground_idle_s == 40.0
    both = {"TUI_LAB_HOST_IDLE_S": "40", "TUI_LAB_PLAYGROUND_IDLE_S": "50"}
    assert load({}, both, file).settings.playground_idle_s == 50.0
    write("host_idle_s", 60.0, file)  # written under the name of today
    assert tomllib.loads(file.read_text()) == {"playground_idle_s": 60.0}


def test_other_programs_do_not_find_what_was_refused(file: Path) -> None:
    environment = {
        "TUI_LAB_PLAYGROUND_IDLE_S": "soon", "TUI_LAB_PRICE_PER_HOUR": "much", "TUI_LAB_CURRENCY": " "
    }  # fmt: skip
    found = load({}, environment, file)
    assert len(found.problems) == 2
    export_to_env(found.settings, environment)
    assert environment == {}


@pytest.mark.parametrize("content", ['runs_dir = "a\\u0000b"', f"theme = {'[' * 20_000}"])
def test_what_no_program_could_hold_is_one_sentence(file: Path, content: str) -> None:
    file.write_text(content)
    found = load({}, {}, file)
    assert len(found.problems) == 1 and found.settings == Settings()


@given(
    st.sampled_from(sorted(FIELDS)), st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.binary())
)
def test_any_value_is_taken_or_refused_in_one_sentence(name: str, value: object) -> None:
    try:
        taken = checked(name, value)
    except LabError as error:
        assert "\n" not in str(error) and name in str(error) and "\x1b" not in str(error)
    else:
        assert checked(name, taken) == taken
