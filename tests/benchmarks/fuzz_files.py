"""Generated data files, model folders and adapter folders, valid and damaged: each must end in a result or in
one clear sentence, within 10 seconds of the processor and 1 GiB.

    python -m tests.benchmarks.fuzz_files --data 10000 --folders 1000 --seed 0

A case runs in a child that is forked after the imports, with a limit on its memory and an alarm. The outcome
is ``result``, ``sentence`` (a LabError of one line), or a fault: another exception, a message that is no
sentence, too slow, or killed. Faulty inputs are copied to ``--save FOLDER``. The figures are printed as JSON;
the exit status is 1 if there is any fault."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tui_lab.core.errors import LabError

LIMIT_S, LIMIT_BYTES = 10, 1 << 30
#: Exit statuses of a case.
RESULT, SENTENCE, FAULT = 0, 3, 4
#: Longest message that counts as a sentence or two.
MAX_MESSAGE = 700

Rows = list[dict[str, object]]

# --------------------------------------------------------------------------------------------------
# data files

WORDS = (
    "Lima",
    "the",
    "cat's",
    "naïve",
    "«quote»",
    "1 000",
    "日本語",
    "🙂",
    "\x1b[31mred",
    "</s>",
    "a\tb",
    "x\ny",
    "",
)
ODD: tuple[object, ...] = (
    None,
    True,
    0,
    -1,
    2**63,
    1e308,
    float("nan"),
    "",
    " ",
    "nan",
    [],
    {},
    [[]],
    {"a": {"b": [1, None]}},
    "\ud800",
    "\x00",
    ["x", 1],
    "a" * 5_000,
)


def text(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 12)))


def chat(rng: random.Random, role: str, content: str, names: tuple[str, str, str]) -> list[dict[str, object]]:
    system, user, assistant = names
    turns: list[dict[str, object]] = [{role: system, content: text(rng)}] if rng.random() < 0.3 else []
    for _ in range(rng.randint(1, 3)):
        turns += [{role: user, content: text(rng)}, {role: assistant, content: text(rng)}]
    return turns


def exported(rng: random.Random, role: str) -> dict[str, object]:
    """A message as ChatGPT exports it."""
    parts = rng.choice([[text(rng)], [{"content_type": "image"}, "x"], [], [""]])
    return {"author": {"role": role}, "content": {"content_type": "text", "parts": parts}, "recipient": "all"}


CALL = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
PARAMETERS = {"type": "object", "properties": {"x": {"type": "integer"}}}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": PARAMETERS}}

SHAPES: dict[str, Callable[[random.Random], dict[str, object]]] = {
    "alpaca": lambda rng: {
        "instruction": text(rng),
        "input": rng.choice(["", text(rng)]),
        "output": text(rng),
    },
    "history": lambda rng: {
        "instruction": text(rng),
        "output": text(rng),
        "history": [[text(rng), text(rng)]],
        "system": text(rng),
    },
    "messages": lambda rng: {"messages": chat(rng, "role", "content", ("system", "user", "assistant"))},
    "sharegpt": lambda rng: {"conversations": chat(rng, "from", "value", ("system", "human", "gpt"))},
    "prompt": lambda rng: {"prompt": text(rng), "completion": text(rng)},
    "question": lambda rng: {"question": text(rng), "answer": text(rng)},
    "choices": lambda rng: {
        "question": text(rng),
        "choices": [text(rng) for _ in range(4)],
        "answer": rng.choice([0, 3, 4, "B", "x"]),
    },
    "arc": lambda rng: {
        "question": text(rng),
        "choices": {"text": ["a", "b"], "label": ["A", "B"]},
        "answerKey": rng.choice("AB1"),
    },
    "squad": lambda rng: {
        "context": text(rng),
        "question": text(rng),
        "answers": {"text": [text(rng)], "answer_start": [0]},
    },
    "dolly": lambda rng: {
        "instruction": text(rng),
        "context": text(rng),
        "response": text(rng),
        "category": "qa",
    },
    "text": lambda rng: {"text": text(rng)},
    "tools": lambda rng: {
        "messages": [
            {"role": "user", "content": text(rng)},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "name": "f", "content": "2"},
            {"role": "assistant", "content": text(rng)},
        ],
        "tools": [TOOL],
    },
    "pairs": lambda rng: {"prompt": text(rng), "chosen": text(rng), "rejected": text(rng)},
    "nested": lambda rng: {
        "id": rng.randint(0, 9),
        "conversation": {
            "messages": [{"role": "user", "content": text(rng)}, {"role": "bot", "content": "a"}]
        },
    },
    "parts": lambda rng: {
        "contents": [
            {"role": "user", "parts": [{"text": text(rng)}]},
            {"role": "model", "parts": [{"text": text(rng)}]},
        ]
    },
    "role keys": lambda rng: {"turns": [{"human": text(rng)}, {"assistant": text(rng)}], "loss_mask": [0, 1]},
    "transcript": lambda rng: {"dialog": f"User: {text(rng)}\nAssistant: {text(rng)}"},
    "exchanges": lambda rng: {"questions": [text(rng), "b"], "answers": {"input_text": [text(rng), "c"]}},
    "by a word": lambda rng: {"user_input_de": text(rng), "bot_reply_de": text(rng), "meta": {"text": "x"}},
    "a message a row": lambda rng: {
        "message_id": str(rng.randint(0, 9)),
        "parent_id": rng.choice([None, str(rng.randint(0, 9))]),
        "role": rng.choice(["prompter", "assistant"]),
        "text": text(rng),
        "rank": rng.choice([None, 0, 1]),
    },
    "by conversation": lambda rng: {
        "conversation_id": rng.randint(0, 3),
        "turn": rng.choice([0, 1, None]),
        "role": rng.choice(["user", "assistant", "Ann"]),
        "content": text(rng),
    },
    "export": lambda rng: {
        "title": text(rng),
        "mapping": {
            name: {"parent": parent, "children": [], "message": exported(rng, role)}
            for name, parent, role in (("a", rng.choice([None, "b"]), "user"), ("b", "a", "assistant"))
        },
        "current_node": rng.choice(["b", "x", None]),
    },
    "tree": lambda rng: {
        "prompt": {
            "role": "prompter",
            "text": text(rng),
            "replies": [
                {"role": "assistant", "text": text(rng), "rank": rng.choice([0, "x"]), "replies": []}
            ],
        }
    },
    "intents": lambda rng: {
        "tag": "t",
        "patterns": [text(rng), "b"],
        "responses": rng.choice([[text(rng)], "c"]),
    },
    "speakers": lambda rng: {"dialog": [{"speaker": "Ann", "text": text(rng)}, {"Ben": text(rng)}]},
    "labelled": lambda rng: {"text": text(rng), "label": rng.randint(0, 3)},
    "unknown": lambda rng: {"colour": text(rng), "size": rng.randint(0, 9)},
}


def data_rows(rng: random.Random) -> Rows:
    make = SHAPES[rng.choice(sorted(SHAPES))]
    rows = [make(rng) for _ in range(rng.choice([0, 1, 2, 5, 30]))]
    for row in rows:
        if row and rng.random() < 0.15:
            row[rng.choice(sorted(row))] = rng.choice(ODD)
        if row and rng.random() < 0.1:
            row.pop(rng.choice(sorted(row)))
        if rng.random() < 0.1:
            row["label"] = rng.choice(ODD)
    return rows


def dumps(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def as_table(rows: Rows, separator: str) -> bytes:
    columns = sorted({name for row in rows for name in row})
    lines = [separator.join(columns)]
    for row in rows:
        cells = (row.get(name, "") for name in columns)
        flat = (cell if isinstance(cell, str) else json.dumps(cell) for cell in cells)
        lines.append(separator.join('"' + cell.replace('"', '""') + '"' for cell in flat))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def as_parquet(rows: Rows) -> bytes:
    import pyarrow
    import pyarrow.parquet

    sink = io.BytesIO()
    plain = [{name: dumps(value).decode("utf-8", "replace") for name, value in row.items()} for row in rows]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(plain), sink)
    return sink.getvalue()


def as_arrow(rows: Rows) -> bytes:
    import pyarrow

    sink = io.BytesIO()
    names = sorted({name for row in rows for name in row})
    columns = [[dumps(row.get(name)).decode("utf-8", "replace") for row in rows] for name in names]
    table = pyarrow.table(columns, names=names) if names else pyarrow.table({"x": []})
    with pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


FORMATS: dict[str, Callable[[Rows], bytes]] = {
    ".jsonl": lambda rows: b"\n".join(map(dumps, rows)),
    ".json": dumps,
    ".splits.json": lambda rows: dumps({"train": rows, "validation": rows[:1]}),
    ".columns.json": lambda rows: dumps(
        {name: [row.get(name) for row in rows] for name in (rows[0] if rows else {})}
    ),
    ".csv": lambda rows: as_table(rows, ","),
    ".semicolon.csv": lambda rows: b"sep=;\n" + as_table(rows, ";"),
    ".pipe.csv": lambda rows: as_table(rows, "|"),
    ".tsv": lambda rows: as_table(rows, "\t"),
    ".txt": lambda rows: "\n\n".join(str(row) for row in rows).encode("utf-8", "surrogatepass"),
    ".md": lambda rows: "\n\n".join(f"# {row}" for row in rows).encode("utf-8", "surrogatepass"),
    ".parquet": as_parquet,
    ".arrow": as_arrow,
    ".objects.json": lambda rows: b"\n".join(json.dumps(row, indent=1).encode() for row in rows),
    ".pandas.json": lambda rows: dumps(
        {
            "columns": sorted(rows[0]) if rows else [],
            "data": [[row.get(n) for n in sorted(rows[0])] for row in rows],
        }
    ),
    ".index.json": lambda rows: dumps({str(n): row for n, row in enumerate(rows)}),
    ".lines.txt": lambda rows: b"\n".join(map(dumps, rows)),
    ".jsonl.gz": lambda rows: gzip.compress(b"\n".join(map(dumps, rows))),
}


def flip(rng: random.Random, content: bytes) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        if damaged:
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    return bytes(damaged)


def cut(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


DAMAGE: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "none": lambda _rng, content: content,
    "cut": cut,
    "flipped": flip,
    "byte order mark": lambda _rng, content: b"\xef\xbb\xbf" + content,
    "carriage returns": lambda rng, content: content.replace(b"\n", rng.choice([b"\r", b"\r\n"])),
    "utf-16": lambda _rng, content: content.decode("utf-8", "replace").encode("utf-16"),
    "latin-1": lambda _rng, content: content.decode("utf-8", "replace").encode("latin-1", "replace"),
    "zeros": lambda rng, content: content + bytes(rng.choice([1, 4_096])),
    "doubled": lambda _rng, content: content + content,
    "deep": lambda rng, content: content + b"\n" + b"[" * rng.choice([500, 200_000]),
    "long line": lambda _rng, content: content + b'\n{"text": "' + b"x " * 2_000_000 + b'"}',
    "huge number": lambda _rng, content: content + b'\n{"text": ' + b"9" * 20_000 + b"}",
    "git-lfs pointer": lambda _rng, _content: (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
    ),
    "gzip bomb": lambda _rng, _content: gzip.compress(bytes(1 << 26)),
    "web page": lambda _rng, _content: b"<!DOCTYPE html><html><body>404</body></html>",
    "empty": lambda _rng, _content: b"",
}


def make_data(rng: random.Random, folder: Path) -> tuple[str, Path]:
    """Writes one data file or folder; returns what it is and its path."""
    suffix = rng.choice(sorted(FORMATS))
    damage = rng.choice(["none", *sorted(DAMAGE)])
    content = DAMAGE[damage](rng, FORMATS[suffix](data_rows(rng)))
    if rng.random() < 0.1:
        suffix = rng.choice(sorted(FORMATS))
    if rng.random() < 0.08:
        target = folder / "set" / rng.choice(["data", "."])
        target.mkdir(parents=True)
        (target / f"train{suffix}").write_bytes(content)
        if rng.random() < 0.3:
            os.mkfifo(target / "pipe.jsonl")
        return f"folder {suffix} {damage}", folder / "set"
    path = folder / f"rows{suffix}"
    path.write_bytes(content)
    return f"{suffix} {damage}", path


def read_data(path: Path) -> None:
    from tui_lab.data.preview import preview
    from tui_lab.data.preview_records import PreviewRequest

    preview(PreviewRequest(data=str(path), rows=2), lambda *_: None)


# --------------------------------------------------------------------------------------------------
# model and adapter folders

CONFIG_VALUES: tuple[object, ...] = (
    None,
    0,
    -1,
    1,
    3,
    2**40,
    1e400,
    "",
    "x",
    [],
    {},
    True,
    "../../etc",
    [1] * 50,
)


def model_template(folder: Path) -> None:
    """A tiny random llama with the bundled tokenizer, and a LoRA adapter of it under ``adapter``."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from tui_lab.pocket import MODEL_DIR

    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(folder / "adapter")


