"""``tui-lab learn``: a page about how language models work, computed on the model in hand."""

from __future__ import annotations

import argparse

from tui_lab.cli import jobs
from tui_lab.cli.output import Answer, as_json, print_text, table, width
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.evaluation.learn_records import (
    BY_NAME,
    JOB_MODULE,
    PAGES,
    LearnAnswer,
    LearnRequest,
    PageBlock,
    lines,
)


class LearnPage(Answer, tag="learn", kw_only=True, frozen=True):
    """What a page shows."""

    page: str
    model: str
    blocks: list[PageBlock]


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit code. Raises LabError."""
    if not args.page:
        if args.json:
            raise LabError("name a page: " + ", ".join(BY_NAME))
        table(("page", "about"), [(page.name, page.title) for page in PAGES])
        print_text("`tui-lab learn PAGE` computes one; in the lab `L` opens them.")
        return 0
    request = LearnRequest(
        page=args.page,
        model=args.model or "pocket",
        text=args.text,
        values=_values(args.settings),
        runs_dir=str(args.runs_dir or ""),
    )
    page, _ = request.page_and_values()  # refused before anything is loaded
    if page.needs_model:
        answer = jobs.run_job(JOB_MODULE, request, answer=LearnAnswer)
    else:
        from tui_lab.evaluation.learn import compute

        answer = compute(request)
    if args.json:
        as_json(LearnPage(page=answer.page, model=answer.model, blocks=answer.blocks))
        return 0
    most = min(width() or 100, 100)
    print_text(f"{page.title}, on {answer.model}\n\n{page.about}\n")
    print("\n".join(lines(answer.blocks, most)))
    return 0


def _values(settings: list[str]) -> dict[str, float]:
    found = {}
    for text in settings:
        name, _, value = text.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise LabError(f"--set takes NAME=NUMBER, not {sanitize(text)!r}") from None
    return found
