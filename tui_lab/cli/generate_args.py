"""The grammar of `tui-lab generate`, apart from what it does: every command's start reads it, so it loads
nothing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_EXAMPLES = """a lane is a strategy with parameters, its seed, and what it runs on:
  --lane greedy                            the most probable token, always
  --lane "beam num_beams=4 length_penalty=1 early_stopping=never"
  --lane "sample seed=1"                   the model's own probabilities
  --lane "top-k k=50 seed=1"   --lane "top-p p=0.9 seed=1"   --lane "min-p min_p=0.1"
  --lane "temperature t=0.7 top_k=40 repetition_penalty=1.2"
  --lane "contrastive alpha=0.6 k=4"
  --lane "greedy on=base"                  without the adapter, beside lanes with it
without --lane: greedy. Sets of lanes: --lanes "six classics" """


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command to the grammar."""
    made: argparse.ArgumentParser = subparsers.add_parser(
        "generate",
        help="continue one prompt with several decoding strategies at once",
        description="Continue one prompt with several decoding strategies at once.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(run="cli.generate:run")
    made.add_argument(
        "--model", default="", metavar="NAME",
        help="pocket (default), a catalog name, a run, a folder or a hub id",
    )  # fmt: skip
    made.add_argument(
        "--adapter", action="append", default=[], metavar="RUN",
        help="a run, an adapter folder or a hub id; lanes run with it unless they say on=base "
        "(again for more: on=tuned2 …)",
    )  # fmt: skip
    made.add_argument("--prompt", metavar="TEXT", help="the question; `-` or nothing reads standard input")
    made.add_argument("--system", default="", metavar="TEXT", help="a system prompt")
    made.add_argument(
        "--lane", action="append", default=[], metavar="LANE", help="a strategy (again for more)"
    )
    made.add_argument("--lanes", default="", metavar="SET", help="a set of lanes")
    made.add_argument("--raw", action="store_true", help="continue the text itself: no chat template")
    made.add_argument(
        "--max-new-tokens", type=int, default=128, metavar="N", help="tokens a lane (default 128)"
    )
    made.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end a lane before this text"
    )
    made.add_argument(
        "--dtype",
        default="auto",
        choices=["auto", "float32", "bfloat16", "float16"],
        help="weights' precision",
    )
    made.add_argument("--four-bit", action="store_true", help="load the weights in 4 bits (NF4)")
    made.add_argument("--allow-large", action="store_true", help="let models over 3 B parameters through")
    made.add_argument("--json", action="store_true", help="one JSON object when all lanes have ended")
    made.add_argument(
        "--runs-dir", type=Path, metavar="FOLDER", default=argparse.SUPPRESS, help="where runs are kept"
    )
    return made
