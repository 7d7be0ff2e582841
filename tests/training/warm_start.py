"""Runs of the tests as processes of their own that need not import torch again: ``launch.start`` is the real
one, but the process that it opens is forked from a server that has loaded the libraries and computed nothing
(multiprocessing's fork server). It has its own session, folder, environment, log and lock as a run has.
Tests that ask for ``cold_start``, and runs of several processes, start a fresh interpreter."""

from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
import sys
from multiprocessing import reduction
from typing import Any, BinaryIO

from tui_lab.runs.launch import LOCK_ENV

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.training.warm_imports"])


class _Descriptor:
    """A file descriptor that travels to a process of the server while that is started."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return _received, (reduction.DupFd(self.number),)


def _received(handle: Any) -> int:
    return int(handle.detach())


def _run(path: str, folder: str, environment: dict[str, str], log: int, lock: int) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    os.environ[LOCK_ENV] = str(lock)
    os.dup2(log, 1)
    os.dup2(log, 2)
    random.seed()
    from tui_lab.training.__main__ import main

    sys.exit(main([path]))


class WarmProcess:
    """As much of ``subprocess.Popen`` as those who start a run use."""

    def __init__(self, path: str, folder: str, environment: dict[str, str], log: int, lock: int) -> None:
        arguments = (path, folder, environment, _Descriptor(log), _Descriptor(lock))
        # a daemon: what a failed test leaves behind is stopped when the tests end
        self._process = SERVER.Process(target=_run, args=arguments, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("a run of the tests", timeout or 0.0)
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def terminate(self) -> None:
        self._process.terminate()


class Opener:
    """Stands in for the module ``subprocess`` in ``tui_lab.runs.launch``."""

    DEVNULL, STDOUT = subprocess.DEVNULL, subprocess.STDOUT

    @staticmethod
    def Popen(arguments: list[str], **kwargs: Any) -> Any:
        if arguments[:-1] != [sys.executable, "-P", "-m", "tui_lab.training"]:
            return subprocess.Popen(arguments, **kwargs)
        log: BinaryIO = kwargs["stdout"]
        [lock] = kwargs["pass_fds"]
        return WarmProcess(arguments[-1], os.fspath(kwargs["cwd"]), kwargs["env"], log.fileno(), lock)
