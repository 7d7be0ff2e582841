"""``tui-lab export``: takes what a run learned elsewhere. The work is done by the job that the lab uses too;
here are the grammar and the sentences."""

from __future__ import annotations

import argparse
from typing import Any

_EXAMPLES = """examples:
  tui-lab export latest --as adapter               the adapter, for peft
  tui-lab export latest --as merged --dtype float32
  tui-lab export latest --as modelfile             then: ollama create NAME -f FOLDER/Modelfile
  tui-lab export latest --as gguf                  with llama.cpp's converter (LLAMA_CPP_DIR)
  tui-lab export latest --as merged --strength 0.6
what is exported is loaded again and compared with the run before it is put in its place"""
#: The keys of :data:`tui_lab.export.records.KINDS`; the parser imports next to nothing.
_KINDS = ("adapter", "merged", "modelfile", "gguf")


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command to the grammar."""
    made: argparse.ArgumentParser = subparsers.add_parser(
        "export",
        help="take what a run learned elsewhere: adapter, merged model, Modelfile, GGUF",
        description="Take what a run learned elsewhere: adapter, merged model, Modelfile or GGUF.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(run="cli.export:run")
    made.add_argument("name", metavar="RUN", help="a run's id, a part of it, its folder, or `latest`")
    made.add_argument(
        "--as", dest="kind", choices=(*_KINDS, "script"), metavar="{" + ",".join(_KINDS) + "}", required=True,
        help="the kind of export",
    )  # fmt: skip
    made.add_argument(
        "--dtype", choices=("bfloat16", "float32"), default="bfloat16",
        help="precision of whole weights (default bfloat16)",
    )  # fmt: skip
    made.add_argument(
        "--out", default="", metavar="FOLDER", help="where to (default: exports/KIND in the run's folder)"
    )
    made.add_argument(
        "--strength", type=float, default=1.0, metavar="S", help="how much of what was trained (default 1)"
    )
    made.add_argument(
        "--with-base", action="store_true", help="copy a base model that no hub has along with it"
    )
    made.add_argument("--force", action="store_true", help="replace an export that is there already")
    made.add_argument("--json", action="store_true", help="machine-readable output")
    made.add_argument("--runs-dir", metavar="FOLDER", default=argparse.SUPPRESS, help="where runs are kept")
    return made


def run(args: argparse.Namespace) -> int:
    """Carries the command out; the exit code. Raises LabError."""
    from tui_lab.cli.jobs import run_job
    from tui_lab.cli.output import as_json
    from tui_lab.export import records

    answer = run_job(
        records.JOB_MODULE,
        records.ExportRequest(
            run=args.name,
            kind=args.kind,
            dtype=args.dtype,
            out=args.out,
            strength=args.strength,
            force=args.force,
            with_base=args.with_base,
            runs_dir=str(getattr(args, "runs_dir", None) or ""),
        ),
        answer=records.ExportResult,
    )
    if args.json:
        as_json(answer)
    else:
        print("\n".join(records.sentences(answer)))
    return 0
