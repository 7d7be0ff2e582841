"""The job client against children that behave and children that do not."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from tests.ui.helpers import until
from tui_lab.core import job_client
from tui_lab.core.changed_inputs import ACCEPT_ENV, ChangedInputs, accepting
from tui_lab.core.errors import LabError
from tui_lab.core.job_client import run_job


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Writes a module ``job_child`` with the given body; returns its name."""
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    )

    def write(body: str) -> str:
        (tmp_path / "job_child.py").write_text(
            "import json, sys, time\nrequest = json.loads(sys.stdin.readline())\n" + body
        )
        return "job_child"

    return write


async def test_progress_then_the_result(child) -> None:  # type: ignore[no-untyped-def]
    module = child(
        "print(json.dumps({'kind': 'progress', 'text': 'half', 'done': 1, 'total': 2}), flush=True)\n"
        "print('library noise that is no JSON', flush=True)\n"
        "print('warning', file=sys.stderr)\n"
        "print(json.dumps({'kind': 'result', 'answer': {'echo': request['x']}}))\n"
    )
    seen: list[tuple[object, ...]] = []
    answer = await run_job(module, {"x": "ü\u2028[b]"}, lambda *what: seen.append(what))
    assert answer["echo"] == "ü\u2028[b]"
    assert seen == [("half", 1, 2)]


async def test_a_stage_without_a_count_says_how_long_it_has_taken(  # type: ignore[no-untyped-def]
    child, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_client, "SILENT_S", 0.0)
    monkeypatch.setattr(job_client, "TICK_S", 0.01)
    module = child(
        "line = lambda **what: print(json.dumps({'kind': 'progress', **what}), flush=True)\n"
        "line(text='reading'); time.sleep(0.1); line(text='rows', done=1, total=2); time.sleep(0.1)\n"
        "print(json.dumps({'kind': 'result', 'answer': {}}))\n"
    )
    seen: list[tuple[object, ...]] = []
    await run_job(module, {}, lambda *what: seen.append(what))
    assert seen[0] == ("starting, 0:00 so far", None, None)
    assert seen.index(("reading", None, None)) < seen.index(("reading, 0:00 so far", None, None))
    assert seen[-1] == ("rows", 1, 2) and seen.count(seen[-1]) == 1


class Echo(msgspec.Struct):
    x: int


async def test_the_answer_is_decoded_into_its_record(child) -> None:  # type: ignore[no-untyped-def]
    module = child("print(json.dumps({'kind': 'result', 'answer': request}))\n")
    assert await run_job(module, Echo(3), answer=Echo) == Echo(3)
    with pytest.raises(LabError, match="the answer of job_child: x must be a whole number, not text"):
        await run_job(module, {"x": "y"}, answer=Echo)


async def test_an_error_is_its_sentence(child) -> None:  # type: ignore[no-untyped-def]
    module = child("print(json.dumps({'kind': 'error', 'message': 'no such file: x'})); sys.exit(1)\n")
    with pytest.raises(LabError, match="no such file: x"):
        await run_job(module, {})


CHANGED = """
from tui_lab.core import changed_inputs, job_protocol
def handle(request, progress):
    if not changed_inputs.accepted():
        raise changed_inputs.ChangedInputs("run x", ["a changed", "b changed"])
    return {"went": "on"}
sys.exit(job_protocol.run(handle, __import__("io").StringIO("{}"), sys.stdout))
"""


async def test_changed_inputs_arrive_as_such_and_are_accepted_by_one_child(child) -> None:  # type: ignore[no-untyped-def]
    module = child(CHANGED)
    for _ in range(2):
        with pytest.raises(ChangedInputs, match="run x: a changed; b changed; --accept-changes") as found:
            await run_job(module, {})
        assert (found.value.what, found.value.changes) == ("run x", ("a changed", "b changed"))
        with accepting():
            assert await run_job(module, {}) == {"went": "on"}
    assert ACCEPT_ENV not in os.environ


async def test_a_child_that_dies_says_its_last_words(child) -> None:  # type: ignore[no-untyped-def]
    module = child("print('x' * 200_000, file=sys.stderr)\nraise MemoryError('all gone')\n")
    with pytest.raises(LabError, match=r"without an answer.*MemoryError: all gone"):
        await run_job(module, {})


async def test_a_long_answer_arrives_whole(child) -> None:  # type: ignore[no-untyped-def]
    module = child("print(json.dumps({'kind': 'result', 'answer': {'rows': ['y' * 1000] * 500}}))\n")
    assert len((await run_job(module, {}))["rows"]) == 500


async def test_a_cancelled_job_is_ended(child, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    module = child(
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(__import__('os').getpid()))\ntime.sleep(600)\n"
    )
    task = asyncio.create_task(run_job(module, {}))
    await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    pid = int((tmp_path / "pid").read_text())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        import os

        os.kill(pid, 0)


async def test_a_module_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabError, match="without an answer"):
        await run_job("tui_lab.no_such_job", {})