def damage_json(rng: random.Random, path: Path) -> None:
    try:
        value = json.loads(path.read_text("utf-8"))
    except ValueError:  # it is damaged already
        return
    for _ in range(rng.randint(1, 3)):
        key = rng.choice(sorted(value) or ["x"])
        if rng.random() < 0.3:
            value.pop(key, None)
        else:
            value[key] = rng.choice(CONFIG_VALUES)
    path.write_text(json.dumps(value), "utf-8")


def damage_tensors(rng: random.Random, path: Path) -> None:
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + size])
    except ValueError:  # it is damaged already
        return
    name = rng.choice(sorted(set(header) - {"__metadata__"}))
    kind = rng.randrange(6)
    if kind == 0:
        header[name]["shape"] = rng.choice([[2**62, 2**62], [-1, 4], [], [0], "x", [3, 5, 7]])
    elif kind == 1:
        header[name]["data_offsets"] = rng.choice([[0, 2**60], [5, 1], [-8, 8], "x", []])
    elif kind == 2:
        header[name]["dtype"] = rng.choice(["F9", "I8", 3, None])
    elif kind == 3:
        header[rng.choice(["x.weight", "\x1b[31m", "a" * 10_000])] = header.pop(name)
    elif kind == 4:
        path.write_bytes(flip(rng, content))
        return
    else:
        path.write_bytes(cut(rng, content))
        return
    found = json.dumps(header).encode()
    path.write_bytes(len(found).to_bytes(8, "little") + found + content[8 + size :])


