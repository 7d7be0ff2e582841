"""The token inspector: drawn for records made here by hand at every size, walked with keys, fed with text
that wants to break out; and once over a lane that a real model decoded."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.app import App

from tests.ui.helpers import lane_done, screen_text, until
from tui_lab.core.errors import LabError
from tui_lab.core.sanitize import sanitize
from tui_lab.decoding.records import Alternative, Candidate, Hypothesis, TokenRecord
from tui_lab.playground.messages import Beams, LaneDone, ScoredToken
from tui_lab.ui.app import LabApp
from tui_lab.ui.screens.inspector import Inspector, JudgedLane, merged
from tui_lab.ui.views.inspector_aligned import aligned, aligned_rows
from tui_lab.ui.views.inspector_draw import PANEL_COLUMNS, draw, lay_out, panels_shown, row_of, token_text
from tui_lab.ui.views.inspector_panels import warping_rows, what_happened
from tui_lab.ui.views.inspector_state import InspectorState, level
from tui_lab.ui.widgets.inspector import InspectorView

SIZES = [(60, 18), (80, 24), (120, 40), (200, 60)]
HOSTILE = [
    "\x1b[31mred\x1b[0m",
    "[bold]markup[/bold]",
    "漢字かな",
    "👩‍👩‍👧",
    "مرحبا",
    "\u202eabc",
    "\r",
    "\x07",
    "x" * 300,
]


def token(at: int, text: str, probability: float = 0.5, **more: Any) -> TokenRecord:
    fields: dict[str, Any] = {"lane": 0, "position": at, "token_id": 100 + at, "text": text, "rank": 1}
    return TokenRecord(**{**fields, "logprob": math.log(probability), "entropy": 1.0, **more})


def lane(tokens: list[TokenRecord], description: str = "top-p top_p=0.9 seed=1") -> LaneDone:
    text, ids = "".join(token.text for token in tokens), tuple(token.token_id for token in tokens)
    return lane_done(0, description, text, token_ids=ids, tokens=tuple(tokens), prompt_token_ids=(7,))


def drawn(scene: InspectorState, width: int = 80, height: int = 23) -> str:
    rows = draw(scene, lay_out([t.text for t in scene.tokens], width), width, height)
    assert len(rows) <= height
    assert all(sum(cell_len(part.text) for part in row) == width for row in rows)
    return "\n".join("".join(part.text for part in row) for row in rows)


def line_of(text: str, word: str) -> str:
    """The row of a panel that is about a token."""
    return next(row for row in text.splitlines() if f"␣{word} " in row and "%" in row and " id " not in row)


ALTERNATIVES = (
    Alternative(100, " fox", math.log(0.6), 0.8),
    Alternative(5, " hen", math.log(0.15), 0.2),
    Alternative(6, " cow", math.log(0.05), 0.0, "top_p"),
    Alternative(8, "\n", math.log(0.04), 0.0, "top_k"),
)
TOLD = lane([token(0, " fox", 0.6, alternatives=ALTERNATIVES), token(1, " ran", 0.001, rank=41)])


def test_the_effect_of_each_setting_is_named() -> None:
    text = drawn(InspectorState(TOLD))
    lines = {
        line.split()[1 if line.startswith("▶") else 0]: line for line in text.splitlines() if "%" in line
    }
    assert "60.0%" in lines["␣fox"] and "80.0%" in lines["␣fox"] and "↑ ×1.33 from cuts" in lines["␣fox"]
    assert lines["␣fox"].startswith("▶") and not lines["␣hen"].startswith("▶")
    assert "✂ top-p" in lines["␣cow"] and "0%" in lines["␣cow"] and "✂ top-k" in lines["⏎"]
    assert "top-p 0.9 cuts 1 of these 4" in text
    assert "rank 1" in text and "surprise 0.74 bits" in text and "entropy 1.44 bits" in text
    assert "as if 2.7 tokens" in text and "0.72 bits after warping" in text  # −.8 log2 .8 − .2 log2 .2
    # a bar twice as long for twice the probability: 60 % and 15 %
    long, short = (lines[name].split()[2 if name == "␣fox" else 1] for name in ("␣fox", "␣hen"))
    assert len(long) / len(short) == pytest.approx(4, rel=0.2)


@pytest.mark.parametrize(
    ("description", "after", "before_in_text", "said"),
    [
        ("temperature t=0.5", 0.7, False, "↑ ×1.40 temperature"),
        ("temperature t=2", 0.4, False, "↓ ×0.80 temperature"),
        ("temperature t=0", 0.0, False, "✂ temperature 0"),
        ("greedy", 1.0, False, "✓ greedy"),
        ("sample penalty=1.3", 0.25, True, "↓ ×0.50 repetition"),
        ("sample penalty=1.3", 0.5, False, "="),
        ("sample", 0.5, False, "="),
    ],
)
def test_causes(description: str, after: float, before_in_text: bool, said: str) -> None:
    strategy = InspectorState(lane([], description)).strategy
    assert what_happened(Alternative(1, "a", math.log(0.5), after), strategy, before_in_text)[0] == said


def test_the_decoded_token_is_shown_in_any_panel() -> None:
    many = tuple(Alternative(i, f" w{i}", -float(i + 1), 0.01) for i in range(30))
    record = token(0, " w29", math.exp(-30), token_id=29, rank=30, alternatives=many)
    rows = warping_rows(InspectorState(lane([record], "sample seed=1")), 60, 6)
    text = ["".join(part.text for part in row) for row in rows]
    assert len(rows) == 6 and "▶ ␣w29" in text[-1]


def test_candidates_of_contrastive_search() -> None:
    weighed = (Candidate(100, " fox", 0.7, 0.9, -0.26), Candidate(5, " hen", 0.2, 0.1, 0.02))
    scene = InspectorState(lane([token(0, " hen", token_id=5, candidates=weighed)], "contrastive a=0.6 k=2"))
    text = drawn(replace(scene, view="candidates"))
    fox, hen = line_of(text, "fox"), line_of(text, "hen")
    assert "70.0%" in fox and "0.900" in fox and "-0.260" in fox and "best" not in fox
    assert hen.startswith("▶") and "+0.020 best" in hen
    assert "0.4 · confidence − 0.6 · penalty" in text


def test_hypotheses_of_a_beam_search() -> None:
    done = lane([token(0, " a", token_id=1), token(1, " b", token_id=2)], "beam num_beams=2")
    steps = {
        1: Beams(0, 1, (Hypothesis((1,), " a", -0.5, False), Hypothesis((3,), " c", -0.7, False))),
        2: Beams(0, 2, (Hypothesis((1, 2), " a b", -1.25, False), Hypothesis((3, 0), " c", -0.9, True))),
    }
    first, second = (drawn(InspectorState(done, steps, position=at, view="beams")) for at in (0, 1))
    assert "step 1: 2 live, 0 finished" in first and "-0.700" in first
    assert "step 2: 1 live, 1 finished" in second and "finished" in second
    assert any(line.startswith("▶") and "␣a␣b" in line for line in second.splitlines())
    assert not any(line.startswith("▶") and "␣c" in line for line in second.splitlines())


def test_base_and_tuned_side_by_side() -> None:
    scores_by_model = {
        "base": [ScoredToken(100, math.log(0.1), 3, 2.0, ((9, " dog", math.log(0.4)),))],
        "tuned": [ScoredToken(100, math.log(0.9), 1, 0.5, ((100, " fox", math.log(0.9)),))],
    }
    text = drawn(
        InspectorState(lane([token(0, " fox", 0.9)]), scores_by_model=scores_by_model, view="models")
    )
    fox, dog = line_of(text, "fox"), line_of(text, "dog")
    assert "10.0%" in fox and "90.0%" in fox and "+80.0 pt" in fox
    assert "40.0%" in dog and "–" in dog  # the tuned model's share of it is not known
    assert "base: rank 3, 3.32 bits, entropy 2.89" in text and "tuned: rank 1" in text


@pytest.mark.parametrize(
    ("probability", "size"), [(1.0, 0), (0.6, 0), (0.4, 1), (0.1, 2), (0.01, 3), (0.0005, 4)]
)
def test_surprise_is_shown_without_colours(probability: float, size: int) -> None:
    assert level(math.log(probability)) == size
    scene = InspectorState(lane([token(0, "first"), token(1, " word", probability)]))
    for marks, glyphs, here in (("block", " ▁▃▅█", "▲"), ("ascii", " .-=#", "^")):
        under = drawn(replace(scene, marks=marks)).splitlines()[2]  # type: ignore[arg-type]
        assert under.rstrip() == here * 5 + (glyphs[size] * 5 if size else "")


def test_ascii_marks_draw_ascii() -> None:
    text = drawn(InspectorState(TOLD, marks="ascii"))
    assert not set("█▌▏▶▲─") & set(text) and "####" in text


# ------------------------------------------------------------------ text of all kinds

texts = st.lists(
    st.one_of(st.text(max_size=12), st.sampled_from([*HOSTILE, " ", "\n\n", "", " a", "\t"])), max_size=60
)


@given(texts, st.integers(4, 120), st.data())
def test_layout_holds_every_token_in_order(pieces: list[str], width: int, data: Any) -> None:
    rows = lay_out(pieces, width)
    assert all(sum(cell_len(place.text) for place in row) <= width for row in rows)
    order = [place.token for row in rows for place in row]
    assert order == sorted(order) and set(order) == set(range(len(pieces)))
    if pieces:
        at = data.draw(st.integers(0, len(pieces) - 1))
        assert row_of(rows, at) == next(n for n, row in enumerate(rows) if any(p.token == at for p in row))


@given(texts, st.integers(40, 200), st.integers(8, 60), st.data())
def test_text_is_sanitized_at_any_size(pieces: list[str], width: int, height: int, data: Any) -> None:
    others = [
        (Alternative(100 + at, t, -1.2, 0.5), Alternative(1, t, -3.0, 0.0)) for at, t in enumerate(pieces)
    ]
    tokens = [token(at, text, 0.3, alternatives=others[at]) for at, text in enumerate(pieces)]
    position = data.draw(st.integers(0, max(0, len(pieces) - 1)))
    text = drawn(InspectorState(lane(tokens), position=position), width, height)
    assert sanitize(text, keep_newlines=True) == text
    assert not set("\x1b\x07\r\u202e\u202d\x00\t") & set(text)


@pytest.mark.parametrize("text", ["", " ", "\n", "\t", "\x1b", "\u200b"])
def test_a_token_text_is_never_blank(text: str) -> None:
    assert token_text(text, 3).strip()


def test_ten_thousand_tokens_without_a_blank() -> None:
    scene = InspectorState(lane([token(at, "ab") for at in range(10_000)]), position=9_999)
    rows = lay_out([t.text for t in scene.tokens], 80)
    assert len(rows) == 250
    assert "10000/10000" in "\n".join("".join(p.text for p in row) for row in draw(scene, rows, 80, 23))


def test_as_many_panels_as_fit() -> None:
    scene = InspectorState(TOLD, scores_by_model={"base": []}, beams={1: Beams(0, 1, ())})
    assert [len(panels_shown(scene, n * PANEL_COLUMNS)) for n in (1, 2, 3, 4)] == [1, 2, 3, 3]


def test_details_of_another_decoding_apply_to_the_common_prefix() -> None:
    plain = lane([token(0, " fox"), token(1, " ran"), token(2, " off")])
    told = [msgspec.structs.replace(t, alternatives=ALTERNATIVES) for t in plain.tokens]
    told[1] = msgspec.structs.replace(told[1], token_id=999)
    both = merged(plain, lane(told))
    assert [bool(t.alternatives) for t in both.tokens] == [True, False, False]
    assert both.token_ids == plain.token_ids


# ------------------------------------------------------------------ on the screen


def screen_of(done: LaneDone = TOLD, **how: Any) -> tuple[App[None], Inspector]:
    inspector = Inspector(done, **how)

    class Bare(App[None]):
        def on_mount(self) -> None:
            self.push_screen(inspector)

    return Bare(), inspector


#: Keys, and the token that they lead to.
WALK: list[tuple[list[str], int]] = [
    (["right"], 2), (["l", "l"], 4), (["h"], 3), (["left"] * 9, 1), (["end"], 60), (["pageup"], 40),
    (["home"], 1), (["n"], 31), (["n"], 31), (["end", "N"], 31), (["down"], 0),
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
async def test_keys_move_along_a_lane(size: tuple[int, int]) -> None:
    words = lane(
        [token(at, f" word{at}" if at != 30 else "\x1b[2J", 0.001 if at == 30 else 0.9) for at in range(60)]
    )
    app, inspector = screen_of(words)
    async with app.run_test(size=size) as pilot:
        await until(lambda: "token 1/60" in screen_text(app))
        for keys, place in WALK:
            await pilot.press(*keys)
            if place:
                await until(
                    lambda place=place: f"token {place}/60" in screen_text(app), what=f"{keys} {place}"
                )  # type: ignore[misc]
            assert "\x1b" not in screen_text(app)
        assert inspector.query_one(InspectorView).scene.position > 31  # a row down
        await pilot.press("escape")
        await until(lambda: not isinstance(app.screen, Inspector))


async def test_only_changed_rows_are_redrawn() -> None:
    app, inspector = screen_of(lane([token(at, " w", alternatives=ALTERNATIVES) for at in range(200)]))
    async with app.run_test(size=(120, 40)) as pilot:
        view = inspector.query_one(InspectorView)
        await until(lambda: view.text)
        before = view.rows_sent
        await pilot.press("right")
        assert 0 < view.rows_sent - before <= 8


async def test_a_click_goes_to_the_token() -> None:
    app, inspector = screen_of(lane([token(at, f" w{at}") for at in range(9)]))
    async with app.run_test(size=(80, 24)) as pilot:
        view = inspector.query_one(InspectorView)
        await until(lambda: view.text)
        await pilot.click(InspectorView, offset=(7, 1))
        assert view.scene.position == 2


async def test_models_score_once_and_colour_the_text() -> None:
    asked: list[int] = []
    answer = asyncio.Event()

    async def judge() -> JudgedLane:
        asked.append(1)
        await answer.wait()
        scores = [ScoredToken(100, math.log(0.25), 2, 1.0), ScoredToken(101, math.log(0.5), 1, 1.0)]
        return JudgedLane({"base": scores}, ("Tell ", "me."))

    app, inspector = screen_of(TOLD, judge=judge)
    async with app.run_test(size=(80, 24)) as pilot:
        view = inspector.query_one(InspectorView)
        await pilot.press("tab")
        await until(lambda: "Asking the models" in screen_text(app))
        answer.set()
        await until(lambda: "base: rank 2, 2.00 bits" in screen_text(app))
        await pilot.press("c", "right")
        await until(lambda: "coloured by base" in screen_text(app))
        assert view.scene.logprob(1) == math.log(0.5) and asked == [1]


async def test_a_refusal_is_one_sentence() -> None:
    async def judge() -> JudgedLane:
        raise LabError("the process was killed by SIGKILL\x1b[2J")

    app, _ = screen_of(TOLD, judge=judge)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("tab")
        await until(
            lambda: "The models cannot be queried: the process was killed by SIGKILL" in screen_text(app)
        )


@pytest.mark.parametrize(
    ("done", "said"),
    [(lane([]), "The lane has no tokens."), (lane([token(0, " a")]), "without details")],
)
async def test_a_lane_without_tokens_and_one_without_details(done: LaneDone, said: str) -> None:
    app, _ = screen_of(done)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: said in screen_text(app))
        await pilot.press("right", "left", "down", "tab", "n", "c", "end")
        assert isinstance(app.screen, Inspector)


async def test_keys_are_explained() -> None:
    _, inspector = screen_of()
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: "starts the run" in screen_text(app))
        await app.push_screen(inspector)
        await until(lambda: inspector.query_one(InspectorView).text)
        await pilot.press("question_mark")
        await until(lambda: "Next surprise" in screen_text(app) and "Setup" in screen_text(app))
        await pilot.press("escape", "f1")
        await until(lambda: "Go to the previous token." in screen_text(app) and "−log2" in screen_text(app))
        await pilot.press("escape")
        await until(lambda: app.screen is inspector)


async def test_the_prompt_with_earlier_turns_stands_over_the_answer() -> None:
    async def judge() -> JudgedLane:
        return JudgedLane({"base": []}, ("<user>", "Hello", "\n", "<bot>"))

    app, inspector = screen_of(TOLD, judge=judge)
    async with app.run_test(size=(80, 24)) as pilot:
        view = inspector.query_one(InspectorView)
        await until(lambda: "<user>Hello" in screen_text(app))
        await pilot.press("left")
        assert view.scene.position == -1
        await until(lambda: "of the prompt" in screen_text(app))
        await pilot.press("home")
        assert view.scene.position == -4
        await pilot.press("n")
        assert view.scene.position == 1, "the next surprise is in the answer"
        await pilot.press("end", "home")
        assert view.scene.position == 0, "first the beginning of the answer"


def test_base_and_tuned_are_aligned_token_by_token() -> None:
    def spoken(on: str, *words: str) -> LaneDone:
        tokens = [token(n, word, token_id=sum(map(ord, word))) for n, word in enumerate(words)]
        return msgspec.structs.replace(lane(tokens, f"greedy on={on}"), on=on)

    base = spoken("base", "the", " old", " fox", " ran")
    tuned = spoken("shop", "the", " fox", " ran", " off")
    low, high = ScoredToken(1, math.log(0.25), 2, 1.0), ScoredToken(1, math.log(0.5), 1, 1.0)
    for done, theirs in ((base, tuned), (tuned, base)):
        scores = {"base": [low] * 4, "shop": [high] * 4}
        their_scores = {"base": [high] * 4, "shop": [low] * 4}
        if done is tuned:
            scores, their_scores = their_scores, scores
        scene = InspectorState(
            done, scores_by_model=scores, theirs=theirs, their_scores=their_scores, view="aligned", position=1
        )
        assert scene.views[-1] == "aligned"
        rows = ["".join(part.text for part in row) for row in aligned_rows(scene, 70, 9)]
        assert all(cell_len(row) == 70 for row in rows)
        cells = [row.replace("▶", " ").split() for row in rows[2:]]
        assert cells[0] == ["the", "-2.00", "-1.00", "the", "-1.00", "-2.00"]
        assert cells[1] == ["␣old", "-2.00", "-1.00", "×"]
        assert cells[2][0] == cells[2][3] == "␣fox"
        assert cells[3][0] == cells[3][3] == "␣ran"
        assert cells[4] == ["×", "␣off", "-1.00", "-2.00"]
        marked = next(row for row in rows if row.startswith("▶"))
        assert ("␣old" if done is base else "␣fox") in marked


@given(st.lists(st.integers(0, 3), max_size=12), st.lists(st.integers(0, 3), max_size=12))
def test_an_alignment_has_every_token_once_in_order(left: list[int], right: list[int]) -> None:
    pairs = aligned(tuple(left), tuple(right))
    assert [at for at, _ in pairs if at is not None] == list(range(len(left)))
    assert [at for _, at in pairs if at is not None] == list(range(len(right)))
    assert (None, None) not in pairs
    if left == right:
        assert all(a == b for a, b in pairs)
