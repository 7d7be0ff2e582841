"""What every command prints with ``-o json``, as one JSON Schema and as a page, made from the typed records:
``python -m tui_lab.cli.json_schema`` prints the schema (docs/json.schema.json), with ``page`` the page
(docs/json.md). Not imported by any command."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import is_dataclass
from typing import Any, NamedTuple, TypeAlias, get_args, get_type_hints

import msgspec
from msgspec import UnsetType

from tui_lab.cli import (
    advise,
    data,
    doctor,
    export,
    forecast_answers,
    generate,
    import_recipe,
    judge,
    learn,
    logs,
    predict,
    queue_answers,
    redteam,
    report,
    retention,
    search,
    settings,
    show,
    stages,
    strength,
    train,
    trash,
    votes,
)
from tui_lab.cli.output import CommandError
from tui_lab.cli.results import RunResult, RunsAnswer
from tui_lab.evaluation.prediction_file import Prediction, PredictionSettings
from tui_lab.runs.schema import KnownEvent, RunEvent

Schema: TypeAlias = dict[str, Any]


class AnswerKind(NamedTuple):
    """A record that commands print."""

    type: type[msgspec.Struct]
    commands: str

    @property
    def kind(self) -> str:
        return str(self.type.__struct_config__.tag)


ANSWERS = (
    AnswerKind(show.ModelList, "models"),
    AnswerKind(show.PresetList, "presets"),
    AnswerKind(show.PresetAnswer, "presets NAME"),
    AnswerKind(show.KeyList, "presets --keys"),
    AnswerKind(votes.VoteList, "votes"),
    AnswerKind(import_recipe.ImportAnswer, "import"),
    AnswerKind(data.DataPreviewAnswer, "data preview"),
    AnswerKind(RunsAnswer, "runs"),
    AnswerKind(trash.RunsMoved, "runs delete, runs restore"),
    AnswerKind(trash.TrashList, "runs trash"),
    AnswerKind(trash.TrashEmptied, "runs trash --empty"),
    AnswerKind(show.FolderList, "locate"),
    AnswerKind(doctor.DoctorReport, "doctor"),
    AnswerKind(train.DryRun, "train --dry-run"),
    AnswerKind(RunResult, "train, watch, resume: the last line"),
    AnswerKind(train.CommandAnswer, "stop, pause, continue, checkpoint"),
    AnswerKind(logs.WorkerLine, "logs: a line of worker.log"),
    AnswerKind(report.ReportAnswer, "report"),
    AnswerKind(queue_answers.Queued, "queue add, train --queue, train --sweep"),
    AnswerKind(queue_answers.QueueableRuns, "train --queue --dry-run"),
    AnswerKind(queue_answers.QueueList, "queue list"),
    AnswerKind(queue_answers.QueueStatus, "queue start, queue stop"),
    AnswerKind(queue_answers.Removed, "queue remove"),
    AnswerKind(queue_answers.SweepResult, "sweep"),
    AnswerKind(forecast_answers.ForecastAnswer, "forecast --preset"),
    AnswerKind(forecast_answers.CardCosts, "forecast --prices"),
    AnswerKind(forecast_answers.ForecastTable, "forecast"),
    AnswerKind(generate.Generation, "generate"),
    AnswerKind(stages.StagesAnswer, "stages"),
    AnswerKind(learn.LearnPage, "learn PAGE"),
    AnswerKind(search.SearchAnswer, "search"),
    AnswerKind(retention.RetentionAnswer, "retention"),
    AnswerKind(retention.SuitesAnswer, "retention --list"),
    AnswerKind(predict.PredictionsAnswer, "predict"),
    AnswerKind(advise.AdviceAnswer, "advise"),
    AnswerKind(judge.JudgeAnswer, "judge"),
    AnswerKind(redteam.RedTeamAnswer, "redteam"),
    AnswerKind(PredictionSettings, "predict: the first line of its file"),
    AnswerKind(Prediction, "predict: a row of its file"),
    AnswerKind(strength.StrengthAnswer, "strength"),
    AnswerKind(strength.SavedAnswer, "strength --save"),
    AnswerKind(export.ExportAnswer, "export"),
    AnswerKind(settings.SettingList, "settings"),
    AnswerKind(settings.SettingsWritten, "settings NAME=VALUE"),
    AnswerKind(CommandError, "every command that could not do what it was asked"),
)
#: The events that ``train``, ``watch``, ``resume`` and ``logs`` print, one a line.
EVENTS: tuple[type[RunEvent], ...] = get_args(KnownEvent)


def schema() -> Schema:
    """The JSON Schema of everything that is printed."""
    types = [*(each.type for each in ANSWERS), *EVENTS]
    refs, defs = msgspec.json.schema_components(types, schema_hook=_any_value, ref_template="#/$defs/{name}")
    for found in set().union(*map(_records, types)):
        _complete(defs[found.__name__], found)
    answers, events = refs[: len(ANSWERS)], refs[len(ANSWERS) :]
    defs = {name: _with_nan(defs[name]) for name in sorted(defs)}
    kinds = [*(each.kind for each in ANSWERS), *(str(event.__struct_config__.tag) for event in EVENTS)]
    other = {
        "description": "An event of another version.",
        "type": "object",
        "required": ["kind", "t"],
        "properties": {"kind": {"type": "string", "not": {"enum": kinds}}},
    }
    defs["Event"] = {"description": "A line of a run's event log.", "anyOf": [*events, other]}
    defs["Number"] = {
        "description": "A number; a text where JSON has none for it.",
        "anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Output of tui-lab with -o json",
        "anyOf": [*answers, {"$ref": "#/$defs/Event"}],
        "$defs": defs,
    }


def _any_value(kind: type) -> Schema:
    """The schema of a field that may hold any value."""
    if kind is object:
        return {"description": "any value"}  # msgspec takes no empty schema
    raise NotImplementedError(kind)


def _complete(definition: Schema, kind: type) -> None:
    """Says of a record that all its fields are printed, and no others. Events may come from other versions,
    and some records leave out what has no value."""
    definition["description"] = " ".join((kind.__doc__ or "").replace("``", "`").split())
    if issubclass(kind, RunEvent):
        return
    if not issubclass(kind, msgspec.Struct):
        if definition["type"] == "object":
            definition |= {"required": list(definition["properties"]), "additionalProperties": False}
        return
    if kind.__struct_config__.omit_defaults:
        return
    hints = get_type_hints(kind)
    names = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
    always = [names[name] for name in names if UnsetType not in get_args(hints[name])]
    tag = kind.__struct_config__.tag_field
    definition |= {"required": [*([tag] if tag else []), *always], "additionalProperties": False}


def _records(kind: object) -> set[type]:
    """A type's records, and those of its fields."""
    found: set[type] = set()
    waiting = [kind]
    while waiting:
        each = waiting.pop()
        waiting += get_args(each)
        if isinstance(each, type) and each not in found:
            is_tuple = issubclass(each, tuple) and hasattr(each, "_fields")
            if issubclass(each, msgspec.Struct) or is_dataclass(each) or is_tuple:
                found.add(each)
                waiting += get_type_hints(each).values()
    return found


