"""The grammar of the commands on models and data: forecasts, generation, data sets, measurements, exports."""

from __future__ import annotations

from tui_lab.cli.options import (
    CommandGroup,
    add_accept_option,
    add_allow_large_option,
    add_cpu_option,
    add_data_option,
    add_model_options,
    add_recipe_options,
    add_set_option,
)
from tui_lab.hardware.precision import QUANTIZATIONS

#: The keys of :data:`tui_lab.export.records.KINDS`, which is not imported here.
EXPORT_KINDS = ("adapter", "merged", "modelfile", "gguf")
GGUF_TYPES = ("f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m")


def add_model_commands(commands: CommandGroup) -> None:
    forecast = commands.add(
        "forecast",
        "forecast.run",
        "estimate what a recipe takes of memory, time, money and energy, and whether it fits",
        examples="""\
  tui-lab forecast --model Qwen/Qwen2.5-1.5B                      every preset, on this machine
  tui-lab forecast --model qwen2.5-1.5b --preset production --gpu "RTX 4090"
  tui-lab forecast --preset starter --model pocket --probe        counts it, in seconds
  tui-lab forecast --preset minute --data pirate --calibrate      measures the speed first
  tui-lab forecast --preset premium --model gemma-2-2b --set max_length=4096 --json
  tui-lab forecast --preset starter --model gemma-2-2b --prices   the cost on the cards of prices.toml
TUI_LAB_PRICE_PER_HOUR sets the price per hour, TUI_LAB_GRID_G_CO2_PER_KWH the grams of CO2 per kWh.""",
    )
    forecast.option("--model", "NAME", "pocket, a catalog name, a folder or a hub id", None)
    forecast.option("--preset", "NAME", "a preset's name or file (default: a table of all)")
    add_set_option(forecast, "a recipe value that overrides the preset (repeatable)")
    forecast.option("--gpu", "CARD", 'a card, such as "RTX 4090", or the number of a GPU here')
    add_data_option(forecast, "count the tokens of this data set for the time (repeatable as NAME:WEIGHT)")
    forecast.flag("--probe", "count two real steps without weights: seconds")
    forecast.flag("--calibrate", "first measure ten steps for the time")
    forecast.flag("--prices", "the time and cost on each card of your table of prices, prices.toml")
    add_allow_large_option(forecast)
    add_cpu_option(forecast)

    generate = commands.add(
        "generate",
        "generate.run",
        "continue one prompt with several decoding strategies at once",
        runs_dir=True,
        examples="""\
  --lane greedy                            always the most probable token
  --lane "beam num_beams=4 length_penalty=1 early_stopping=never"
  --lane "sample seed=1"                   the model's own probabilities
  --lane "top-k k=50 seed=1"   --lane "top-p p=0.9 seed=1"   --lane "min-p min_p=0.1"
  --lane "temperature t=0.7 top_k=40 repetition_penalty=1.2"
  --lane "contrastive alpha=0.6 k=4"
  --lane "greedy on=base"                  without the adapter, next to lanes with it
A lane is a strategy with its parameters, its seed and the model it runs on. Without --lane: greedy.
Sets of lanes: --lanes "six classics"
  --chat -                                 each line is the next question; every lane keeps its own answers
On a terminal control characters of the text are shown as glyphs; a pipe gets the text as the model
wrote it.""",
    )
    add_model_options(generate)
    generate.many(
        "--adapter",
        "RUN",
        "a run, adapter folder or hub id; lanes use it unless they set on=base (repeatable: on=RUN …)",
    )
    add_accept_option(generate)
    generate.option("--prompt", "TEXT", "the question; without it or with `-`: standard input", None)
    generate.option("--system", "TEXT", "a system prompt")
    generate.many("--lane", "LANE", "a strategy (repeatable)")
    generate.option("--lanes", "SET", "a set of lanes")
    generate.option(
        "--chat",
        "FILE",
        "several turns: a JSON list of questions, or of messages with roles; `-`: lines of standard input",
        None,
    )
    generate.flag("--raw", "continue the text itself: no chat template")
    generate.choice(
        "--thinking",
        ("auto", "on", "off"),
        "auto",
        "ask a thinking model to think; auto: as the run was trained",
    )
    generate.option("--max-new-tokens", "N", "tokens per lane (default 128)", 128, int)
    generate.many("--stop", "TEXT", "end a lane before this text")
    generate.flag("--four-bit", "the same as --quantization nf4")
    generate.choice(
        "--quantization", tuple(QUANTIZATIONS), "none", "how the weights are stored (default none)"
    )

    retention = commands.add(
        "retention",
        "retention.run",
        "measure what a model knows and what fine-tuning changed",
        runs_dir=True,
        examples="""\
  --suite everyday                         bundled: everyday facts with four choices
  --suite hellaswag:FOLDER                 a standard suite from local files
  --suite mmlu@5                           a standard suite from the hub, with five examples
  --suite mine.jsonl                       your own: rows of question, choices, answer
  --suite perplexity:text.txt              perplexity of plain text
  --suite refusals --judge MODEL           answers of safety suites scored by a judge or a --classifier
An interrupted evaluation continues when the command is repeated; scores of a base model are cached.
A run stores its results in its own folder.""",
    )
    add_model_options(retention)
    add_accept_option(retention)
    retention.option("--adapter", "RUN", "a run, an adapter folder or a hub id to compare with it")
    retention.many("--suite", "NAME", "a suite (repeatable)")
    retention.flag("--list", "list the suites and exit")
    retention.option("--limit", "N", "at most N items per suite, always the same", 0, int)
    retention.option(
        "--threshold", "X", "the required retention (default: the run's own, else 0.9)", 0.0, float
    )
    retention.choice(
        "--quantization",
        ("auto", *QUANTIZATIONS),
        "auto",
        "how the weights are stored (default: as in the run)",
    )
    retention.option("--revision", "NAME", "a commit or branch of a hub model")
    retention.flag("--no-acquisition", "skip the held-out rows of the run's own task")
    retention.option("--judge", "MODEL", "a model, or `endpoint`, that scores answers of safety suites")
    retention.option("--classifier", "FOLDER", "a sequence classifier that scores them")
    retention.option("--classifier-label", "NAME", "its label for refusal or harm (default: by its name)")

    predict = commands.add(
        "predict",
        "predict.run",
        "answer every row of a data set with base and tuned model, and score the answers",
        runs_dir=True,
        examples="""\
  tui-lab predict rows.jsonl --run latest                  base and tuned, greedy
  tui-lab predict rows.jsonl --model pocket                a model alone
  tui-lab predict support --split validation --run latest  the held-out rows of a bundled set
  tui-lab predict rows.csv --run latest --lane "top-p p=0.9 seed=1" --out sampled.jsonl
The answers go to a file of JSON lines, one a row. An interrupted prediction continues when the command is
repeated.""",
    )
    predict.add_argument("data", metavar="FILE", help="a file, a folder, a bundled set or a hub id")
    add_model_options(predict)
    add_accept_option(predict)
    predict.option("--run", "RUN", "the run whose result answers beside its base")
    predict.option("--adapter", "RUN", "a run, an adapter folder or a hub id in place of --run")
    predict.option("--lane", "LANE", "a decoding strategy (default greedy)", "greedy")
    predict.option("--out", "FILE.jsonl", "where the answers go (default predictions-NAME.jsonl)")
    predict.flag("--force", "replace a file with other settings")
    predict.count("--limit", "answer the first N rows (default all)")
    predict.choice("--split", ("all", "train", "validation"), "all", "which rows (default all)")
    predict.option("--format", "NAME", "the rows' format (default auto)", "auto")
    predict.option("--columns", "NAME=COLUMN,…", "which column is which, as question=prompt,answer=reply", "")
    predict.count("--max-new-tokens", "tokens of an answer at most (default: as in the run, else 128)")
    predict.count("--batch", "rows that are decoded together at most (default 32)", 32)
    predict.count("--samples", "answers a row, of a lane that samples; scores are means (default 1)", 1)
    predict.choice(
        "--quantization",
        ("auto", *QUANTIZATIONS),
        "auto",
        "how the weights are stored (default: as in the run)",
    )
    predict.option("--revision", "NAME", "a commit or branch of a hub model")

    advise = commands.add(
        "advise",
        "advise.run",
        "measure whether to tune at all: zero-shot, examples, retrieval and the tuned model",
        runs_dir=True,
        examples="""\
  tui-lab advise --model Qwen/Qwen2.5-0.5B-Instruct --data rows.jsonl
  tui-lab advise --model pocket --data support --shots 5 --goal 0.8
  tui-lab advise --run latest                  the tuned model beside its base, on the run's held-out rows
The same held-out rows are answered with each method; examples and retrieval take rows of the training part.
An interrupted measurement continues when the command is repeated; answers of a base are cached.
TUI_LAB_PRICE_PER_HOUR gives the cost of an answer.""",
    )
    add_model_options(advise)
    add_accept_option(advise)
    add_data_option(advise, "a file, a folder, a bundled set or a hub id (default: that of the run)")
    advise.option("--run", "RUN", "the run whose result answers beside its base")
    advise.option("--adapter", "RUN", "a run, an adapter folder or a hub id in place of --run")
    advise.count("--shots", "fixed examples in a prompt (default 3)", 3)
    advise.count("--retrieved", "retrieved examples in a prompt (default: as many as --shots)", 0)
    advise.count("--limit", "held-out rows at most (default 100)", 100)
    advise.option("--goal", "SCORE", "the score that is enough (default 0.9)", 0.9, float)
    advise.option("--format", "NAME", "the rows' format (default auto)", "auto")
    advise.option("--columns", "NAME=COLUMN,…", "which column is which, as question=prompt,answer=reply", "")
    advise.count("--max-new-tokens", "tokens of an answer at most (default: as a run answers its rows)")
    advise.choice(
        "--quantization",
        ("auto", *QUANTIZATIONS),
        "auto",
        "how the weights are stored (default: as in the run)",
    )
    advise.option("--revision", "NAME", "a commit or branch of a hub model")

    judge = commands.add(
        "judge",
        "judge.run",
        "let a judge compare the answers of a run with those of its base, in both orders",
        examples="""\
  tui-lab judge latest --judge Qwen/Qwen2.5-7B-Instruct
  tui-lab judge latest --judge endpoint              an OpenAI-compatible endpoint: TUI_LAB_JUDGE_URL,
                                                     TUI_LAB_JUDGE_MODEL and TUI_LAB_JUDGE_KEY
  tui-lab judge latest --judge MODEL --prompts mine.jsonl --rubric "Prefer the politer answer."
Blind votes of your own on base and run (`v` on Playground) calibrate the judge: the win rate is then that of
your votes, with a 95% interval that holds for a biased judge too. Ten are enough. An interrupted judgement
continues when the command is repeated.""",
        run=True,
    )
    add_cpu_option(judge)
    add_allow_large_option(judge)
    add_accept_option(judge)
    judge.option(
        "--judge", "MODEL", "a model on this machine or the hub, or `endpoint` (default: the setting judge)"
    )
    judge.option("--prompts", "FILE", "your own prompts: lines of text, or JSON rows with prompt or turns")
    judge.option("--rubric", "TEXT", "what makes an answer better (default: by the kind of prompt)")
    judge.option("--votes", "FILE", "a file of blind votes (default: that of the run)")
    judge.count("--limit", "prompts at most (default all 48 bundled ones)", 0)
    judge.count("--max-new-tokens", "tokens of an answer at most (default 128)", 128)

    redteam = commands.add(
        "redteam",
        "redteam.run",
        "let a judge rewrite requests that a run refuses, and compare it with its base",
        examples="""\
  tui-lab redteam latest --judge Qwen/Qwen2.5-7B-Instruct
  tui-lab redteam latest --judge endpoint --rounds 2 --goals 10 --file mine.txt
Only a run on this machine is attacked, with 5 messages a goal and 50 goals at most. The goals are the harmful
requests of the suite `refusals`, or the lines of a file. An interrupted job continues when the command is
repeated; Retention shows the result as a suite.""",
        run=True,
    )
    add_cpu_option(redteam)
    add_allow_large_option(redteam)
    add_accept_option(redteam)
    redteam.option(
        "--judge", "MODEL", "a model on this machine or the hub, or `endpoint` (default: the setting judge)"
    )
    redteam.count("--rounds", "messages a goal, at most 5 (default 3)", 3)
    redteam.count("--goals", "goals, at most 50 (default 20)", 20)
    redteam.option("--file", "FILE", "a text file with your own goals, one a line")
    redteam.count("--max-new-tokens", "tokens of a reply at most (default 96)", 96)

    strength = commands.add(
        "strength",
        "strength.run",
        "compare acquisition and retention of a run at several strengths of its adapter",
        run=True,
        examples="""\
  tui-lab strength latest                          0, 0.2 … 1.2 on the everyday suite
  tui-lab strength latest --strengths 0.5,0.7 --keep 0.97
  tui-lab strength latest --save 0.6               writes adapter-strength-0.60 in the run's folder
  tui-lab strength latest --save recommended       sweeps, and saves the recommended strength
Strengths that were measured before are not measured again.""",
    )
    add_cpu_option(strength)
    add_accept_option(strength)
    strength.option("--suite", "SUITE", "a suite's name or file", "everyday")
    strength.option("--strengths", "LIST", "such as 0,0.5,1 (default 0 to 1.2 by 0.2)")
    strength.option("--keep", "SHARE", "the required retention (default 0.95)", 0.95, float)
    strength.option("--limit", "N", "at most N items (0: all)", 0, int)
    strength.option("--save", "S", "save at this strength, or at `recommended`")

    stages = commands.add(
        "stages",
        "stages.run",
        "compare what runs that go on from one another score on each other's tasks",
        run=True,
        examples="""\
  tui-lab stages latest                    what the runs recorded, backward transfer and forgetting
  tui-lab stages latest --measure          also answers the held-out rows of each run with the others
What was measured before is not measured again.""",
    )
    add_cpu_option(stages)
    add_accept_option(stages)
    stages.flag("--measure", "measure the scores that no run has recorded")


