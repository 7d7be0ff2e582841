"""Each red flag on a made-up log that must raise it, and on its nearest harmless relative that must not."""

from tests.runs.flag_rules.events import falling, found, steps


def test_throughput() -> None:
    speeds = [1_000.0] * 190 + [400.0] * 10
    assert found(steps(falling(), tok_per_s=speeds))["slowed_down"].severity == "amber"
    speeds[-8:] = [1_000.0] * 8
    assert "slowed_down" not in found(steps(falling(), tok_per_s=speeds))


def test_memory() -> None:
    failed = {"kind": "end", "state": "failed", "message": "the GPU is out of memory: halve the batch"}
    assert found([failed])["out_of_memory"].severity == "red"
    assert found([{**failed, "message": "the disk is full"}]) == {}
    rung = {"kind": "ladder", "step": 5, "rung": "split", "text": "memory ran out at step 5", "cost": "time"}
    held_out = {**rung, "step": 9, "rung": "validation", "text": "held-out rows"}
    flag = found([rung, held_out])["out_of_memory"]
    assert (flag.severity, flag.step, flag.sentence) == ("amber", 5, "Memory ran out at step 5.")
    assert "costs: time" in flag.remedy
    measured = {"kind": "ladder_cost", "text": "a step takes 2 s since memory ran out, 1 s before (+100%)"}
    assert "+100%" in found([rung, measured])["out_of_memory"].remedy
    assert found([rung, failed])["out_of_memory"].severity == "red"
    started = {"kind": "started", "device": {"memory_bytes": 100}}
    assert "97%" in found([started], steps([1.0], memory={"gpu": 97}))["memory_almost_full"].sentence
    assert found([started], steps([1.0], memory={"gpu": 80})) == {}
    assert found([started], steps([1.0], memory={"rss": 97})) == {}
