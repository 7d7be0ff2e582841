"""What is written reads back as meant, and everything else in the user's file stays."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.core.settings_page import PAGE, page
from tui_lab.core import settings
from tui_lab.core.errors import LabError
from tui_lab.core.settings import FIELDS, Settings, load
from tui_lab.core.settings_file import template, write, write_many

OWN = """# my file
theme = "lab-light"  # the good one
colour = 3

[mine]
theme = "not this"
text = '''
plots = "neither"
'''
# about keys
[keys]
# start
"setup.start" = "g"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config" / "settings.toml"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_template_names_every_setting_and_sets_none(file: Path) -> None:
    assert tomllib.loads(template()) == {"keys": {}}
    bare = [line[2:] for line in template().splitlines() if re.match(r'# ["\w.]+ = ', line)]
    everything = tomllib.loads("\n".join(bare[:-1]))
    assert set(everything) == set(FIELDS) - {"keys"} and bare[-1] == '"setup.start" = "g,ctrl+s"'
    file.parent.mkdir()
    file.write_text("\n".join(bare[:-1]))
    held = load({}, {}, file)
    assert held.problems == []
    # what stands there is what holds anyway, but for the examples of what has no default
    assert held.settings == Settings(price_per_hour=2.5, grid_g_co2_per_kwh=445.0, machine_watts=120.0)


def test_a_first_setting_makes_a_private_file_with_all_comments(file: Path) -> None:
    assert write("theme", "lab-light", file) == file
    assert load({}, {}, file).settings == Settings(theme="lab-light")
    assert mode(file) == 0o600 and mode(file.parent) == 0o700
    lines = file.read_text().splitlines()
    assert [line for line in lines if line not in template().splitlines()] == ['theme = "lab-light"']
    assert lines[lines.index('theme = "lab-light"') - 1] == '# theme = ""'
    write("theme", None, file)
    assert file.read_text() == template()


def test_only_what_is_meant_changes(file: Path) -> None:
    file.parent.mkdir()
    file.write_text(OWN)
    write("theme", "lab-dark", file)
    assert file.read_text() == OWN.replace('theme = "lab-light"', 'theme = "lab-dark"', 1)
    write_many({"plots": "block", "keys": {"setup.start": "h", "app.quit": "f10"}}, file)
    data = tomllib.loads(file.read_text())
    assert data["plots"] == "block" and data["keys"] == {"setup.start": "h", "app.quit": "f10"}
    assert data["mine"] == tomllib.loads(OWN)["mine"] and data["colour"] == 3
    for comment in ("# my file", "# the good one", "# about keys\n[keys]", "# start"):
        assert comment in file.read_text()
    write_many({"theme": None, "keys": None}, file)
    data = tomllib.loads(file.read_text())
    assert "theme" not in data and data["keys"] == {} and "# the good one" in file.read_text()


def test_a_value_of_several_lines_goes_whole(file: Path) -> None:
    file.parent.mkdir()
    file.write_text('theme = """\na # b\n""" # c\nplots = "block"')
    write("theme", "x", file)
    assert file.read_text() == 'theme = "x" # c\nplots = "block"'
    write("ascii", True, file)
    assert tomllib.loads(file.read_text()) == {"theme": "x", "plots": "block", "ascii": True}


@pytest.mark.parametrize("content", [b"theme = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_file_that_cannot_be_read_is_never_written_over(file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(LabError, match="is left as it is") as caught:
        write("theme", "lab-dark", file)
    assert "\n" not in str(caught.value) and file.read_bytes() == content
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_what_is_wrong_is_refused_before_anything_is_written(file: Path) -> None:
    with pytest.raises(LabError, match="'colour' is not a setting; the settings are theme"):
        write("colour", "no", file)
    with pytest.raises(LabError, match="plots = 'dots': must be one of"):
        write_many({"theme": "x", "plots": "dots"}, file)
    assert not file.exists()
    file.parent.mkdir()
    file.write_text('keys = { "setup.start" = "g" }\n')
    write("keys", {"setup.start": "h"}, file)  # an inline table too
    write("theme", "x", file)
    assert load({}, {}, file).settings == Settings(theme="x", keys={"setup.start": "h"})


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError) as caught:
        write("theme", "x", tmp_path / "file" / "settings.toml")
    assert "\n" not in str(caught.value) and (tmp_path / "file").read_text() == ""


def test_links_and_line_ends_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles.toml", tmp_path / "settings.toml"
    real.write_bytes(b'# a\r\ntheme = "x"\r\n')
    link.symlink_to(real)
    write("theme", "y", link)
    assert link.is_symlink() and real.read_bytes() == b'# a\r\ntheme = "y"\r\n'


def test_keys_that_the_lab_left_out_are_not_lost(file: Path) -> None:
    file.parent.mkdir()
    file.write_text('[keys]\n"train.stop" = ["z", "y"]\n"setup.start" = "g"\n')
    before = file.read_bytes()
    assert load({}, {}, file).settings.keys == {}
    with pytest.raises(LabError, match=r"\[keys\] must be a table of texts.*correct it by hand first"):
        write("keys", {"train.pause": "o"}, file)
    write("plots", "block", file)
    assert file.read_bytes().endswith(before)


def test_a_path_that_is_no_text_is_refused_in_a_sentence(file: Path) -> None:
    with pytest.raises(LabError, match="cannot be written"):
        write("runs_dir", os.fsdecode(b"/x\xff"), file)
    assert list(file.parent.iterdir()) == []


WORD = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "theme": st.text(WORD, max_size=30),
    "currency": st.text(WORD, max_size=5),
    "ascii": st.booleans(),
    "plots": st.sampled_from(settings.PLOTS),
    "price_per_hour": st.one_of(st.none(), st.floats(0, 1e9)),
    "keys": st.dictionaries(st.text(max_size=12), st.text(max_size=8), max_size=3),
}


@hypothesis_settings(max_examples=30)
@given(
    st.sampled_from(
        [OWN, template(), "", 'theme = "a"', "[keys]\n", "# nothing", "x = nan\n[[y]]\ntheme = 1"]
    ),
    st.lists(
        st.sampled_from(sorted(VALUES)).flatmap(lambda name: st.tuples(st.just(name), VALUES[name])),
        max_size=4,
    ),
)
def test_whatever_is_written_reads_back(
    tmp_path_factory: pytest.TempPathFactory, start: str, steps: list[tuple[str, Any]]
) -> None:
    file = tmp_path_factory.mktemp("s") / "settings.toml"
    file.write_text(start)
    for name, value in steps:
        write(name, value, file)
        meant = settings.default_of(name) if value is None else settings.checked(name, value)
        assert getattr(load({}, {}, file).settings, name) == meant
    comments = [line for line in start.splitlines() if line.startswith("#")]
    assert [line for line in file.read_text().splitlines() if line in comments] == comments


@pytest.mark.skipif(not PAGE.parent.is_dir(), reason="only the repository has the page")
def test_the_page_about_settings_says_what_the_code_does() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "`python -m tests.core.settings_page` writes it anew"


@pytest.mark.parametrize(
    ("former", "pane"),
    [
        ("choose", "setup"),
        ("tune", "train"),
        ("compare", "playground"),
        ("keep", "retention"),
        ("dashboard", "train"),
    ],
)
def test_a_former_name_of_a_pane_still_works(former: str, pane: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(f'pane = "{former}"\n')
    found = load({}, {}, file)
    assert found.settings.pane == pane and found.problems == []