def add_export(commands: CommandGroup) -> None:
    export = commands.add(
        "export",
        "export.run",
        "export what a run learned: adapter, merged model, Modelfile or GGUF",
        run=True,
        examples="""\
  tui-lab export latest --as adapter               the adapter, for peft
  tui-lab export latest --as merged --dtype float32
  tui-lab export latest --as modelfile             then: ollama create NAME -f FOLDER/Modelfile
  tui-lab export latest --as gguf                  with llama.cpp: pip install 'tui-lab[gguf]'
  tui-lab export latest --as gguf --gguf-type q4_k_m --suite everyday
  tui-lab export latest --as merged --strength 0.6
Every export is loaded again and compared with the run before it is moved to its place.""",
    )
    export.add_argument(
        "--as", dest="kind", choices=(*EXPORT_KINDS, "script"), metavar="{" + ",".join(EXPORT_KINDS) + "}",
        required=True, help="the kind of export",
    )  # fmt: skip
    export.choice(
        "--dtype", ("bfloat16", "float32"), "bfloat16", "precision of full weights (default bfloat16)"
    )
    export.choice("--gguf-type", GGUF_TYPES, "", "type of a GGUF file (default: the precision)")
    export.many("--suite", "NAME", "ask this suite of the GGUF file too; may be repeated")
    add_cpu_option(export)
    add_accept_option(export)
    export.option("--out", "FOLDER", "the target (default: exports/KIND in the run's folder)")
    export.option("--strength", "S", "the factor on what was trained (default 1)", 1.0, float)
    export.flag("--with-base", "also copy a base model that is not on the hub")
    export.flag("--force", "replace an existing export")


