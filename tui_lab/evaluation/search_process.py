"""The process of a search that the lab started: ``python -m tui_lab.evaluation.search_process FOLDER``. It
outlives the lab and the terminal, and goes on from the files after any kill."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from tui_lab.core.errors import LabError
from tui_lab.core.privacy import keep_private, mask_output
from tui_lab.evaluation import search_store
from tui_lab.evaluation.search import Search
from tui_lab.evaluation.search_runs import SearchRuns


def _log(text: str, done: int | None = None, total: int | None = None) -> None:
    if done is total is None:
        print(text, flush=True)  # noqa: T201 (search.log)


def main(arguments: list[str]) -> int:
    """Searches; 0 unless it cannot go on, and then its log says why."""
    keep_private()
    mask_output()
    place = Path(arguments[0])
    for number in (signal.SIGHUP, signal.SIGINT):
        # a closed terminal or Ctrl+C does not end the search; a handler, because runs would inherit SIG_IGN
        signal.signal(number, lambda *_: None)
    try:
        settings = search_store.read_settings(place)
        runs = SearchRuns(settings, place.parent.parent, _log)
        Search(settings, place, runs, _log).run()
    except LabError as error:
        search_store.write_problem(place, str(error))
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
