"""The command line in the process of the tests."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from tui_lab.cli.main import main


def lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in this process, with both streams captured."""
    out, err = io.StringIO(), io.StringIO()
    with Path(os.devnull).open() as nothing, redirect_stdout(out), redirect_stderr(err):
        before, sys.stdin = sys.stdin, nothing
        environment = dict(os.environ)
        try:
            code = main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            sys.stdin = before
            os.environ.clear()
            os.environ.update(environment)  # a command exports its settings
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())