def add_serve(commands: CommandGroup) -> None:
    serve = commands.add(
        "serve",
        "serve.run",
        "serve a model and the adapters of runs to OpenAI clients, on this machine",
        runs_dir=True,
        examples="""\
  tui-lab serve latest                     base and adapter of the latest run, at http://127.0.0.1:8321/v1
  tui-lab serve RUN RUN --port 9000        several adapters over one base
  TUI_LAB_SERVE_KEY=... tui-lab serve latest --host 0.0.0.0
In a request the model is "base" or the name of a run. Other machines need the key.""",
    )
    serve.add_argument("runs", nargs="*", metavar="RUN", help="a run, or the folder of an adapter or model")
    serve.option("--model", "NAME", "the base (default: that of the first run, else the bundled model)")
    serve.option("--host", "ADDRESS", "the address to listen on (default 127.0.0.1)", "127.0.0.1")
    serve.count("--port", "the port; 0 takes a free one (default 8321)", 8321)
    serve.flag("--four-bit", "the same as --quantization nf4")
    serve.choice("--quantization", tuple(QUANTIZATIONS), "none", "how the weights are stored (default none)")
    add_allow_large_option(serve)
    add_cpu_option(serve)
    add_accept_option(serve)


def add_learn(commands: CommandGroup) -> None:
    learn = commands.add(
        "learn",
        "learn.run",
        "short pages about how language models work, computed on the model in hand",
        runs_dir=True,
        examples="""\
  tui-lab learn                            lists the pages
  tui-lab learn next-token --text "The capital of France is Paris."
  tui-lab learn decoding --set top_p=0.5
  tui-lab learn lora --model latest        the spectrum of what a run learned""",
    )
    learn.add_argument("page", nargs="?", default="", metavar="PAGE", help="a page; without it: the list")
    learn.option("--model", "NAME", "a model or a run (default pocket)")
    learn.option("--text", "TEXT", "the text that a page reads")
    add_set_option(learn, "a value of the page (repeatable)")


