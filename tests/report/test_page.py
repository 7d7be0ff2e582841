"""The page in a real browser: headless Chromium, where one is installed. It is opened in frames as wide
as a phone and a laptop, in both colour schemes; a script of the test, outside the page, measures it."""

from __future__ import annotations

import html as escaping
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.report.test_document import sample
from tui_lab.report.blocks import Document, Section
from tui_lab.report.render import html

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

#: Of a phone and a laptop.
WIDTHS = (390, 1280)
#: Measures the page in the frame: its width, what is wider than the frame, and the contrast of every text.
MEASURE = """
function light(colour) {
  const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function back(element) {
  for (; element; element = element.parentElement) {
    const colour = element.ownerDocument.defaultView.getComputedStyle(element).backgroundColor;
    if (!/, 0\\)$/.test(colour)) return colour;
  }
  return 'rgb(255, 255, 255)';
}
function measure(frame) {
  const inside = frame.contentDocument, view = frame.contentWindow;
  const texts = [], walker = inside.createTreeWalker(inside.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, style = view.getComputedStyle(element);
    if (!walker.currentNode.data.trim() || !element.getClientRects().length) continue;
    const ink = element.ownerSVGElement ? style.fill : style.color;
    const [low, high] = [light(ink), light(back(element))].sort((a, b) => a - b);
    const name = element.tagName + ' ' + walker.currentNode.data.trim().slice(0, 30);
    texts.push([(high + 0.05) / (low + 0.05), name]);
  }
  texts.sort((a, b) => a[0] - b[0]);
  return {
    width: inside.documentElement.scrollWidth, height: inside.documentElement.scrollHeight,
    wide: [...inside.body.querySelectorAll('*')]
      .filter(each => !each.closest('.scroll, .figures-grid svg'))
      .filter(each => each.getBoundingClientRect().right > view.innerWidth + 0.5)
      .map(each => each.tagName + '.' + (each.className.baseVal ?? each.className)),
    dark: view.matchMedia('(prefers-color-scheme: dark)').matches, texts: texts.length, least: texts[0],
    background: view.getComputedStyle(inside.body).backgroundColor,
  };
}
onload = () => {
  const result = document.createElement('pre');
  result.id = 'measured';
  result.textContent = JSON.stringify([...document.querySelectorAll('iframe')].map(measure));
  document.body.append(result);
};
"""


def measured(page: str, dark: bool, folder: Path) -> tuple[list[dict[str, Any]], str]:
    """What the script measures at each width, and what the browser writes to its log."""
    frames = "".join(
        f'<iframe style="border:0;width:{width}px;height:800px" srcdoc="{escaping.escape(page)}"></iframe>'
        for width in WIDTHS
    )
    outer = f'<!DOCTYPE html><meta charset="utf-8"><html style="color-scheme: light dark"><body>{frames}'
    (folder / "outer.html").write_text(f"{outer}<script>{MEASURE}</script>", encoding="utf-8")
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            *(
                CHROMIUM,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--enable-logging=stderr",
                "--v=0",
            ),
            *(f"--user-data-dir={folder}/profile", "--window-size=1400,900", "--virtual-time-budget=2000"),
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            *("--dump-dom", (folder / "outer.html").as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "HOME": str(folder)},
    )
    found = re.search(r'<pre id="measured">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stderr[-2000:]
    return list(json.loads(escaping.unescape(found[1]))), done.stderr


def long_document() -> Document:
    """Every kind of block, with texts that have no place to break."""
    parts = [sample(text) for text in ("a short text", "nobreak" * 40, "many words " * 60)]
    sections = tuple(
        Section(f"part{number}", "A section", each.sections[0].blocks) for number, each in enumerate(parts)
    )
    return Document("Run 20260101-000000-a-long-name-of-a-run", "model on data", sections, parts[0].headline)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_fits_and_can_be_read(dark: bool, tmp_path: Path) -> None:
    every, log = measured(html(long_document()), dark, tmp_path)
    for width, found in zip(WIDTHS, every, strict=True):
        assert found["dark"] is dark and found["texts"] > 50
        assert found["width"] == width, f"the page scrolls sideways: {found['wide']}"
        assert found["background"] == ("rgb(23, 24, 27)" if dark else "rgb(255, 255, 255)")
        contrast, text = found["least"]
        assert contrast >= 4.5, f"{text}: contrast {contrast:.2f}"  # WCAG 2.2, 1.4.3
    assert "CONSOLE" not in log, log


def test_the_page_prints(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(html(long_document()), encoding="utf-8")
    assert CHROMIUM is not None
    subprocess.run(
        [
            *(
                CHROMIUM,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                f"--user-data-dir={tmp_path}/profile",
            ),
            *("--no-pdf-header-footer", f"--print-to-pdf={tmp_path}/report.pdf"),
            (tmp_path / "report.html").as_uri(),
        ],
        capture_output=True,
        timeout=120,
        check=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert len(re.findall(rb"/Type\s*/Page\b", (tmp_path / "report.pdf").read_bytes())) >= 2
