"""Screens of the lab as PNG files. Chromium draws the cells (``cells.js``), because the fonts of an SVG break
braille and boxes; the palette and the file are made here, so that nothing else is needed."""

from __future__ import annotations

import base64
import html
import json
import shutil
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.color import Color
from rich.style import Style
from textual.app import App

#: Pixels of a cell, and colours of a picture: more make files larger and nothing clearer.
CELL = (8, 17)
MOST_COLOURS = 96
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def _hex(colour: Color | None, default: str) -> str:
    return default if colour is None or colour.is_default else colour.get_truecolor().hex


def cells(app: App[Any]) -> dict[str, Any]:
    """The screen as rows of (text, colour, ground, style) for ``cells.js``."""
    ground, front = app.theme_variables["background"], app.theme_variables["foreground"]
    rows, wide = [], set[str]()
    for strip in app.screen._compositor.render_strips(app.size):
        row = []
        for text, style, control in strip:
            if control:
                continue
            look = style or Style()
            colour, under = _hex(look.color, front), _hex(look.bgcolor, ground)
            if look.reverse:
                colour, under = under, colour
            marks = "".join(
                mark for mark, on in (("b", look.bold), ("i", look.italic), ("u", look.underline)) if on
            )
            wide |= {char for char in text if cell_len(char) == 2}
            row.append((text, colour, under, marks))
        rows.append(row)
    colours = sorted({colour for row in rows for _, *both, _ in row for colour in both})
    return {
        "columns": app.size.width, "rows": rows, "ground": ground, "wide": "".join(wide), "colours": colours,
    }  # fmt: skip


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(found: dict[str, Any]) -> bytes:
    """A PNG of palette pixels."""
    width, height, pixels = found["width"], found["height"], base64.b64decode(found["pixels"])
    lines = b"".join(b"\0" + pixels[row * width : (row + 1) * width] for row in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    palette = bytes(value for colour in found["palette"] for value in colour)
    chunks = ((b"IHDR", head), (b"PLTE", palette), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*each) for each in chunks)


def browser() -> str:
    """Chromium's command."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise SystemExit(f"pictures need one of {', '.join(BROWSERS)}, such as `apt-get install chromium`")
    return found


def draw(screens: Sequence[dict[str, Any]]) -> list[bytes]:
    """A PNG for each of the screens."""
    values = {"PICTURES": list(screens), "CELL": CELL, "MOST_COLOURS": MOST_COLOURS}
    constants = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
    code = constants + Path(__file__).with_name("cells.js").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        script = code.replace("</", "<\\/")
        page.write_text(f'<meta charset="utf-8"><body><script>{script}</script>', encoding="utf-8")
        done = subprocess.run(
            [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
             f"--user-data-dir={folder}", page.as_uri()],
            capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
    body = done.stdout.partition("<body>")[2].partition("</body>")[0]
    return [png(each) for each in json.loads(html.unescape(body))]
