"""Judges: a model on this machine, which is read by the probabilities of the letters, and an endpoint that
speaks OpenAI's protocol. An endpoint is contacted only where the user asks for it; its address and key come
from the settings and the environment and are written nowhere."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tui_lab.core.errors import LabError
from tui_lab.core.job_protocol import OnProgress
from tui_lab.core.sanitize import sanitize
from tui_lab.data.rows import ChatMessage, Model, Tokenizer
from tui_lab.evaluation import prompts
from tui_lab.evaluation.judging import LETTERS, letter_of
from tui_lab.evaluation.records import EvaluationRequest
from tui_lab.evaluation.request import resolve_target
from tui_lab.evaluation.weights import load_weights

ENDPOINT = "endpoint"
URL, KEY, MODEL = "TUI_LAB_JUDGE_URL", "TUI_LAB_JUDGE_KEY", "TUI_LAB_JUDGE_MODEL"
TIMEOUT_S, TRIES, WAIT_S = 60.0, 4, 1.0
MAX_REPLY_BYTES, REPLY_TOKENS = 1 << 20, 16
#: Answers of an endpoint that a later try may not get.
PASSING = frozenset({408, 409, 429, 500, 502, 503, 504})


class AnswerJudge(Protocol):
    """Replies to questions. ``identity`` says which judge it is, for the cache."""

    name: str
    identity: str

    def letter(self, question: str, letters: Sequence[str] = LETTERS) -> str:
        """One of the letters; "" for a reply that cannot be read. Raises LabError."""

    def text(self, question: str, max_new_tokens: int) -> str:
        """The reply as text; "" for a question longer than the model's context. Raises LabError."""


class ModelJudge:
    """A model on this machine. The letter is that with the largest probability after the question."""

    def __init__(self, name: str, identity: str, model: Model, tokenizer: Tokenizer) -> None:
        self.name, self.identity = name, identity
        self._model, self._tokenizer = model.train(False), tokenizer

    def letter(self, question: str, letters: Sequence[str] = LETTERS) -> str:
        import torch

        if not (ids := self._prompt(question, 0)):
            return ""
        replies = [self._tokenizer.encode(letter, add_special_tokens=False)[-1] for letter in letters]
        with torch.no_grad():
            place = torch.tensor([ids], device=self._model.device)
            logits = self._model(input_ids=place, logits_to_keep=1).logits[0, -1, replies]
        return letters[int(logits.float().argmax())]

    def text(self, question: str, max_new_tokens: int) -> str:
        from tui_lab.data import row_tokens
        from tui_lab.decoding.generate import generate_answers

        if not (ids := self._prompt(question, max_new_tokens)):
            return ""
        stops = row_tokens.stop_ids(self._tokenizer, self._model, chat=bool(self._tokenizer.chat_template))
        return generate_answers(
            self._model, self._tokenizer, [ids], stop_ids=stops, max_new_tokens=max_new_tokens
        )[0]

    def _prompt(self, question: str, more: int) -> list[int]:
        """The tokens of a question; none where they and ``more`` are longer than the context."""
        from tui_lab.data import row_tokens
        from tui_lab.decoding.context import context_length

        asked: ChatMessage = {"role": "user", "content": question}
        ids = row_tokens.prompt_ids(self._tokenizer, [asked])
        context = context_length(self._model.config)
        return [] if context is not None and len(ids) + more > context else ids


class EndpointJudge:
    """A model behind an OpenAI-compatible address, with bounded tries, time and size."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """Raises LabError for settings that are missing or cannot be used."""
        variables = os.environ if environment is None else environment
        address, self.name = variables.get(URL, "").strip(), variables.get(MODEL, "").strip()
        if not address or not self.name:
            raise LabError(
                f"no endpoint is set: {URL} is its address, as https://host/v1, {MODEL} the model there, "
                f"and {KEY} the key if it needs one"
            )
        try:
            parts = urllib.parse.urlsplit(address)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            usable = False
        if not usable or parts.username or parts.password:
            raise LabError(
                f"{URL} must be an address such as https://host/v1, without a name or password in it"
            )
        if (
            parts.scheme == "http"
            and parts.hostname not in ("localhost", "127.0.0.1", "::1")
            and variables.get(KEY)
        ):
            raise LabError(f"{URL} is not https: the key would be sent in the clear; use https or no {KEY}")
        self._url = f"{address.rstrip('/')}/chat/completions"
        self._key = variables.get(KEY, "").strip()
        self.identity = f"{self.name} at {parts.hostname}"

    def letter(self, question: str, letters: Sequence[str] = LETTERS) -> str:
        return letter_of(self.text(question, REPLY_TOKENS), letters)

    def text(self, question: str, max_new_tokens: int) -> str:
        body = {
            "model": self.name,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": max_new_tokens,
        }
        reply = self._post(json.dumps(body).encode())
        try:
            return str(reply["choices"][0]["message"]["content"])
        except (KeyError, IndexError, TypeError):
            raise LabError(
                f"the endpoint of {sanitize(self.name)} does not answer as OpenAI's protocol says"
            ) from None

    def _post(self, body: bytes) -> Any:
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        problem = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(WAIT_S * 2 ** (attempt - 1))
            request = urllib.request.Request(self._url, body, headers)
            try:
                with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
                    return _parsed(answer.read(MAX_REPLY_BYTES + 1))
            except urllib.error.HTTPError as error:
                problem = f"it answered {error.code} {error.reason}"
                error.close()
                if error.code not in PASSING:
                    break
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)
                problem = str(getattr(reason, "strerror", None) or reason) or type(error).__name__
            except ValueError:
                problem = f"its reply is no JSON of at most {MAX_REPLY_BYTES >> 20} MiB"
                break
        raise LabError(
            f"the judge {sanitize(self.name)} cannot be asked: {sanitize(problem)}; what was judged is kept"
        )


#: Loads a judge; the argument reports progress.
LoadJudge = Callable[[OnProgress], AnswerJudge]


def judge_named(name: str, target: EvaluationRequest) -> LoadJudge:
    """The judge of a name: :data:`ENDPOINT` (or "") is that of the settings, else a model. ``target``: whose
    folders and limits it is found with. Raises LabError for one that does not exist."""
    if name in ("", ENDPOINT):
        endpoint = EndpointJudge()
        return lambda _: endpoint
    wanted = EvaluationRequest(model=name, allow_large=target.allow_large, runs_dir=target.runs_dir)
    found = resolve_target(wanted)
    if found.tuned is not None:
        raise LabError(f"--judge {sanitize(name)} is a run: a judge is a complete model")

    def load(on_progress: OnProgress) -> AnswerJudge:
        tokenizer = prompts.measuring_tokenizer(found.base.location, found.base.revision, None)
        model = load_weights(found.base, found.label, found.how, wanted.allow_large, on_progress)
        return ModelJudge(found.label, f"{found.base_identity} {found.how}", model, tokenizer)

    return load


def _parsed(reply: bytes) -> Any:
    if len(reply) > MAX_REPLY_BYTES:
        raise ValueError
    try:
        return json.loads(reply)
    except RecursionError:
        raise ValueError from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would send the key elsewhere."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)
