"""Every entry point for files from outside ends at once with a result or one sentence, whatever lies there: a
pipe, a device, a folder, a bomb, a text of 30 MB."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.paths import ROOT
from tui_lab.cli import main
from tui_lab.core import paths, settings, settings_file
from tui_lab.core.errors import LabError
from tui_lab.data import files, templates
from tui_lab.decoding import adapters
from tui_lab.forecast import calibration
from tui_lab.models import catalog, checkpoint
from tui_lab.playground import votes
from tui_lab.recipes import presets
from tui_lab.retention.suites import custom
from tui_lab.runs import changes, checkpoints, commands, folder, notes
from tui_lab.runs.folder import Run
from tui_lab.runs.index import RunIndex
from tui_lab.runs.queue import queue, sweep
from tui_lab.runs.state import Watcher
from tui_lab.ui.terminal import themes
from tui_lab.ui.views import retention_data
from tui_lab.ui.views.saved_comparison import History

#: Most seconds for one entry point, on a busy machine.
MOST_S = 20.0
WRITTEN = ROOT / "tests" / "fixtures" / "caf9144"
POCKET = ROOT / "tui_lab" / "pocket" / "model"


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _folder(path: Path) -> None:
    path.mkdir()


def _deep_json(path: Path) -> None:
    path.write_text('{"a":' * 60_000 + "1")


def _toml_bomb(path: Path) -> None:
    path.write_text(".".join(["a"] * 50_000) + " = 1")


def _long_text(path: Path) -> None:
    quote = "'" if path.suffix == ".toml" else '"'
    path.write_text(f"{{{quote}name{quote}: {quote}" + "x" * 30_000_000 + quote)


def _endless(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 42)


KINDS: dict[str, Callable[[Path], None]] = {
    "pipe": _pipe,
    "device": _device,
    "folder": _folder,
    "deep JSON": _deep_json,
    "TOML bomb": _toml_bomb,
    "30 MB": _long_text,
    "4 TB of zeros": _endless,
}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def put(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    """Puts something hostile at a path, in place of what is there."""

    def place(path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        request.param(path)

    return place


@contextlib.contextmanager
def at_once(what: object) -> Iterator[None]:
    """Fails where the block takes long; a LabError of one line is a fine end."""

    def late(*_: object) -> None:
        pytest.fail(f"{what} takes more than {MOST_S} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, MOST_S)
    try:
        yield
    except LabError as error:
        assert str(error).strip() and "\n" not in str(error) and len(str(error)) < 2_000
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_readers(run: Run) -> list[Callable[[], object]]:
    """Everything that reads a run folder."""
    return [
        run.recipe,
        run.log_tail,
        lambda: Watcher(run).read_all(),
        lambda: Watcher(run).status,
        lambda: commands.Inbox(run, set()).poll(),
        lambda: notes.read(run),
        lambda: sweep.place_of(run),
        lambda: changes.last_used(run, 2),
        lambda: folder.is_locked(run),
        lambda: retention_data.read(run),
        lambda: checkpoints.find(run.checkpoints_path),
        lambda: adapters.read_config(run.adapter_path),
        lambda: main.main(["logs", run.id]),
        lambda: main.main(["report", run.id, "--json"]),
    ]


FILES = (
    "recipe.toml", "events.jsonl", "commands.jsonl", "worker.log", "lock", "notes.json", "sweep.json",
    "recipes/attempt-0001.toml", "retention/probe_base.json", "retention/everyday.json",
    "retention/strength.json", "adapter/adapter_config.json", "adapter/adapter_model.safetensors",
    "checkpoints/checkpoint-2/manifest.json", "checkpoints/checkpoint-2/trainer_state.json",
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_run_folder(put: Callable[[Path], None], runs_dir: Path, name: str) -> None:
    shutil.copytree(WRITTEN / "runs", runs_dir)
    run = folder.open_run("crashed" if name.startswith("checkpoints") else "finished", runs_dir)
    put(run.path / name)
    for read in run_readers(run):
        with at_once(f"{name}: {read}"):
            read()
    with at_once("the list"):
        summaries = RunIndex(runs_dir).read_all()
        assert len(summaries) >= 1  # the other run is there, whatever became of this one


def test_the_runs_folder(put: Callable[[Path], None], runs_dir: Path) -> None:
    shutil.copytree(WRITTEN / "runs", runs_dir)
    for path in (runs_dir / ".index.json", runs_dir / ".queue" / "queue.json", runs_dir / "another"):
        put(path)
    put(runs_dir / ".queue" / "waiting" / "20261130-130119-waiting-0a96" / "recipe.toml")
    with at_once("the list"):
        assert len(RunIndex(runs_dir).read_all()) >= 2
    with at_once("runs"):  # a damaged queue hides none
        assert main.main(["runs"]) == 0
    for read in (queue.read, queue.items, queue.is_running):
        with at_once(read):
            read(runs_dir)


def test_the_user_s_files(
    put: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"TUI_LAB_{kind}_DIR", str(tmp_path / kind))
    put(paths.user_dir("themes") / "mine.toml")
    put(paths.user_dir("presets") / "mine.toml")
    put(settings.path())
    put(paths.data_dir() / "prompts.jsonl")
    put(paths.cache_dir() / calibration.FILE_NAME)
    with at_once("themes"):
        found, problems = themes.load_themes()
        assert len(found) > 3 and len(problems) == 1
    with at_once("presets"):
        listed, problems = presets.list_presets()
        assert len(listed) > 3 and len(problems) == 1
    with at_once("one preset"):
        presets.load_preset("mine")
    with at_once("settings"):
        assert len(settings.load().problems) == 1
    with at_once("a setting"):
        settings_file.write("theme", "x", settings.path())
    with at_once("history"):
        assert History().prompts == []
    with at_once("calibration"):
        calibration._read()


MODEL_FILES = (
    "config.json", "tokenizer_config.json", "tokenizer.json", "model.safetensors", "README.md",
    "chat_template.jinja",
)  # fmt: skip


@pytest.mark.parametrize("name", MODEL_FILES)
def test_a_model_folder(put: Callable[[Path], None], tmp_path: Path, name: str) -> None:
    place = tmp_path / "models--someone--bad" / "snapshots" / ("0" * 40)
    shutil.copytree(POCKET, place)
    good = tmp_path / "models--someone--good" / "snapshots" / ("0" * 40)
    shutil.copytree(POCKET, good)
    put(place / name)
    put(tmp_path / "models--someone--bad" / "refs" / "main")
    for read in (checkpoint.inspect, checkpoint.tokenizer_problem):
        with at_once(f"{name}: {read}"):
            read(place)
    with at_once("a path"):
        catalog.find(str(place))
    with at_once("the cache"):
        assert any(entry.id == "someone/good" for entry in catalog.load(tmp_path))


def test_files_that_are_named(put: Callable[[Path], None], tmp_path: Path) -> None:
    for name in ("a.toml", "a.json", "a.jsonl", "a.txt", "a.csv"):
        path = tmp_path / name
        put(path)
        with at_once(f"recipe {name}"):
            presets.load_preset(str(path))
        if name != "a.toml" and path.is_file() and path.stat().st_size > 1 << 30:
            continue  # data of any size are streamed elsewhere
        with at_once(f"prompts {name}"):
            votes.read_prompts(str(path))
        with at_once(f"suite {name}"):
            custom.read(path)


def test_a_small_parquet_file_that_means_gigabytes(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    distinct, indices = pa.array(["x" * 10_000_000]), pa.array([0] * 40_000, pa.int32())
    table = pa.table({"text": pa.DictionaryArray.from_arrays(indices, distinct)})
    path = tmp_path / "bomb.parquet"
    pq.write_table(table, path, compression="zstd", dictionary_pagesize_limit=1 << 30, store_schema=False)
    assert path.stat().st_size < 2_000
    pool = pa.default_memory_pool()
    before = pool.max_memory()
    with at_once("Parquet"), pytest.raises(LabError, match="unpacks to more than"):
        list(files.iterate_file(path))
    assert pool.max_memory() < before + (100 << 20)


@pytest.mark.parametrize("name", ["merges.txt", "vocab.txt", "added_tokens.json", "chat_template.jinja"])
def test_files_beside_a_tokenizer(name: str, put: Callable[[Path], None], tmp_path: Path) -> None:
    """Some are read although tokenizer.json has all of it."""
    model = tmp_path / "model"
    shutil.copytree(POCKET, model)
    put(model / name)
    with at_once(name):
        templates.load_tokenizer(model)
    with at_once(name):
        catalog.find(str(model))