def _with_nan(value: Any) -> Any:
    """A schema whose numbers may be "nan", "inf" or "-inf", for which JSON has no number."""
    if isinstance(value, list):
        return [_with_nan(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "number":
        return {"$ref": "#/$defs/Number", **{key: each for key, each in value.items() if key != "type"}}
    return {key: each if key == "default" else _with_nan(each) for key, each in value.items()}


def schema_text() -> str:
    """The schema as it is in docs/: one line for each record."""
    made = schema()
    defs = made.pop("$defs")
    lines = [f"  {json.dumps(name)}: {json.dumps(each)}" for name, each in defs.items()]
    head = json.dumps(made, indent=1).removesuffix("\n}")
    return head + ',\n "$defs": {\n' + ",\n".join(lines) + "\n }\n}\n"


INTRO = """\
# Output for programs

Every command that prints a result takes `-o json` (also `--json`). Then stdout has strict JSON in ASCII and
nothing else; progress and notes go to stderr.

- Every record has `kind`, which says which one it is, and `v`, the version of that kind. Within a version
  fields may be added, so ignore those you do not know.
- Lists are under `items`. Where earlier versions had them under another name they are there too.
- `train`, `watch`, `resume` and `logs` print one record a line: the events of the run as they happen, and
  `result` as the last. All other commands print one record.
- A command that cannot do what it was asked prints a record of kind `error`. Its `error` has `message`,
  `hint` and `exit_code`; the exit code is the same as without `-o json`, and stderr has the same sentence.
- `null` is unknown. NaN and infinities are the strings `"nan"`, `"inf"` and `"-inf"`.
- Sizes are bytes, times seconds and energy joules, unless the name has another unit.

```sh
tui-lab runs -o json | jq -r '.items[] | select(.state == "finished") | .run'
tui-lab train --data rows.jsonl -o json | jq -r 'select(.kind == "result") | .saved'
```

[json.schema.json](json.schema.json) is the JSON Schema (2020-12) of all records. Both files are made from the
records in the code (`make json`); tests compare them with what the commands print.

| `kind` | command | fields |
|---|---|---|
"""


def page() -> str:
    """The page on the output: the rules, and a table of the answers and events."""
    rows = []
    for each in ANSWERS:
        fields = ", ".join(f"`{name}`" for name in each.type.__struct_encode_fields__ if name != "v")
        rows.append(f"| `{each.kind}` | {each.commands} | {fields} |")
    text = INTRO + "\n".join(rows) + "\n\n## Events\n\n| `kind` | event |\n|---|---|\n"
    for event in EVENTS:
        about = " ".join((event.__doc__ or "").replace("``", "`").split()).replace("|", "\\|")
        text += f"| `{event.__struct_config__.tag}` | {_without_roles(about)} |\n"
    return text


def _without_roles(text: str) -> str:
    return re.sub(r":\w+:`~?([^`]*)`", r"`\1`", text)


if __name__ == "__main__":
    sys.stdout.write(page() if sys.argv[1:] == ["page"] else schema_text())
