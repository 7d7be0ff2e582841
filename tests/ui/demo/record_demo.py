"""``python -m tests.ui.demo.record_demo FOLDER`` makes the recording that ships with the lab from a demo that
was played live to its end with ``tui-lab demo --keep FOLDER``.

Not a test: it is run by hand when the story, the presets or the bundled model change. It refuses a recording
that names paths of the machine."""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

from tui_lab.ui.demo import recording

#: A path of some machine: from the root, at least two names long.
PATH = re.compile(r"""(?<![\w.:/])/(?:work|tmp|root|home|opt|usr|var|mnt|Users|private)/[^\s"'\\]*""")


def paths(archive: Path) -> list[str]:
    """Every path of a machine in an archive's texts."""
    with zipfile.ZipFile(archive) as packed:
        texts = [packed.read(name).decode("utf-8") for name in packed.namelist()]
    return sorted({found for text in texts for found in PATH.findall(text)})


def main(folder: Path) -> None:
    made = recording.SHIPPED.with_suffix(".new")
    recording.pack(folder, made)
    if found := paths(made):
        made.unlink()
        raise SystemExit(f"the recording names paths of this machine: {', '.join(found)}")
    made.replace(recording.SHIPPED)
    print(f"{recording.SHIPPED.name}: {recording.SHIPPED.stat().st_size:,} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
