"""``tui-lab serve`` with OpenAI's own client over a real socket: chat and completions, whole and streamed, on
the base and on an adapter. The answers are those of the playground process for the same lane."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
import pytest_asyncio
import uvicorn

from tests.playground.in_process import ThreadProcess
from tests.ui.helpers import until
from tui_lab.core.errors import LabError
from tui_lab.decoding.session import DecodingSession
from tui_lab.playground import __main__ as playground_main
from tui_lab.playground import client as playground_client
from tui_lab.playground import joined, openai_api, server, worker
from tui_lab.playground.client import PlaygroundClient
from tui_lab.playground.messages import ChatTurn, GenerateRequest
from tui_lab.playground.openai_api import ApiError, ChatBody, CompletionBody

pytestmark = pytest.mark.asyncio(loop_scope="module")
KEY = "a key of the test"
QUESTION: Any = [{"role": "user", "content": "Where is my order?"}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def process(adapters: dict[str, Path]) -> AsyncIterator[PlaygroundClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(playground_client, "spawn", ThreadProcess.start)
        client = PlaygroundClient()
        await client.load("pocket", dtype="float32")
        await client.add("tuned", str(adapters["own"]))
        yield client
        await client.close()


@contextlib.asynccontextmanager
async def served(process: PlaygroundClient, key: str) -> AsyncIterator[str]:
    app = server.LabServer(process, {"base": "pocket", "tuned": "adapter"}, key).app(loopback=True)
    with server.bind("127.0.0.1", 0) as listening:
        running = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        running.config.load()
        task = asyncio.ensure_future(running.serve(sockets=[listening]))
        await until(lambda: running.started)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        running.should_exit = True
        await task


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(process: PlaygroundClient) -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        served(process, KEY) as address,
        openai.AsyncOpenAI(api_key=KEY, base_url=address, max_retries=0) as client,
    ):
        yield client


async def test_models_are_the_base_and_every_adapter(api: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in api.models.list()] == ["base", "tuned"]
    assert (await api.models.retrieve("tuned")).owned_by == "tui-lab"


@pytest.mark.parametrize("name", ["base", "tuned"])
async def test_a_chat_answers_as_the_playground_does(
    api: openai.AsyncOpenAI, process: PlaygroundClient, name: str
) -> None:
    turns: Any = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi, how can I help?"},
        *QUESTION,
    ]
    answer = await api.chat.completions.create(model=name, messages=turns, temperature=0, max_tokens=12)
    request = GenerateRequest(
        QUESTION[0]["content"],
        (f"greedy on={name}",),
        max_new_tokens=12,
        turns=((ChatTurn("Hello", "Hi, how can I help?"),),),
    )
    [expected] = await process.generate(request, lambda _event: None)
    [choice] = answer.choices
    assert choice.message.content == expected.text and choice.message.role == "assistant"
    assert choice.finish_reason == ("length" if expected.finish_reason == "length" else "stop")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(expected.prompt_token_ids)
    assert answer.usage.completion_tokens == len(expected.token_ids)


async def test_a_stream_gives_the_same_text_and_its_usage(api: openai.AsyncOpenAI) -> None:
    arguments: Any = {"model": "tuned", "messages": QUESTION, "seed": 5, "temperature": 0.8, "top_p": 0.9}
    whole = await api.chat.completions.create(**arguments, max_completion_tokens=16)
    chunks = [
        chunk
        async for chunk in await api.chat.completions.create(
            **arguments, max_completion_tokens=16, stream=True, stream_options={"include_usage": True}
        )
    ]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage


async def test_a_completion_goes_on_without_a_template(
    api: openai.AsyncOpenAI, process: PlaygroundClient
) -> None:
    request = GenerateRequest("The sky is", ("greedy on=base",), raw=True, max_new_tokens=8)
    [expected] = await process.generate(request, lambda _event: None)
    answer = await api.completions.create(model="base", prompt="The sky is", temperature=0, max_tokens=8)
    assert answer.choices[0].text == expected.text
    stream = await api.completions.create(
        model="base", prompt="The sky is", temperature=0, max_tokens=8, stream=True
    )
    assert "".join([chunk.choices[0].text async for chunk in stream]) == expected.text


async def test_requests_at_once_share_a_batch(
    api: openai.AsyncOpenAI, process: PlaygroundClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenAI's client in four threads, with other prompts, models, settings and limits: each gets what it
    gets alone."""
    asked: list[dict[str, Any]] = [
        {"model": "base", "temperature": 0, "max_tokens": 12},
        {"model": "tuned", "temperature": 0, "max_tokens": 30},
        {"model": "base", "temperature": 0.9, "top_p": 0.8, "seed": 3, "max_tokens": 20, "stop": [" the"]},
        {"model": "tuned", "temperature": 1.2, "seed": 4, "max_tokens": 8, "extra_body": {"top_k": 20}},
    ]
    for number, each in enumerate(asked):
        each["messages"] = [{"role": "user", "content": "Where is my order? " * (number + 1)}]
    together: list[int] = []
    own = worker.generate_joined

    def counted(session: Any, prompters: Any, requests: Any) -> None:
        together.append(len(requests))
        own(session, prompters, requests)

    monkeypatch.setattr(worker, "generate_joined", counted)
    alone = [(await api.chat.completions.create(**each)).choices[0] for each in asked]
    assert together == [1] * 4
    monkeypatch.setattr(playground_main, "JOIN_S", 30.0)
    monkeypatch.setattr(joined, "MOST_JOINED", 4)
    with openai.OpenAI(api_key=KEY, base_url=str(api.base_url), max_retries=0) as client:

        def ask(number: int) -> tuple[str, str | None]:
            if number % 2:
                choice = client.chat.completions.create(**asked[number]).choices[0]
                return choice.message.content or "", choice.finish_reason
            chunks = list(client.chat.completions.create(**asked[number], stream=True))
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            return text, chunks[-1].choices[0].finish_reason

        answers = await asyncio.gather(*(asyncio.to_thread(ask, number) for number in range(4)))
    assert together == [1, 1, 1, 1, 4]
    assert answers == [(choice.message.content, choice.finish_reason) for choice in alone]