def make_folder(rng: random.Random, template: Path, folder: Path, *, adapter: bool) -> tuple[str, Path]:
    """Copies the template and damages one or two of its files; returns what it is and the folder."""
    shutil.copytree(template, folder / "model")
    changed = folder / "model" / "adapter" if adapter else folder / "model"
    files = sorted(path for path in changed.iterdir() if path.is_file())
    done = []
    for _ in range(rng.choice([0, 1, 1, 1, 2])):
        path = rng.choice(files)
        if not path.is_file():
            continue
        ways = ["cut", "flipped", "gone", "empty", "pipe", "deep", "git-lfs pointer"]
        ways += ["values"] * 6 * (path.suffix == ".json") + ["tensors"] * 6 * (path.suffix == ".safetensors")
        way = rng.choice(ways)
        if way == "values":
            damage_json(rng, path)
        elif way == "tensors":
            damage_tensors(rng, path)
        elif way == "gone":
            path.unlink()
        elif way == "pipe":
            path.unlink()
            os.mkfifo(path)
        elif way == "deep":
            path.write_bytes(b'{"a":' * 100_000)
        else:
            path.write_bytes(DAMAGE[way](rng, path.read_bytes()))
        done.append(f"{path.name} {way}")
    return ("adapter " if adapter else "model ") + (", ".join(done) or "untouched"), changed


