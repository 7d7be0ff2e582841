"""``python -m tui_lab.doctor``: prints each check of the machine as one line of JSON as soon as it is done.
The lab runs it as a child process, because the checks are slow."""

from __future__ import annotations

import sys

from tui_lab.core.records import to_json
from tui_lab.doctor import machine_checks

for check in machine_checks():
    sys.stdout.write(to_json(check) + "\n")
    sys.stdout.flush()