async def test_a_request_that_fails_leaves_the_others_of_its_batch(
    api: openai.AsyncOpenAI, process: PlaygroundClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playground_main, "JOIN_S", 30.0)
    monkeypatch.setattr(joined, "MOST_JOINED", 3)
    monkeypatch.setattr(DecodingSession, "_free_bytes", lambda _self: 180_000)  # enough for one at a time
    batches: list[int] = []
    own = DecodingSession.decode_groups

    def counted(self: DecodingSession, groups: Any, *args: Any, **more: Any) -> Any:
        batches.append(len(groups))
        return own(self, groups, *args, **more)

    monkeypatch.setattr(DecodingSession, "decode_groups", counted)

    async def ask(text: str) -> str | None:
        messages: Any = [{"role": "user", "content": text}]
        answer = await api.chat.completions.create(
            model="base", messages=messages, temperature=0, max_tokens=8
        )
        return answer.choices[0].message.content

    first, failed, second = await asyncio.gather(
        ask("Hello"), ask("word " * 5000), ask("Where is it?"), return_exceptions=True
    )
    assert isinstance(failed, openai.BadRequestError) and "context" in str(failed)
    assert batches == [1, 1, 1], "both at once, which is too much, then one after the other"
    monkeypatch.undo()
    assert [first, second] == [await ask("Hello"), await ask("Where is it?")]


async def test_a_client_that_leaves_a_stream_ends_its_answer(api: openai.AsyncOpenAI) -> None:
    stream = await api.chat.completions.create(
        model="base", messages=QUESTION, temperature=1.5, max_tokens=1500, stream=True
    )
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    await stream.close()
    answer = await api.chat.completions.create(model="base", messages=QUESTION, max_tokens=2, timeout=60)
    assert answer.choices[0].message.content is not None


async def test_errors_are_sentences_with_a_status(api: openai.AsyncOpenAI) -> None:
    ask: Any = api.chat.completions.create
    with pytest.raises(openai.NotFoundError, match="there is no model 'x'; there are base, tuned"):
        await ask(model="x", messages=QUESTION)
    with pytest.raises(openai.BadRequestError, match="frequency_penalty is not supported: leave it out"):
        await ask(model="base", messages=QUESTION, frequency_penalty=0.5)
    with pytest.raises(openai.BadRequestError, match="temperature"):
        await ask(model="base", messages=QUESTION, temperature=-1)
    with pytest.raises(openai.BadRequestError, match=r"the prompt has [\d,]+ tokens"):
        await ask(model="base", messages=[{"role": "user", "content": "word " * 9000}])
    with pytest.raises(openai.AuthenticationError, match="the key is missing or wrong"):
        await ask(model="base", messages=QUESTION, extra_headers={"Authorization": "Bearer no"})
    with pytest.raises(openai.NotFoundError, match="there is no POST /v1/embeddings"):
        await api.embeddings.create(model="base", input="x")
    with pytest.raises(openai.APIStatusError, match="larger than 4 MiB"):
        await ask(model="base", messages=[{"role": "user", "content": "x" * (5 << 20)}])


async def test_requests_beyond_the_limit_are_refused(
    api: openai.AsyncOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_WAITING", 0)
    with pytest.raises(openai.RateLimitError, match="0 requests are waiting or being answered; try again"):
        await api.chat.completions.create(model="base", messages=QUESTION)


async def test_a_page_with_a_name_of_its_own_does_not_reach_it(api: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        await api.models.list(extra_headers={"Host": "evil.example"})


def body(kind: type[Any] = ChatBody, **fields: Any) -> Any:
    return openai_api.read_body(msgspec.json.encode(fields), kind)


@pytest.mark.asyncio(loop_scope="function")
async def test_no_field_is_dropped_without_a_word() -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    read = body(messages=[message], n=1, tools=[], user="me", logit_bias=None)
    assert openai_api.generate_request(read, openai_api.lane_of(read, "base", 3)).prompt == "ab"
    for fields, found in (
        ({"n": 2}, "n is not supported"),
        ({"tools": [{"type": "function"}]}, "tools is not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format is not supported"),
        ({"max_tokens": "many"}, r"\$.max_tokens"),
    ):
        with pytest.raises(ApiError, match=found):
            body(messages=[message], **fields)
    for roles in ([], ["assistant"], ["user", "user"], ["user", "assistant"], ["user", "system", "user"]):
        read = body(messages=[{"role": role, "content": "x"} for role in roles])
        with pytest.raises(ApiError, match="end with a user message"):
            openai_api.generate_request(read, openai_api.lane_of(read, "base", 3))
    with pytest.raises(ApiError, match="send one request for each"):
        read = body(CompletionBody, prompt=["a", "b"])
        openai_api.generate_request(read, openai_api.lane_of(read, "base", 3))
    with pytest.raises(ApiError, match="only text is read"):
        image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
        read = body(messages=[image])
        openai_api.generate_request(read, openai_api.lane_of(read, "base", 3))


@pytest.mark.asyncio(loop_scope="function")
async def test_a_busy_port_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for beyond in (65_536, 999_999):
            with pytest.raises(LabError, match=f"--port is at most 65535, not {beyond}"):
                server.bind("127.0.0.1", beyond)
        with pytest.raises(LabError, match=rf"127.0.0.1:{port} cannot be used .*choose another with --port"):
            server.bind("127.0.0.1", port)
