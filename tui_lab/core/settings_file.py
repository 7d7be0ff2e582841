"""Writes the user's settings file. Comments, order and unknown keys stay as they are; a file that cannot be
read is never overwritten, and neither is one whose new text would not read back as intended."""

from __future__ import annotations

import re
import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tui_lab.core import input_files, settings
from tui_lab.core.errors import LabError
from tui_lab.core.files import write_atomically
from tui_lab.core.sanitize import sanitize

HEAD = """Settings of tui-lab. A line that begins with "# " and a name shows the default: remove the "# " and
change the value. A command-line option overrides the environment variable, which overrides this file."""
#: Columns of the template's comments.
WIDTH = 100


def template() -> str:
    """A settings file that sets nothing: every setting with its help, commented out."""
    lines = [f"# {line}" for line in HEAD.splitlines()]
    for name, each in settings.FIELDS.items():
        if name == "keys":
            continue
        default = settings.default_of(name)
        # TOML cannot express None: an example takes its place
        value = default if default is not None else each.metadata["example"]
        lines += ["", *_help(name), f"# {_assignment(name, value)}"]
    lines += ["", *_help("keys"), "[keys]", '# "setup.start" = "g,ctrl+s"']
    return "\n".join(lines) + "\n"


def _help(name: str) -> list[str]:
    metadata = settings.FIELDS[name].metadata
    sentences = [metadata["help"]]
    if choices := metadata.get("choices"):
        sentences.append(f"One of {', '.join(choices)}.")
    lines = textwrap.wrap(" ".join(sentences), WIDTH, initial_indent="# ", subsequent_indent="# ")
    return [*lines, f"# Environment: {metadata['env']}"] if metadata["env"] else lines


def _assignment(name: str, value: object) -> str:
    import tomlkit

    return tomlkit.dumps({name: value}).strip("\n")


def write(name: str, value: object, file: Path | None = None) -> Path:
    """Sets one setting in the file, or removes it (None): see :func:`write_many`."""
    return write_many({name: value}, file)


def write_many(values: Mapping[str, object], file: Path | None = None) -> Path:
    """Sets settings in the file and returns its path; None removes a setting, so that its default applies. A
    file that does not exist starts as the template. Raises LabError; the file is unchanged then."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    file = settings.path() if file is None else file
    checked: dict[str, Any] = {}
    for name, value in values.items():
        name = settings.OLD_NAMES.get(name, name)
        if name not in settings.FIELDS:
            raise LabError(settings.unknown(name))
        checked[name] = None if value is None else settings.checked(name, value)
    text = _read(file)
    try:
        for old, new in settings.OLD_NAMES.items():
            if new in checked and old in tomllib.loads(text):
                document = tomlkit.parse(text)
                _set(document, old, None)
                text = document.as_string()
        for name, value in checked.items():
            if name == "keys":
                text = _with_keys(text, value or {})
            elif value is None or name in tomllib.loads(text):
                document = tomlkit.parse(text)
                _set(document, name, value)
                text = document.as_string()
            else:
                text = _with_new(text, name, value)
    except (TOMLKitError, tomllib.TOMLDecodeError, ValueError) as error:
        raise LabError(
            f"{sanitize(str(file))} cannot be changed ({sanitize(str(error))}): edit it by hand"
        ) from None
    _save(file, text)
    return file


def _read(file: Path) -> str:
    try:
        text = input_files.read_text(file, input_files.TOML_BYTES)
        input_files.parse_toml(text)
    except FileNotFoundError:
        return template()
    except (OSError, ValueError) as error:
        reason = sanitize(str(getattr(error, "strerror", None) or error))
        raise LabError(
            f"{sanitize(str(file))} cannot be read ({reason}) and is left as it is: correct it and try again"
        ) from None
    return text


def _save(file: Path, text: str) -> None:
    try:
        target = file.resolve()  # a symbolic link stays, and its target changes
        crlf = target.exists() and b"\r\n" in input_files.read_bytes(target, input_files.TOML_BYTES)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(target, text.replace("\n", "\r\n") if crlf else text)
    except (OSError, RuntimeError, UnicodeEncodeError) as error:  # UnicodeEncodeError: a path outside UTF-8
        reason = getattr(error, "strerror", None) or error
        raise LabError(f"{sanitize(str(file))} cannot be written: {sanitize(str(reason))}") from None


def _set(table: Any, key: str, value: object) -> None:
    """Changes a key of a tomlkit table in place; a removed key leaves its comment."""
    from tomlkit import comment

    if value is not None:
        table[key] = value
    elif key in table:
        text = table[key].trivia.comment.removeprefix("#").strip()
        if text:
            table.add(comment(text))
        table.remove(key)


def _with_new(text: str, name: str, value: object) -> str:
    """The text with a new top-level key: below its commented-out line, else above the first table."""
    lines = text.split("\n")
    commented = re.compile(rf"# ?{name}\s*=")
    tables = re.compile(r"\s*\[")
    before = repr(tomllib.loads(text))
    places = [at + 1 for at, line in enumerate(lines) if commented.match(line)]
    for at, line in enumerate(lines):
        if tables.match(line):
            while at and lines[at - 1].startswith("#"):  # the comment of a table stays with it
                at -= 1
            places.append(at)
    for at in [*places, len(lines) if lines[-1] else len(lines) - 1]:
        changed = "\n".join([*lines[:at], _assignment(name, value), *lines[at:]])
        try:
            found = tomllib.loads(changed)
            if name in found and repr(found.pop(name)) == repr(value) and repr(found) == before:
                return changed
        except tomllib.TOMLDecodeError:
            continue
    raise ValueError(f"there is no place for {name}")


def _with_keys(text: str, keys: Mapping[str, str]) -> str:
    import tomlkit

    before = tomllib.loads(text).get("keys", {})
    try:
        settings.checked("keys", before)
    except LabError as error:  # the lab ignores such a table: its valid keys must not be lost
        raise LabError(f"{settings.FILE}: {error}: correct it by hand first") from None
    document = tomlkit.parse(text)
    if "keys" not in document:
        document["keys"] = tomlkit.table()
    for key in {**before, **keys}:
        if before.get(key) != keys.get(key):
            _set(document["keys"], key, keys.get(key))
    return document.as_string()