def use_model(path: Path) -> None:
    """What `tui-lab generate` does: looks at the folder, loads it and writes three tokens."""
    _generate("--model", str(path))


def use_adapter(path: Path) -> None:
    _generate("--model", str(path.parent), "--adapter", str(path))


def _generate(*names: str) -> None:
    from tui_lab.cli.main import main as tui_lab

    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        status = tui_lab(["generate", *names, "--raw", "--prompt", "Hi", "--max-new-tokens", "3"])
    if status:
        raise LabError(errors.getvalue().removeprefix("tui-lab: ").strip())


# --------------------------------------------------------------------------------------------------


def outcome_of(use: Callable[[Path], None], path: Path, report: Path) -> int:
    """Runs a case in a child; its exit status, or the negative number of the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        status = FAULT
        try:
            status = _in_child(use, path, report)
        finally:
            os._exit(status)
    _, state = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(state)


def _in_child(use: Callable[[Path], None], path: Path, report: Path) -> int:
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)  # of the processor: other programs may share the machine
    signal.alarm(30 * LIMIT_S)  # what waits for ever
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT_BYTES, used + LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(quiet, descriptor)
    try:
        use(path)
    except LabError as error:
        message = str(error)
        if not message or "\n" in message or len(message) > MAX_MESSAGE or not message.isprintable():
            report.write_text(f"no sentence: {message[:2_000]!r}", "utf-8")
            return FAULT
        report.write_text(message, "utf-8")
        return SENTENCE
    except BaseException:
        report.write_text(traceback.format_exc()[-3_000:], "utf-8", "backslashreplace")
        return FAULT
    return RESULT


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=int, default=10_000)
    parser.add_argument("--folders", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path)
    options = parser.parse_args(arguments)
    os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
    counts: Counter[str] = Counter()
    slowest, faults = 0.0, []
    with tempfile.TemporaryDirectory() as scratch:
        template = Path(scratch) / "template"
        model_template(template)
        use_adapter(template / "adapter")  # imports everything, and proves that the untouched folders work
        made = SHAPES["alpaca"](random.Random(0))
        (Path(scratch) / "warm.jsonl").write_bytes(b"\n".join([dumps(made)] * 4))
        read_data(Path(scratch) / "warm.jsonl")
        kinds = ["data"] * options.data + ["model", "adapter"] * (options.folders // 2)
        for number, kind in enumerate(kinds):
            rng = random.Random(f"{options.seed} {kind} {number}")
            folder, report = Path(scratch) / "case", Path(scratch) / "report"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            report.write_text("")
            if kind == "data":
                what, path = make_data(rng, folder)
                use = read_data
            else:
                what, path = make_folder(rng, template, folder, adapter=kind == "adapter")
                use = use_adapter if kind == "adapter" else use_model
            began = time.perf_counter()
            status = outcome_of(use, path, report)
            slowest = max(slowest, time.perf_counter() - began)
            name = {
                RESULT: "result",
                SENTENCE: "sentence",
                -signal.SIGALRM: "too slow",
                -signal.SIGPROF: "too slow",
            }.get(status, "fault")
            counts[f"{kind}: {name}"] += 1
            if name not in ("result", "sentence"):
                last = report.read_text("utf-8", "replace").strip().splitlines() or [f"exit status {status}"]
                faults.append({"number": number, "what": what, "status": status, "last": last[-1][:300]})
                print(f"{number} {what}: {name} ({status}): {last[-1][:200]!r}", file=sys.stderr, flush=True)
                if options.save:
                    shutil.copytree(folder, options.save / f"{number}", ignore=_no_pipes, dirs_exist_ok=True)
    figures = {"seed": options.seed, "counts": dict(sorted(counts.items())), "slowest_s": round(slowest, 2)}
    print(json.dumps({**figures, "faults": faults}, indent=1))
    return 1 if faults else 0


def _no_pipes(folder: str, names: list[str]) -> list[str]:
    return [
        name for name in names if not (Path(folder) / name).is_file() and not (Path(folder) / name).is_dir()
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
