"""Finds the format of a data set and the role of each of its columns, from the first rows.

A mapping ("question=prompt,answer=reply") gives a column the name that the formats know. Every column is
accounted for: used, with its role, or not used. Where no name is known, fields of objects count as columns,
and the only column that holds turns, a text, a question or an answer is taken for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from tui_lab.core.errors import LabError
from tui_lab.core.format import and_more
from tui_lab.core.sanitize import sanitize
from tui_lab.data.cells import is_missing, structure_of
from tui_lab.data.column_plan import ColumnPlan, Row, first_choice_number, inner_object, opened
from tui_lab.data.column_roles import (
    ACCEPTED,
    ANSWER_WORDS,
    FORMATS,
    LABELS,
    MAPPED_NAMES,
    OTHER_QUESTIONS,
    OTHER_WORDS,
    QUESTION_WORDS,
    QUESTIONS,
    ROLE_COLUMNS,
    ROLES_OF_FORMAT,
    USES,
    WHOLE_TEXTS,
    canonical,
)
from tui_lab.data.files import RAGGED_CELLS
from tui_lab.data.rows import BadRow
from tui_lab.data.streams import SNIFFED_ROWS, FileRecord
from tui_lab.data.turns import (
    CONTENT_KEYS,
    ROLE_KEYS,
    ROLES,
    repeated_names,
    turns_of,
    unknown_fields,
    unknown_speakers,
)
from tui_lab.data.value_names import label_hint

_CHATS = ("messages", "sharegpt")
_STRUCTURED = ("context", "history", "choices", "tools", "system")  # roles that take objects or lists
MANY_PAIRS = 5  # pairs of texts beyond which repeated first texts are speakers
NAMED_COLUMNS = 12  # columns that a message names

_SPREAD = re.compile(r"(?:choice|option|opt?|ending|sol|alternative|candidate)_?([0-9a-h])")


def parse_mapping(text: str) -> dict[str, str]:
    """ "question=prompt, answer=reply" as names and columns. Raises LabError."""
    pairs: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals or not name or not column:
            raise LabError(
                f"columns: {part[:60]!r} is not name=column. Write, for example, "
                "question=prompt,answer=reply."
            )
        if name in pairs:
            raise LabError(f"columns: {name} is given twice.")
        pairs[name] = column
    return pairs


def columns_of(records: Sequence[FileRecord]) -> list[str]:
    """The column names of the first rows, in the order in which they appear."""
    seen: dict[str, None] = {}
    for _, value in records[:SNIFFED_ROWS]:
        if isinstance(value, dict):
            seen.update(dict.fromkeys(str(key) for key in value if key != RAGGED_CELLS))
    return list(seen)


def _names(
    name: str, columns: Sequence[str], mapping: Mapping[str, str], objects: frozenset[str] = frozenset()
) -> dict[str, str]:
    """Columns by canonical name, the mapping applied; a field of an object goes by its own name where no
    column has it. Raises LabError for a mapping that does not fit."""
    found: dict[str, str] = {}
    for column in columns:
        found.setdefault(canonical(column), column)
    for column in columns:
        outer, _, inner = column.rpartition(".")
        if outer in objects and inner:
            found.pop(canonical(column), None)
            found.setdefault(canonical(inner), column)
    wanted: dict[str, str] = {}
    for left, right in mapping.items():
        role, column = canonical(left), right
        if column not in columns and left in columns:  # written the other way round
            role, column = canonical(right), left
        column = found.get(canonical(column), column) if column not in columns else column
        if role not in MAPPED_NAMES:
            raise LabError(f"columns: {sanitize(left)[:40]} is no role. Known: {', '.join(MAPPED_NAMES)}.")
        if column not in columns:
            raise LabError(
                f"columns: {name} has no column {sanitize(column)[:40]}; it has {listed(columns)}."
            )
        wanted[role] = column
    taken = set(wanted.values())
    return {
        **wanted,
        **{key: column for key, column in found.items() if key not in wanted and column not in taken},
    }


def listed(columns: Sequence[str]) -> str:
    """Names of columns for a message, the others counted."""
    if not columns:
        return "no named columns"
    shown = sanitize(", ".join(column[:40] or "(unnamed)" for column in columns[:NAMED_COLUMNS]))
    return f"the columns {shown}{and_more(len(columns) - NAMED_COLUMNS)}"


def _turns_reason(records: Sequence[FileRecord], column: str) -> tuple[str, str] | None:
    """The format of a column of turns and its reason; None where it holds no turns."""
    keys: set[str] = set()
    asked: list[object] = []
    lists = 0
    for _, value in records[:SNIFFED_ROWS]:
        turns = structure_of(value.get(column)) if isinstance(value, dict) else value
        if isinstance(turns, dict):
            keys.update(str(key) for key in turns)
        elif isinstance(turns, list) and turns:
            lists += 1
            keys.update(str(key) for turn in turns if isinstance(turn, dict) for key in turn)
            asked += [turn[0] for turn in turns if isinstance(turn, list) and len(turn) == 2]
    if {"role", "content"} <= keys:
        return "messages", f"column {column} with role and content"
    if {"from", "value"} <= keys:
        return "sharegpt", f"column {column} with from and value"
    if any(
        isinstance(value, dict) and _are_turns(value.get(column), column)
        for _, value in records[:SNIFFED_ROWS]
    ):
        lists = 1
    if len(asked) > MANY_PAIRS and (speakers := repeated_names(asked)) and not set(speakers) & ROLES.keys():
        raise LabError(f"Column {sanitize(column)[:40]}: {unknown_speakers(speakers)}.")
    role = next((key for key in ROLE_KEYS if key in keys), None)
    content = next((key for key in CONTENT_KEYS if key in keys), None)
    if role and content:
        return "messages", f"column {column} with {role} and {content}"
    return ("messages", f"column {column} with turns in a list") if lists else None


def _matches(
    records: Sequence[FileRecord], names: Mapping[str, str], mapped: Mapping[str, str]
) -> dict[str, tuple[str, dict[str, tuple[str, ...]]]]:
    """Every format that the columns allow, best first, each with its reason and the columns of its roles."""
    found: dict[str, tuple[str, dict[str, tuple[str, ...]]]] = {}

    def have(role: str) -> tuple[str, ...]:
        return tuple(name for name in ROLE_COLUMNS[role] if name in names)

    chosen, rejected = have("chosen"), have("rejected")
    if chosen and rejected and _has_values(records, names[chosen[0]]):
        reason = f"columns {names[chosen[0]]}, {names[rejected[0]]}"
        found["preference"] = (reason, {"chosen": chosen, "rejected": rejected})
    verdicts = tuple(name for name in have("label") if _is_verdict(records, names[name]))
    if have("prompt") and have("completion") and verdicts:
        reason = f"columns {names['prompt']}, {names[have('completion')[0]]}, {names[verdicts[0]]}"
        found["feedback"] = (
            reason, {"prompt": have("prompt"), "completion": have("completion"), "label": verdicts},
        )  # fmt: skip
    for name in have("messages"):
        if (turns := _turns_reason(records, names[name])) is not None:
            found.setdefault(turns[0], (turns[1], {"messages": (name,)}))
    spread = _spread(names)
    instruction = have("instruction")
    answers = tuple(name for name in have("answer") if name not in spread)
    # for Alpaca the output comes first, whatever else there is
    outputs = tuple(sorted(answers, key=lambda name: name != "output"))
    prompts, completions = have("prompt"), have("completion")
    questions = tuple(name for name in QUESTIONS if name in names)
    others = tuple(name for name in OTHER_QUESTIONS if name in names)
    choices, keys = have("choices"), have("key")
    if others and others[0] in WHOLE_TEXTS and not _is_apart(records, names[others[0]], names, answers):
        others = ()

    def alpaca() -> None:
        inputs = f"{names['input']}, " if "input" in names else ""
        reason = f"columns {names[instruction[0]]}, {inputs}{names[outputs[0]]}"
        found["alpaca"] = (reason, {"instruction": instruction, "answer": outputs})

    if instruction and outputs:
        alpaca()
    if prompts and completions and (not questions or {"completion", "response"} & set(completions)):
        reason = f"columns {names['prompt']}, {names[completions[0]]}"
        found["prompt_completion"] = (reason, {"prompt": prompts, "completion": completions})
    targets = answers or (keys if choices or spread else ())
    asked = questions or tuple(n for n in (*others, *prompts, *instruction) if n not in targets)
    if asked and targets and "alpaca" not in found:
        chosen = asked if questions else asked[:1]
        listing = f", {names[choices[0]]}" if choices else ""
        reason = f"columns {names[chosen[0]]}, {names[targets[0]]}{listing}"
        found["question_answer"] = (
            reason,
            {"question": chosen, "answer": answers, "key": keys if choices or spread else ()},
        )
    if text := have("text"):
        found["text"] = (f"column {names[text[0]]}", {"text": text})
    if "text" in mapped and "text" in found:
        return {"text": found["text"], **found}
    if {"question", "answer"} <= set(mapped) and "question_answer" in found:
        return {"question_answer": found["question_answer"], **found}
    return found


def _is_apart(
    records: Sequence[FileRecord], text: str, names: Mapping[str, str], answers: Sequence[str]
) -> bool:
    """Whether a column of answers holds texts that are not part of the column of texts."""
    rows = [value for _, value in records if isinstance(value, dict)]
    pairs = [(row.get(text), row.get(names[name])) for row in rows for name in answers[:1]]
    return all(isinstance(answer, str) and str(answer) not in str(whole) for whole, answer in pairs)


def _has_values(records: Sequence[FileRecord], column: str) -> bool:
    """Whether one of the first rows has something in a column."""
    values = (value.get(column) for _, value in records[:SNIFFED_ROWS] if isinstance(value, dict))
    return any(not is_missing(value) and value not in ("", [], {}) for value in values)


def _is_verdict(records: Sequence[FileRecord], column: str) -> bool:
    """Whether a column holds true and false."""
    values = [value.get(column) for _, value in records[:SNIFFED_ROWS] if isinstance(value, dict)]
    known = [value for value in values if not is_missing(value)]
    return bool(known) and all(
        isinstance(value, bool) or str(value).strip().lower() in ("true", "false") for value in known
    )


def _spread(names: Mapping[str, str]) -> tuple[str, ...]:
    """Columns that hold one choice each, in order: choice0, option_b, opa, or A to D."""
    numbered = sorted((match[1], name) for name in names if (match := _SPREAD.fullmatch(name)))
    if len(numbered) < 2:
        numbered = [(letter, letter) for letter in "abcdefgh" if letter in names]
    return tuple(name for _, name in numbered) if len(numbered) > 1 else ()


def plans(
    name: str, records: Sequence[FileRecord], data_format: str = "auto", mapping: str = ""
) -> Iterator[ColumnPlan]:
    """How the rows may be read, from the first of them, the likeliest first: by the names of the columns,
    with the fields of objects as columns, by what columns of other names hold. Raises LabError that names the
    columns of the data and those of each format."""
    objects = [frozenset[str](), *_levels(records)]
    error: LabError | None = None
    found: list[ColumnPlan] = []
    for guess in (False, True):
        for inner in objects:
            try:
                found.append(_plan(name, records, (data_format, mapping), inner, guess))
            except LabError as problem:
                error = problem if inner else error or problem  # with the fields that a mapping can name
        if not guess and len(found) == 2 and found[0].format == "text" and found[1].format in _CHATS:
            found.reverse()
        yield from found
        known = any(each.format != "text" for each in found)  # then their rows say what is wrong
        if not guess and (known or mapping or not columns_of(records)):
            break
        found = []
    if error is not None:
        raise error


def _levels(records: Sequence[FileRecord]) -> Iterator[frozenset[str]]:
    """The columns that hold objects, and then with these the fields of them that hold objects themselves."""
    found = _objects(records)
    if found:
        yield found
        within = [
            (place, opened(row, found)) for place, row in records[:SNIFFED_ROWS] if isinstance(row, dict)
        ]
        if deeper := _objects(within):
            yield found | deeper


def _objects(records: Sequence[FileRecord]) -> frozenset[str]:
    """The columns that hold an object in each of the first rows, or nothing."""
    rows = [value for _, value in records[:SNIFFED_ROWS] if isinstance(value, dict)]
    found = []
    for column in columns_of(records):
        cells = [row[column] for row in rows if column in row and not is_missing(row[column])]
        if any(canonical(column) in ROLE_COLUMNS[role] for role in _STRUCTURED):
            continue
        inner = [inner_object(cell) for cell in cells]
        if inner and all(each and not {"role", "from"} & each.keys() for each in inner):
            found.append(column)
    return frozenset(found)


def _guessed(records: Sequence[FileRecord], names: Mapping[str, str], is_table: bool) -> dict[str, str]:
    """Columns by the names that formats know, from what they hold and from words of their names; {} where
    several would fit."""
    rows = [value for _, value in records[:SNIFFED_ROWS] if isinstance(value, dict)]

    def cells(name: str) -> list[object]:
        return [row[names[name]] for row in rows if not is_missing(row.get(names[name]))]

    chats = [n for n in names if (found := cells(n)) and all(_are_turns(cell, n) for cell in found)]
    if chats:
        return {"messages": names[chats[0]]} if len(chats) == 1 else {}
    texts = [
        name
        for name in names
        if not OTHER_WORDS & set(name.split("_"))
        and (found := cells(name))
        and all(map(_is_plain_text, found))
    ]
    asked = [name for name in texts if name in QUESTIONS or QUESTION_WORDS & set(name.split("_"))]
    answers = [name for name in texts if name not in asked and ANSWER_WORDS & set(name.split("_"))]
    if len(asked) == len(answers) == 1:
        return {"question": names[asked[0]], "answer": names[answers[0]]}
    lists = any(
        isinstance(cell, list | dict) and cell for name in names for cell in map(structure_of, cells(name))
    )
    alone = len(texts) == 1 and not asked and not answers and not is_table and not lists
    return {"text": names[texts[0]]} if alone else {}


def _are_turns(cell: object, column: str) -> bool:
    """Whether a cell holds several turns of a chat that name their roles."""
    cell = structure_of(cell)
    if not isinstance(cell, str | list | dict) or (
        isinstance(cell, list) and not isinstance(cell[0] if cell else None, dict | list)
    ):
        return False
    try:
        return len(turns_of(cell, column)) > 1
    except BadRow:
        return False


def _is_plain_text(cell: object) -> bool:
    return isinstance(cell, str) and isinstance(structure_of(cell), str)


def plan(
    name: str, records: Sequence[FileRecord], data_format: str = "auto", mapping: str = ""
) -> ColumnPlan:
    """The likeliest of :func:`plans`."""
    return next(plans(name, records, data_format, mapping))


def _plan(
    name: str,
    records: Sequence[FileRecord],
    asked: tuple[str, str],
    objects: frozenset[str],
    guess: bool,
) -> ColumnPlan:
    data_format, mapping = asked
    if data_format not in ("auto", *FORMATS):
        raise LabError(f"There is no data format {data_format!r}. Known: auto, {', '.join(FORMATS)}.")
    records = [
        (place, opened(value, objects) if isinstance(value, dict) else value)
        for place, value in records[:SNIFFED_ROWS]
    ]
    columns = columns_of(records)
    pairs = parse_mapping(mapping)
    names = _names(name, columns, pairs, objects)
    if not columns and not pairs:
        return _plan_without_columns(name, records, data_format)
    mapped = {
        key: column
        for key, column in names.items()
        if column in pairs.values() or key in map(canonical, pairs)
    }
    is_table = name.lower().endswith((".csv", ".tsv"))
    if guess:
        guessed = _guessed(records, names, is_table)
        taken = set(guessed.values())
        names = {**{key: column for key, column in names.items() if column not in taken}, **guessed}
    found = _matches(records, names, mapped)
    if data_format == "auto":
        if not found:
            hint = ""
            if is_table:
                hint = " The first line of a table must name its columns."
            elif blank := [column for column in columns if not _has_values(records, column)]:
                hint = f" Empty in the first rows: {', '.join(map(sanitize, blank[:5]))}."
            raise LabError(
                f"{name} has {listed(columns)}; that is no format known here. Accepted: {ACCEPTED}.{hint} "
                "--columns question=…,answer=… says which column is which."
            )
        chosen = next(iter(found))
        others = [LABELS[other] for other in found if other != chosen]
        suffix = f" (it would also pass as {', '.join(others)})" if others else ""
    else:
        chosen, suffix = data_format, ", as asked"
        if chosen not in found:
            looks = f" They look like {LABELS[next(iter(found))]}." if found else ""
            raise LabError(
                f"{name} has {listed(columns)}, which do not fit the format {data_format}.{looks} "
                f"Accepted: {ACCEPTED}."
            )
    reason, roles = found[chosen]
    if guess:
        suffix += ", the only ones that fit" if "," in reason else ", the only one that fits"
    decided = _complete(records, columns, names, chosen, f"{reason} → {LABELS[chosen]}{suffix}", roles)
    return replace(decided, opened=objects)


def _plan_without_columns(name: str, records: Sequence[FileRecord], data_format: str) -> ColumnPlan:
    chosen, reason = "", ""
    if any(isinstance(value, str) for _, value in records):
        chosen, reason = "text", "the rows are plain strings"
    elif (turns := _turns_reason(records, "")) is not None:
        chosen, reason = turns[0], "each row is a list of turns"
    if not chosen or data_format not in ("auto", chosen):
        if data_format != "auto":
            looks = f" They look like {LABELS[chosen]}." if chosen else ""
            raise LabError(
                f"{name} has {listed([])}, which do not fit the format {data_format}.{looks} "
                f"Accepted: {ACCEPTED}."
            )
        raise LabError(f"{name} has {listed([])}; that is no format known here. Accepted: {ACCEPTED}.")
    suffix = ", as asked" if data_format != "auto" else ""
    return ColumnPlan(chosen, f"{reason} → {LABELS[chosen]}{suffix}", {}, {})


def _complete(
    records: Sequence[FileRecord],
    columns: Sequence[str],
    names: Mapping[str, str],
    chosen: str,
    reason: str,
    roles: dict[str, tuple[str, ...]],
) -> ColumnPlan:
    """The plan with the columns of the other roles, and what each column of these rows is used for."""
    taken = {name for group in roles.values() for name in group}
    spread = _spread(names) if chosen == "question_answer" and "choices" not in names else ()
    taken.update(spread)
    for role in ROLES_OF_FORMAT[chosen]:
        if role not in roles:
            columns_of_role = (n for n in ROLE_COLUMNS[role] if n in names and n not in taken)
            roles[role] = tuple(n for n in columns_of_role if _fits(records, names[n], role))
            taken.update(roles[role][:1])
    draft = ColumnPlan(chosen, reason, names, roles, spread)
    uses: dict[str, str] = {names[name]: "a choice, below the question" for name in spread}
    for _, value in records:
        if not isinstance(value, dict):
            continue
        row = Row(draft, value)
        for role in roles:
            if role == "key" and row.value("answer") is not None:
                continue
            if (column := row.column(role)) is not None:
                uses.setdefault(column, USES[role])
    ordered = {column: uses[column] for column in columns if column in uses}
    unused = tuple(column for column in columns if column not in uses)
    turns = names[roles["messages"][0]] if chosen in _CHATS and roles.get("messages") else None
    fields = [unknown_fields(value.get(turns)) for _, value in records if turns and isinstance(value, dict)]
    counts_from = first_choice_number(draft, records) if spread or roles.get("choices") else 0
    found = ColumnPlan(
        chosen, reason, names, roles, spread, counts_from, ordered, unused,
        turn_fields=tuple(sorted(set[str]().union(*fields))),
    )  # fmt: skip
    return replace(found, hint=label_hint(found, records))


def _fits(records: Sequence[FileRecord], column: str, role: str) -> bool:
    """Whether the first rows have what a role takes: a history is no text, reasoning is, and KTO's label of a
    completion is true or false; tests assert something."""
    kind = {"history": list | dict, "reasoning": str, "wanted": bool, "mask": list}.get(role)
    if role == "tests":
        texts = [str(value.get(column)) for _, value in records if isinstance(value, dict)]
        return any("assert" in text for text in texts)
    if kind is None:
        return True
    found = [structure_of(value.get(column)) for _, value in records if isinstance(value, dict)]
    return all(isinstance(value, kind) for value in found if not is_missing(value) and value != "")
