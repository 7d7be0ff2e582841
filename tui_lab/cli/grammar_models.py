"""The grammar of the commands that load a model or calculate with one: generate, retention, strength, export
and forecast. Imports no library; see :mod:`tui_lab.cli.grammar`."""

from __future__ import annotations

from tui_lab.cli.options import (
    CommandGroup,
    add_allow_large_option,
    add_model_options,
    add_run_argument,
    add_set_option,
)

#: The keys of :data:`tui_lab.export.records.KINDS`, which is not imported here.
EXPORT_KINDS = ("adapter", "merged", "modelfile", "gguf")


def add_model_commands(commands: CommandGroup) -> None:
    _add_forecast(commands)
    _add_generate(commands)
    _add_retention(commands)
    _add_strength(commands)
    _add_export(commands)


def _add_forecast(commands: CommandGroup) -> None:
    forecast = commands.add(
        "forecast",
        "estimate what a recipe takes of memory, time, money and energy, and whether it fits",
        examples="""\
  tui-lab forecast --model Qwen/Qwen2.5-1.5B                      every preset, on this machine
  tui-lab forecast --model qwen2.5-1.5b --preset production --gpu "RTX 4090"
  tui-lab forecast --preset starter --model pocket --probe        counts it, in seconds
  tui-lab forecast --preset minute --data pirate --calibrate      measures the speed first
  tui-lab forecast --preset premium --model gemma-2-2b --set max_length=4096 --json
TUI_LAB_PRICE_PER_HOUR sets the price per hour, TUI_LAB_GRID_G_CO2_PER_KWH the grams of CO2 per kWh.""",
    )
    forecast.add_argument("--model", metavar="NAME", help="pocket, a catalog name, a folder or a hub id")
    forecast.add_argument(
        "--preset", default="", metavar="NAME", help="a preset's name or file (default: a table of all)"
    )
    add_set_option(forecast, "a recipe value that overrides the preset (repeatable)")
    forecast.add_argument(
        "--gpu", default="", metavar="CARD", help='a card, such as "RTX 4090", or the number of a GPU here'
    )
    forecast.add_argument("--data", metavar="NAME", help="count the tokens of this data set for the time")
    forecast.add_argument(
        "--probe", action="store_true", help="count two real steps without weights: seconds"
    )
    forecast.add_argument("--calibrate", action="store_true", help="first measure ten steps for the time")
    add_allow_large_option(forecast)


def _add_generate(commands: CommandGroup) -> None:
    generate = commands.add(
        "generate",
        "continue one prompt with several decoding strategies at once",
        runs=True,
        examples="""  --lane greedy                            always the most probable token
  --lane "beam num_beams=4 length_penalty=1 early_stopping=never"
  --lane "sample seed=1"                   the model's own probabilities
  --lane "top-k k=50 seed=1"   --lane "top-p p=0.9 seed=1"   --lane "min-p min_p=0.1"
  --lane "temperature t=0.7 top_k=40 repetition_penalty=1.2"
  --lane "contrastive alpha=0.6 k=4"
  --lane "greedy on=base"                  without the adapter, next to lanes with it
A lane is a strategy with its parameters, its seed and the model it runs on. Without --lane: greedy.
Sets of lanes: --lanes "six classics" """,
    )
    add_model_options(generate)
    generate.add_argument(
        "--adapter", action="append", default=[], metavar="RUN",
        help="a run, an adapter folder or a hub id; lanes use it unless they set on=base "
        "(repeatable: on=tuned2 …)",
    )  # fmt: skip
    generate.add_argument(
        "--prompt", metavar="TEXT", help="the question; without it or with `-`: standard input"
    )
    generate.add_argument("--system", default="", metavar="TEXT", help="a system prompt")
    generate.add_argument(
        "--lane", action="append", default=[], metavar="LANE", help="a strategy (repeatable)"
    )
    generate.add_argument("--lanes", default="", metavar="SET", help="a set of lanes")
    generate.add_argument("--raw", action="store_true", help="continue the text itself: no chat template")
    generate.add_argument(
        "--max-new-tokens", type=int, default=128, metavar="N", help="tokens per lane (default 128)"
    )
    generate.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end a lane before this text"
    )
    generate.add_argument("--four-bit", action="store_true", help="load the weights in 4 bits (NF4)")


