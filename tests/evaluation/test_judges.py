"""Judges: letters by the probabilities of the bundled model, and an endpoint on this machine that fails in
the ways of endpoints."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tui_lab.core.errors import LabError
from tui_lab.evaluation import judges
from tui_lab.evaluation.judges import EndpointJudge

ReplyT = tuple[int, bytes]


def reply(text: str) -> ReplyT:
    return 200, json.dumps({"choices": [{"message": {"content": text}}]}).encode()


class Endpoint:
    """A server that gives its replies in turn and keeps what it was asked."""

    def __init__(self) -> None:
        self.replies: list[ReplyT] = []
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked.append({"path": self.path, **json.loads(body)})
                outer.keys.append(self.headers.get("Authorization"))
                status, text = outer.replies.pop(0)
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                """Nothing on stderr."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setattr(judges, "WAIT_S", 0.001)
    found = Endpoint()
    yield found
    found.server.shutdown()
    found.server.server_close()


def judge(endpoint: Endpoint, **more: str) -> EndpointJudge:
    return EndpointJudge({judges.URL: endpoint.url, judges.MODEL: "big", **more})


def test_an_endpoint_is_asked_with_its_key(endpoint: Endpoint) -> None:
    endpoint.replies = [reply("[[B]]"), reply("no idea")]
    asked = judge(endpoint, **{judges.KEY: "secret"})
    assert (asked.letter("Which?"), asked.letter("And?")) == ("B", "")
    assert endpoint.asked[0]["path"] == "/v1/chat/completions" and endpoint.asked[0]["model"] == "big"
    assert endpoint.asked[0]["messages"] == [{"role": "user", "content": "Which?"}]
    assert endpoint.keys[0] == "Bearer secret" and "secret" not in asked.identity


def test_passing_faults_are_tried_again_a_bounded_number_of_times(endpoint: Endpoint) -> None:
    endpoint.replies = [(429, b""), (503, b""), reply("A")]
    assert judge(endpoint).letter("q") == "A" and len(endpoint.asked) == 3
    endpoint.replies = [(500, b"")] * 9
    with pytest.raises(LabError, match="answered 500"):
        judge(endpoint).letter("q")
    assert len(endpoint.asked) == 3 + judges.TRIES


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((401, b""), "answered 401"),
        ((302, b""), "answered 302"),  # a redirect would take the key elsewhere
        ((200, b"<html>"), "no JSON"),
        ((200, b"[" * 200_000), "no JSON"),
        ((200, b'"' + b"x" * (judges.MAX_REPLY_BYTES + 9) + b'"'), "no JSON"),
        ((200, b'{"choices": []}'), "OpenAI's protocol"),
        ((200, b"[]"), "OpenAI's protocol"),
    ],
)
def test_other_faults_are_one_sentence(endpoint: Endpoint, answer: ReplyT, sentence: str) -> None:
    endpoint.replies = [answer]
    with pytest.raises(LabError, match=sentence) as found:
        judge(endpoint, **{judges.KEY: "secret"}).letter("q")
    assert "secret" not in str(found.value) and len(endpoint.asked) == 1


def test_an_endpoint_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judges, "WAIT_S", 0.001)
    with pytest.raises(LabError, match="cannot be asked"):
        EndpointJudge({judges.URL: "http://127.0.0.1:9/v1", judges.MODEL: "m"}).letter("q")


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, "no endpoint is set"),
        ({judges.URL: "https://host/v1"}, "no endpoint is set"),
        ({judges.URL: "host/v1", judges.MODEL: "m"}, "must be an address"),
        ({judges.URL: "file:///etc/passwd", judges.MODEL: "m"}, "must be an address"),
        ({judges.URL: "https://me:pw@host/v1", judges.MODEL: "m"}, "without a name or password"),
        ({judges.URL: "http://host/v1", judges.MODEL: "m", judges.KEY: "k"}, "not https"),
        ({judges.URL: "http://[", judges.MODEL: "m"}, "must be an address"),
    ],
)
def test_settings_that_cannot_be_used(variables: dict[str, str], sentence: str) -> None:
    with pytest.raises(LabError, match=sentence):
        EndpointJudge(variables)