def add_search(commands: CommandGroup) -> None:
    search = commands.add(
        "search",
        "search.run",
        "search the recipe with the most gain that keeps a promise about retention, within a budget",
        runs_dir=True,
        examples="""\
  tui-lab search --data support --keep 0.9 --budget 40min
  tui-lab search --model Qwen/Qwen2.5-0.5B --data rows.jsonl --keep 0.95 --budget 3$
  tui-lab search --resume search-20261130-210000 --budget 60min
  tui-lab search --show latest
Method, rate, rank, layers, steps, replay and KL weight are varied; the strength of the adapter is chosen
last. The best recipe is trained again with fresh seeds before it is called confirmed.""",
    )
    add_recipe_options(search)
    search.option(
        "--keep", "SHARE", "the lower end of retention must stay above it (default 0.9)", None, float
    )
    search.option("--budget", "TIME", "40min, 2h, money (3$) or energy (0.3kWh) (default 30min)")
    search.option("--suite", "NAME", "the suite of the promise (default everyday)", "everyday")
    search.count("--items", "items of the suite for a pilot; 0: all (default 200)", 200)
    search.count("--steps", "steps of the first pilots (default: a third of the preset's)")
    search.count("--seed", "the seed of the search (default 0)", 0)
    search.option("--resume", "ID", "go on with a search that was interrupted")
    search.option("--show", "ID", "show a search: its id, a part of it, or latest")
