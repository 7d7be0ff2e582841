"""``tui-lab completion bash|zsh|fish``: prints the script that completes this command line in a shell. The
script asks this module for the words that fit (``--reply``), so the shells complete the same: commands,
options, and values as far as they are on this machine. Nothing is loaded and no network is used."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tui_lab.cli.grammar import parser
from tui_lab.cli.options import EXIT_OK, Parser
from tui_lab.core.errors import LabError
from tui_lab.core.paths import expanded

#: Of a folder no more entries are offered.
MOST_FILES = 500

SCRIPTS = {
    "bash": """\
# completion of tui-lab for bash: eval "$(tui-lab completion bash)" in ~/.bashrc
_tui_lab() {
    local line directive IFS=$'\\n'
    COMPREPLY=()
    while read -r line; do
        if [[ -z $directive ]]; then directive=$line; else COMPREPLY+=("${line%%$'\\t'*}"); fi
    done < <("$1" completion bash --reply "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
    [[ $directive == *nospace* ]] && compopt -o nospace
    if [[ $directive == *files* ]]; then
        compopt -o filenames
    elif ((${#COMPREPLY[@]} == 1)); then
        printf -v 'COMPREPLY[0]' %q "${COMPREPLY[0]}"
    fi
}
complete -F _tui_lab tui-lab
""",
    "zsh": """\
#compdef tui-lab
# completion of tui-lab for zsh: eval "$(tui-lab completion zsh)" in ~/.zshrc, after compinit
_tui_lab() {
    local line directive
    local -a replies values shown
    replies=("${(@f)$("$words[1]" completion zsh --reply "${(@Q)words[1,CURRENT]}" 2>/dev/null)}")
    directive=$replies[1]
    for line in "${(@)replies[2,-1]}"; do
        values+=("${line%%$'\\t'*}")
        shown+=("${${line/$'\\t'/  -- }%  -- }")
    done
    (( $#values )) || return 1
    local -a flags
    [[ $directive == *nospace* ]] && flags+=(-S '')
    [[ $directive == *files* ]] && flags+=(-f)
    compadd -l -d shown "${(@)flags}" -a values
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _tui_lab "$@"; else compdef _tui_lab tui-lab; fi
""",
    "fish": """\
# completion of tui-lab for fish: tui-lab completion fish > ~/.config/fish/completions/tui-lab.fish
function __tui_lab_complete
    set -l words (commandline -opc)
    set -l last (string unescape -- (commandline -ct))
    or set last (commandline -ct)
    $words[1] completion fish --reply $words "$last" 2>/dev/null | tail -n +2
end
complete -c tui-lab -f -a '(__tui_lab_complete)'
""",
}


class Completion(NamedTuple):
    """A word that fits, and what it means."""

    word: str
    about: str = ""


class LineEnd(NamedTuple):
    """Where a command line ends: the parser of the command, the option or argument whose value comes next
    (None: a command or an option), what was typed of the word, and the folder of runs that was given."""

    parser: Parser
    value_of: argparse.Action | None
    typed: str
    runs_dir: Path | None


def run(args: argparse.Namespace) -> int:
    """Runs the command; the exit code."""
    if args.reply is None:
        print(SCRIPTS[args.shell], end="")
        return EXIT_OK
    words = args.reply
    if args.shell == "bash":
        words = split(words[0] if words else "")
    try:
        found = candidates(words[1:] or [""])
    except (LabError, OSError, ValueError):
        found = []  # a shell shows no errors while a line is typed
    print("\n".join(reply(found, words[-1] if words else "", args.shell)))
    return EXIT_OK


def split(line: str) -> list[str]:
    """The words of a line that is being typed, without quotes; the last one is "" after a blank."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    try:
        words += lexer
    except ValueError:  # a quote that is not closed yet
        words.append(lexer.token)
        return words
    return [*words, ""] if not line or line[-1].isspace() else words


def reply(found: Iterable[Completion], typed: str, shell: str) -> list[str]:
    """The lines of a reply: what the shell should do after the word, then the words with their meaning."""
    found = [each for each in found if each.word.isprintable()]
    open_ended = bool(found) and all(each.word.endswith(("=", "/")) for each in found)
    directive = " ".join(
        word
        for word, applies in (
            ("nospace", open_ended),
            ("files", any("/" in each.word and each.about == FILE for each in found)),
        )
        if applies
    )
    # bash begins a new word after these signs
    known = max(typed.rfind("="), typed.rfind(":")) + 1 if shell == "bash" else 0
    lines = [f"{word[known:]}\t{'' if about == FILE else about}".rstrip("\t") for word, about in found]
    return [directive or "words", *lines]


# --------------------------------------------------------------------------------------------------
# what fits


def candidates(words: list[str]) -> list[Completion]:
    """The words that fit in place of the last one of a command line (without the program's name)."""
    place = _place(words)
    if place is None:
        return []
    typed = place.typed
    if place.value_of is not None:
        name, equals, value = typed.partition("=")
        prefix = f"{name}=" if equals and name in place.parser.options else ""
        values = values_of(place.value_of, value if prefix else typed, place.runs_dir)
        return [Completion(prefix + word, about) for word, about in values]
    if typed.startswith("-"):
        options = [name for name in place.parser.options if name.startswith(typed)]
        return [Completion(name, _about(place.parser.options[name])) for name in sorted(options)]
    commands = place.parser.commands.items()
    return [
        Completion(name, (sub.description or "").rstrip("."))
        for name, sub in commands
        if name.startswith(typed)
    ]


def _place(words: list[str]) -> LineEnd | None:
    """Where the line ends; None after an unknown command."""
    here, waiting, runs_dir, arguments, only_arguments = parser(), None, None, 0, False
    for word in words[:-1]:
        name, equals, value = word.partition("=")
        if word == "--":
            only_arguments = True
        elif word.startswith("-") and not only_arguments:
            waiting = here.options.get(name)
            if waiting is None or waiting.nargs == 0 or equals:
                waiting = None
            runs_dir = Path(value) if name == "--runs-dir" and equals else runs_dir
        elif waiting is not None:
            runs_dir = Path(word) if "--runs-dir" in waiting.option_strings else runs_dir
            waiting = waiting if waiting.nargs == "+" else None
        elif here.commands:
            if word not in here.commands:
                return None
            here, arguments = here.commands[word], 0
        else:
            arguments += 1
    typed = words[-1]
    if waiting is None and typed.startswith("--") and "=" in typed:
        waiting = here.options.get(typed.partition("=")[0])
    elif waiting is None and not typed.startswith("-") and not here.commands and here.arguments:
        last = here.arguments[-1]
        waiting = here.arguments[arguments] if arguments < len(here.arguments) else None
        waiting = last if waiting is None and last.nargs in ("*", "+") else waiting
    elif waiting is not None and typed.startswith("-"):
        waiting = None
    return LineEnd(here, waiting, typed, runs_dir)


def _about(action: argparse.Action) -> str:
    return (action.help or "").partition(" (")[0]


def values_of(action: argparse.Action, typed: str, runs_dir: Path | None) -> list[Completion]:
    """Values of an option or argument that begin with what was typed."""
    if action.choices is not None:
        shown = str(action.metavar or "")  # without those that are only accepted
        choices = shown[1:-1].split(",") if shown.startswith("{") else map(str, action.choices)
        return [Completion(each) for each in choices if each.startswith(typed)]
    keys = (*action.option_strings, str(action.metavar))
    source = next((_SOURCES[key] for key in keys if key in _SOURCES), None)
    if source is None:
        return []
    return [each for each in source(typed, runs_dir) if each.word.startswith(typed)]


# --------------------------------------------------------------------------------------------------
# sources

#: What marks a candidate that is a path.
FILE = "\0file"


def files(typed: str, _runs_dir: Path | None = None) -> Iterator[Completion]:
    """The entries of the folder that is typed; folders end with a slash."""
    folder, _, name = typed.rpartition("/")
    start = expanded(Path(folder + "/" if "/" in typed else "."))
    with os.scandir(start) as entries:
        found = sorted(
            (entry.name, entry.is_dir())
            for entry in entries
            if entry.name.startswith(name) and (not entry.name.startswith(".") or name.startswith("."))
        )
    prefix = typed[: len(typed) - len(name)]
    for name, is_folder in found[:MOST_FILES]:
        yield Completion(f"{prefix}{name}{'/' if is_folder else ''}", FILE)


def folders(typed: str, _runs_dir: Path | None = None) -> Iterator[Completion]:
    return (each for each in files(typed) if each.word.endswith("/"))


def runs(typed: str, runs_dir: Path | None) -> Iterator[Completion]:
    from tui_lab.runs import folder

    yield Completion("latest", "the newest run")
    yield from (Completion(run.id) for run in folder.list_runs(runs_dir or folder.runs_dir()))
    if _is_path(typed):
        yield from folders(typed)


def deleted_runs(_typed: str, runs_dir: Path | None) -> Iterator[Completion]:
    from tui_lab.runs import removal

    found = removal.trashed(runs_dir)
    yield from [Completion("latest", "the run deleted last")] * bool(found)
    yield from (Completion(each.id) for each in found)


def queued_runs(_typed: str, runs_dir: Path | None) -> Iterator[Completion]:
    from tui_lab.runs.queue import queue

    yield from (Completion(item.run.id, item.state) for item in queue.items(runs_dir))


def _is_path(typed: str) -> bool:
    return typed.startswith((".", "/", "~")) or os.sep in typed


def models(typed: str, _runs_dir: Path | None = None) -> Iterator[Completion]:
    from tui_lab.core.format import count
    from tui_lab.models import catalog

    for entry in catalog.load():
        if not entry.refused and entry.id.startswith(typed):
            where = ", on disk" if entry.on_disk else ""
            yield Completion(entry.id, f"{count(entry.parameters)} parameters{where}")
    if _is_path(typed):
        yield from folders(typed)


def models_and_runs(typed: str, runs_dir: Path | None) -> Iterator[Completion]:
    yield from models(typed)
    yield from runs("", runs_dir)


def adapters(typed: str, runs_dir: Path | None) -> Iterator[Completion]:
    yield from runs(typed, runs_dir)


def presets(typed: str, _runs_dir: Path | None = None) -> Iterator[Completion]:
    from tui_lab.core.paths import resource_dir, user_dir

    names = {path.stem for name in (resource_dir, user_dir) for path in name("presets").glob("*.toml")}
    yield from (Completion(name) for name in sorted(names))
    if _is_path(typed):
        yield from (each for each in files(typed) if each.word.endswith(("/", ".toml")))


def data_sets(typed: str, _runs_dir: Path | None = None) -> Iterator[Completion]:
    from tui_lab.data import bundled

    yield from (Completion(name, "bundled") for name in bundled.NAMES)
    yield from files(typed)


def recipe_values(typed: str, runs_dir: Path | None) -> Iterator[Completion]:
    """``key=`` for every recipe key, then its values."""
    from tui_lab.recipes.recipe import FIELDS

    key, equals, value = typed.partition("=")
    if not equals:
        yield from (Completion(f"{info.name}=", info.label) for info in FIELDS.values())
    elif key in FIELDS:
        info = FIELDS[key]
        source = _OF_KEYS.get(key)
        if info.kind == "bool":
            known: Iterable[Completion] = map(Completion, ("true", "false"))
        elif source is not None:
            known = source(value, runs_dir)
        elif info.choices:
            known = map(Completion, info.choices)
        else:
            known = [Completion(f"{info.default}", "the default")] if info.default != "" else []
        yield from (Completion(f"{key}={word}", about) for word, about in known)


def suites(typed: str, _runs_dir: Path | None = None) -> Iterator[Completion]:
    from tui_lab.retention.suites import registry

    yield from (Completion(info.name, info.title) for info in registry.names())
    if typed:
        yield from files(typed)


def settings(typed: str, _runs_dir: Path | None = None) -> Iterator[Completion]:
    from tui_lab.core.settings import FIELDS

    name, equals, _ = typed.partition("=")
    if not equals:
        yield from (Completion(f"{key}=", each.metadata["help"]) for key, each in FIELDS.items())
    elif name == "theme":
        yield from (Completion(f"theme={each.word}") for each in themes("", None))
    elif name in FIELDS and isinstance(FIELDS[name].default, bool):
        yield from (Completion(f"{name}={value}") for value in ("on", "off"))


def themes(_typed: str, _runs_dir: Path | None = None) -> Iterator[Completion]:
    from tui_lab.core.paths import resource_dir, user_dir

    names = {path.stem for name in (resource_dir, user_dir) for path in name("themes").glob("*.toml")}
    yield from map(Completion, sorted(names))


def strategies(_typed: str, _runs_dir: Path | None = None) -> Iterator[Completion]:
    from tui_lab.decoding.strategies import FAMILIES

    yield from map(Completion, FAMILIES)


def lane_sets(_typed: str, _runs_dir: Path | None = None) -> Iterator[Completion]:
    from tui_lab.decoding.strategies import PRESETS

    yield from map(Completion, PRESETS)


def sweeps(_typed: str, runs_dir: Path | None) -> Iterator[Completion]:
    from tui_lab.runs.index import RunIndex

    yield Completion("latest", "the newest sweep")
    yield from map(Completion, sorted({run.sweep for run in RunIndex(runs_dir).read_all() if run.sweep}))


def recommended(_typed: str, _runs_dir: Path | None = None) -> Iterator[Completion]:
    yield Completion("recommended", "the strength that a sweep recommends")


Source = Callable[[str, Path | None], Iterator[Completion]]
#: Values by the name of an option, else by what its help calls the value.
_SOURCES: dict[str, Source] = {
    "--preset": presets,
    "--data": data_sets,
    "--set": recipe_values,
    "--sweep": recipe_values,
    "--model": models_and_runs,
    "--adapter": adapters,
    "--suite": suites,
    "--theme": themes,
    "--lane": strategies,
    "--lanes": lane_sets,
    "--save": recommended,
    "--accelerate-config": files,
    "RUN": runs,
    "DELETED": deleted_runs,
    "QUEUED": queued_runs,
    "SWEEP": sweeps,
    "NAME=VALUE": settings,
    "FILE": data_sets,
    "FILE.jsonl": files,
    "FOLDER": folders,
    "PRESET": presets,
}
_OF_KEYS: dict[str, Source] = {"model": models, "data": data_sets, "probe_suite": suites}
