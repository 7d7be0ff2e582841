"""The inspector over lanes that the bundled model really decoded, in a process of its own."""

from __future__ import annotations

import pytest
from textual.app import App

from tests.ui.helpers import screen_text, until
from tui_lab.playground.client import PlaygroundClient
from tui_lab.playground.messages import GenerateRequest
from tui_lab.pocket import MODEL_DIR
from tui_lab.ui.screens.inspector import inspect_lane
from tui_lab.ui.widgets.inspector import InspectorView

LANES = ("top-p top_p=0.5 seed=1", "beam num_beams=3", "contrastive")


@pytest.mark.skipif(not (MODEL_DIR / "model.safetensors").is_file(), reason="the model is not built yet")
async def test_what_a_lane_lacks_is_requested_from_the_playground(playground_in_process: None) -> None:
    client = PlaygroundClient()
    try:
        await client.load("pocket", dtype="float32")
        ask = GenerateRequest("What is the capital of France?", LANES, max_new_tokens=8)
        done = await client.generate(ask, lambda event: None)
        assert not any(token.alternatives for lane in done for token in lane.tokens)
        for lane, panel in zip(done, ("after warping", "live,", "degeneration"), strict=True):
            inspector = inspect_lane(client, ask, lane)

            app: App[None] = App()
            async with app.run_test(size=(120, 40)):
                await app.push_screen(inspector)
                await until(lambda app=app, panel=panel: panel in screen_text(app), what=panel)  # type: ignore[misc]
                await until(lambda app=app: "base: rank" in screen_text(app))  # type: ignore[misc]
                view = inspector.query_one(InspectorView)
                assert view.scene.done.token_ids == lane.token_ids
                scores = view.scene.scores_by_model["base"]
                # one forward pass over the text gives the same as the steps
                for token, seen in zip(lane.tokens, scores, strict=True):
                    assert seen.logprob == pytest.approx(token.logprob, abs=1e-3) and seen.rank == token.rank
    finally:
        await client.close()