def _add_retention(commands: CommandGroup) -> None:
    retention = commands.add(
        "retention",
        "measure what a model knows and what fine-tuning changed",
        runs=True,
        examples="""  --suite everyday                         bundled: everyday facts with four choices
  --suite hellaswag:FOLDER                 a standard suite from local files
  --suite mmlu@5                           a standard suite from the hub, with five examples
  --suite mine.jsonl                       your own: rows of question, choices, answer
  --suite perplexity:text.txt              perplexity of plain text
An interrupted evaluation continues when the command is repeated; scores of a base model are cached.
A run stores its results in its own folder.""",
    )
    add_model_options(retention)
    retention.add_argument(
        "--adapter", default="", metavar="RUN", help="a run, an adapter folder or a hub id to compare with it"
    )
    retention.add_argument(
        "--suite", action="append", default=[], metavar="NAME", help="a suite (repeatable)"
    )
    retention.add_argument("--list", action="store_true", help="list the suites and exit")
    retention.add_argument(
        "--limit", type=int, default=0, metavar="N", help="at most N items per suite, always the same"
    )
    retention.add_argument(
        "--threshold", type=float, default=0.0, metavar="X",
        help="the required retention (default: the run's own, else 0.9)",
    )  # fmt: skip
    retention.add_argument(
        "--quantization", default="auto", choices=["auto", "none", "nf4"],
        help="how the weights are stored (default: as in the run)",
    )  # fmt: skip
    retention.add_argument("--revision", default="", metavar="NAME", help="a commit or branch of a hub model")
    retention.add_argument(
        "--no-acquisition", action="store_true", help="skip the held-out rows of the run's own task"
    )


def _add_strength(commands: CommandGroup) -> None:
    strength = commands.add(
        "strength",
        "compare gain and retention of a run at several strengths of its adapter",
        runs=True,
        examples="""  tui-lab strength latest                          0, 0.2 … 1.2 on the everyday suite
  tui-lab strength latest --strengths 0.5,0.7 --keep 0.97
  tui-lab strength latest --save 0.6               writes adapter-strength-0.60 in the run's folder
  tui-lab strength latest --save recommended       sweeps, and saves the recommended strength
Strengths that were measured before are not measured again.""",
    )
    add_run_argument(strength)
    strength.add_argument("--suite", default="everyday", metavar="SUITE", help="a suite's name or file")
    strength.add_argument(
        "--strengths", default="", metavar="LIST", help="such as 0,0.5,1 (default 0 to 1.2 by 0.2)"
    )
    strength.add_argument(
        "--keep", type=float, default=0.95, metavar="SHARE", help="the required retention (default 0.95)"
    )
    strength.add_argument("--limit", type=int, default=0, metavar="N", help="at most N items (0: all)")
    strength.add_argument(
        "--save", default="", metavar="S", help="save at this strength, or at `recommended`"
    )


def _add_export(commands: CommandGroup) -> None:
    export = commands.add(
        "export",
        "export what a run learned: adapter, merged model, Modelfile or GGUF",
        runs=True,
        examples="""  tui-lab export latest --as adapter               the adapter, for peft
  tui-lab export latest --as merged --dtype float32
  tui-lab export latest --as modelfile             then: ollama create NAME -f FOLDER/Modelfile
  tui-lab export latest --as gguf                  with llama.cpp's converter (LLAMA_CPP_DIR)
  tui-lab export latest --as merged --strength 0.6
Every export is loaded again and compared with the run before it is moved to its place.""",
    )
    add_run_argument(export)
    export.add_argument(
        "--as", dest="kind", choices=(*EXPORT_KINDS, "script"), metavar="{" + ",".join(EXPORT_KINDS) + "}",
        required=True, help="the kind of export",
    )  # fmt: skip
    export.add_argument(
        "--dtype", choices=("bfloat16", "float32"), default="bfloat16",
        help="precision of full weights (default bfloat16)",
    )  # fmt: skip
    export.add_argument(
        "--out", default="", metavar="FOLDER", help="the target (default: exports/KIND in the run's folder)"
    )
    export.add_argument(
        "--strength", type=float, default=1.0, metavar="S", help="the factor on what was trained (default 1)"
    )
    export.add_argument(
        "--with-base", action="store_true", help="also copy a base model that is not on the hub"
    )
    export.add_argument("--force", action="store_true", help="replace an existing export")
