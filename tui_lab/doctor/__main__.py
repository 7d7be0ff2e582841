"""``python -m tui_lab.doctor``: what concerns the machine, each check as one line of JSON as soon as it is
made. The lab asks so, that nothing slow happens in the lab itself."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from tui_lab.doctor import machine_checks

for check in machine_checks():
    sys.stdout.write(json.dumps(asdict(check), ensure_ascii=True) + "\n")
    sys.stdout.flush()
