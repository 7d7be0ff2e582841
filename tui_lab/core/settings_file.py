"""Writes the settings file, which is the user's own: comments, order and keys that the lab does not know
stay as they are. A change is made line by line and then read back: what would not read as meant is not
written, and a file that cannot be read is never written over."""

from __future__ import annotations

import copy
import json
import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tomli_w

from tui_lab.core import settings
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize

HEAD = """Settings of tui-lab. Each line that begins with "# " and a name says what holds without it: take
the "# " away and change the value. An option of the command line goes before the environment
variable, that before this file, this file before the default."""
#: Columns of the template's comments.
WIDTH = 100
#: Lines that one value may take.
LONGEST_VALUE = 40
_HEADER = re.compile(r"\s*\[")


def template() -> str:
    """A settings file that sets nothing: every setting with its help, commented out."""
    lines = [f"# {line}" for line in HEAD.splitlines()]
    for name, each in settings.FIELDS.items():
        if name == "keys":
            continue
        lines += ["", *_help(name)]
        default = settings.default_of(name)
        # TOML has no word for "nothing": an example stands for it
        lines.append(f"# {_line(name, default if default is not None else each.metadata['example'])}")
    lines += ["", *_help("keys"), "[keys]", '# "choose.start" = "g,ctrl+s"']
    return "\n".join(lines) + "\n"


def _help(name: str) -> list[str]:
    metadata = settings.FIELDS[name].metadata
    words = [metadata["help"]]
    if choices := metadata.get("choices"):
        words.append(f"One of {', '.join(choices)}.")
    lines = textwrap.wrap(" ".join(words), WIDTH, initial_indent="# ", subsequent_indent="# ")
    return [*lines, f"# Environment: {metadata['env']}"] if metadata["env"] else lines


def write(name: str, value: Any, file: Path | None = None) -> Path:
    """Sets one setting in the file, or takes it out (None): see :func:`write_many`."""
    return write_many({name: value}, file)


def write_many(values: Mapping[str, Any], file: Path | None = None) -> Path:
    """Sets settings in the file; None takes one out, so that the default holds. A file that is not there yet
    begins as the template. The file's path; raises LabError, and then the file is as it was."""
    file = settings.path() if file is None else file
    wanted = {}
    for name, value in values.items():
        if name not in settings.FIELDS:
            raise LabError(settings.unknown(name))
        wanted[name] = None if value is None else settings.checked(name, value)
    text = _read(file)
    for name, value in wanted.items():
        text = _with_keys(text, value or {}) if name == "keys" else _with(text, name, value)
    _save(file, text)
    return file


def _read(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8")
        tomllib.loads(text)
    except FileNotFoundError:
        return template()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        why = sanitize(str(getattr(error, "strerror", None) or error))
        raise LabError(
            f"{sanitize(str(file))} cannot be read ({why}) and is left as it is: mend it, then try again"
        ) from None
    return text


def _save(file: Path, text: str) -> None:
    from tui_lab.core.files import write_atomically

    try:
        target = file.resolve()  # where the file is a link, what it leads to changes, and the link stays
        crlf = target.exists() and b"\r\n" in target.read_bytes()
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(target, text.replace("\n", "\r\n") if crlf else text)  # mode 0600
    except (OSError, RuntimeError, UnicodeEncodeError) as error:  # the last of a path that is not UTF-8
        why = getattr(error, "strerror", None) or error
        raise LabError(f"{sanitize(str(file))} cannot be written: {sanitize(str(why))}") from None


# --------------------------------------------------------------------------------------------------
# changing lines


def _line(key: str, value: Any) -> str:
    return tomli_w.dumps({key: value}).strip("\n")


def _same(data: Any, other: Any) -> bool:
    """Equal, where not-a-number equals itself and true is not 1."""
    one, two = (json.dumps(each, sort_keys=True, default=repr) for each in (data, other))
    return one == two


def _with(text: str, key: str, value: Any, table: str = "") -> str:
    """``text`` with one value changed. Of the places that could be meant (a name may also stand in another
    table, or within a text) the first is taken that reads as it should afterwards."""
    meant = copy.deepcopy(tomllib.loads(text))
    home = meant.setdefault(table, {}) if table else meant
    if value is None and key not in home:
        return text
    home.pop(key, None)
    if value is not None:
        home[key] = value
    for changed in _ways(text, key, value, table):
        try:
            if _same(tomllib.loads(changed), meant):
                return changed
        except tomllib.TOMLDecodeError:
            continue
    where = f"{key} in [{table}]" if table else key
    raise LabError(f"{settings.FILE} writes {where} in a way that the lab cannot change: edit it by hand")


def _with_keys(text: str, keys: Mapping[str, str]) -> str:
    before = tomllib.loads(text).get("keys", {})
    try:
        settings.checked("keys", before)
    except LabError as error:  # the lab has left it out: the keys that are right in it must not be lost
        raise LabError(f"{settings.FILE}: {error}: mend it by hand first") from None
    for key in {**before, **keys}:
        if key not in before or before[key] != keys.get(key):
            text = _with(text, key, keys.get(key), "keys")
    return text


def _ways(text: str, key: str, value: Any, table: str) -> Iterator[str]:
    lines = text.split("\n")
    new = [] if value is None else [_line(key, value)]
    spellings = (key, f'"{key}"', f"'{key}'", _line(key, 0).removesuffix(" = 0"))
    name = rf"(?:{'|'.join(map(re.escape, spellings))})\s*="
    for at, line in enumerate(lines):
        if re.match(rf"\s*{name}", line):
            for end in range(at + 1, min(at + LONGEST_VALUE, len(lines)) + 1):
                comment = _comment("\n".join(lines[at:end]))
                if comment is not None:
                    kept = [f"{new[0]}  {comment}" if new else comment] if comment else new
                    yield "\n".join([*lines[:at], *kept, *lines[end:]])
                    break
    if value is None:
        return
    for at, line in enumerate(lines):  # below its commented-out line of the template
        if re.match(rf"#\s*{name}", line):
            yield "\n".join([*lines[: at + 1], *new, *lines[at + 1 :]])
    if table:
        for at, line in enumerate(lines):
            if re.match(rf"\s*\[\s*[\"']?{re.escape(table)}[\"']?\s*\]", line):
                yield "\n".join([*lines[: at + 1], *new, *lines[at + 1 :]])
        yield "\n".join([*lines, f"[{table}]", *new, ""])
        return
    for at, line in enumerate(lines):
        if _HEADER.match(line):
            while at and lines[at - 1].startswith("#"):  # a table's comment stays with it
                at -= 1
            yield "\n".join([*lines[:at], *new, "", *lines[at:]])
    yield "\n".join([*lines[:-1], *new, lines[-1]] if lines[-1] == "" else [*lines, *new, ""])


def _comment(statement: str) -> str | None:
    """The comment at the end of a whole statement, "" where it has none; None where it is not whole."""
    for at in [at for at, char in enumerate(statement) if char == "#"]:
        if "\n" not in statement[at:] and _parses(statement[:at]):
            return statement[at:]
    return "" if _parses(statement) else None


def _parses(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True
