"""Telemetry is off in every process, what is written is private, and no token gets into a log."""

from __future__ import annotations

import ast
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import ROOT
from tui_lab.core import privacy
from tui_lab.core.errors import LabError
from tui_lab.core.subprocesses import child_environment
from tui_lab.recipes.recipe import build
from tui_lab.runs import folder
from tui_lab.runs.event_lines import encode_event
from tui_lab.runs.schema import WarningEvent

#: For developers and `make setup`; and the check of an export, which imports nothing of the lab and inherits
#: all of it.
TOOLS = {"keyboard_page.py", "json_schema.py", "torch_index.py", "check.py"}


@pytest.fixture(autouse=True)
def umask_stays() -> Iterator[None]:
    before = os.umask(0)
    os.umask(before)
    yield
    os.umask(before)


def test_files_and_folders_are_private(tmp_path: Path) -> None:
    os.umask(0)
    privacy.keep_private({})
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("folder", "file")] == [0o700, 0o600]


def test_what_the_user_has_set_stays() -> None:
    variables = {"HF_HUB_DISABLE_TELEMETRY": "0"}
    privacy.keep_private(variables)
    assert variables["HF_HUB_DISABLE_TELEMETRY"] == "0" and variables["DO_NOT_TRACK"] == "1"


def test_children_do_not_report_whatever_the_parent_did(runs_dir: Path) -> None:
    found = child_environment(environment={"PATH": "/bin"})
    assert found["HF_HUB_DISABLE_TELEMETRY"] == found["DO_NOT_TRACK"] == "1"
    assert Path(found["TORCHINDUCTOR_CACHE_DIR"]).is_relative_to(Path(os.environ["TUI_LAB_CACHE_DIR"]))


def test_every_process_begins_privately() -> None:
    """A module that can be started calls it, or leaves that to the job protocol or the command line."""
    ways = re.compile(r"keep_private\(|job_protocol|\bserve\(|reserve_stdout\(|cli\.main")
    found = []
    for path in sorted((ROOT / "tui_lab").rglob("*.py")):
        text = path.read_text("utf-8")
        starts = re.search(r'^if __name__ == "__main__"', text, re.MULTILINE)
        is_tool = "builder" in path.parts or path.name in TOOLS or path.name == "sandbox_child.py"
        if starts and not is_tool and not ways.search(text):
            found.append(str(path.relative_to(ROOT)))
    assert found == []


def test_every_child_gets_the_environment_of_the_lab() -> None:
    """Each start of a process gives an environment: the lab's own, or one that is derived from it."""
    found = []
    for path in sorted((ROOT / "tui_lab").rglob("*.py")):
        text = path.read_text("utf-8")
        for node in ast.walk(ast.parse(text)) if "subprocess.Popen(" in text else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "subprocess.Popen":
                given = {keyword.arg for keyword in node.keywords}
                if "env" not in given:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []


@pytest.mark.parametrize(
    "text",
    ["hf_" + "aB3" * 12, "sk-proj-" + "x1" * 20, "ghp_" + "A1b2" * 9, "https://me:hunter2@example.org/x"],
)
def test_no_secret_gets_into_an_event(text: str) -> None:
    line = encode_event(WarningEvent(text=f"401 for {text} now")).decode()
    assert text not in line and "hunter2" not in line and "***" in line and "401 for" in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{'Authorization': 'Bearer abc.def-123'}", "{'Authorization': 'Bearer ***'}"),
        ("authorization: Basic dXNlcjpwYXNz", "authorization: Basic ***"),
        ("curl -H 'Bearer 0123456789abcdef'", "curl -H 'Bearer ***'"),
        ("WANDB_API_KEY=0123456789abcdef HF_TOKEN: x1y2z3", "WANDB_API_KEY=*** HF_TOKEN: ***"),
        ("GET https://a.b/c?x=1&X-Amz-Signature=77aa&y=2", "GET https://a.b/c?x=1&X-Amz-Signature=***&y=2"),
        ("key AKIAIOSFODNN7EXAMPLE.", "key ***."),
    ],
)
def test_what_is_named_as_a_secret_is_masked(text: str, expected: str) -> None:
    assert privacy.without_secrets(text) == expected
    assert privacy.without_secrets(expected) == expected


def test_other_words_stay() -> None:
    text = (
        "hf_model sk-learn ghp_1 https://example.org/a:b@c hf_hub_download eos_token: '<|im_end|>' "
        "the bearer of news, MAX_KEYS = 3, token=5 key=7 PAD_TOKEN_ID=0 authorization failed"
    )
    assert privacy.without_secrets(text) == text


def test_what_a_logging_process_prints_holds_no_secret() -> None:
    """Prints, warnings and the traceback of an uncaught error, as worker.log gets them."""
    token = "hf_" + "aB3" * 12
    code = (
        "import sys, warnings\nfrom tui_lab.core.privacy import mask_output\nmask_output()\n"
        f"print('out {token}'); warnings.warn('warn {token}')\n"
        f"raise ValueError('https://me:pass1@host {token}')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
    printed = done.stdout + done.stderr
    assert "out ***" in printed and "warn ***" in printed and "ValueError: https://***@host ***" in printed
    assert token not in printed and "pass1" not in printed


def test_a_recipe_that_would_keep_a_token_is_refused(tmp_path: Path) -> None:
    recipe = build({"data": "pirate", "sample_prompt": "hf_" + "aB3" * 12})
    with pytest.raises(LabError, match="sample_prompt holds an access token"):
        folder.create(recipe, tmp_path)
    assert list(tmp_path.iterdir()) == []
