"""The lab's own measurement of a recipe, as ``tui-lab forecast --calibrate`` and Setup make it."""

from __future__ import annotations

from tests.gpu.bench import Bench, PartLog
from tui_lab.forecast.jobs import CalibrationRequest
from tui_lab.training import calibrate

MODEL = "Qwen/Qwen2.5-0.5B"


def run(bench: Bench, log: PartLog) -> None:
    """Runs the part."""
    model = bench.pick(MODEL, "pocket")
    length = bench.pick(300, 24)
    with log.case("calibration"):
        recipe = bench.recipe(model, "starter")
        request = CalibrationRequest(values=recipe.model_dump(), lengths=[length])
        answer = calibrate.handle(request, lambda *_: None)
        log.figure("calibration", answer.tok_per_s, "tok/s")
        if answer.power_w is None:
            log.missing("calibration: power", "the driver does not report it")
        else:
            log.figure("calibration: power", answer.power_w, "W")
        if answer.mfu is None:
            log.missing("calibration: MFU", f"the rate of {answer.device} is not in the table of cards")
        else:
            log.figure("calibration: MFU", answer.mfu, "")
        log.check("calibration: the device is named", bool(answer.device), answer.device)
    bench.free_memory()
