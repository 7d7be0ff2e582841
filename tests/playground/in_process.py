"""The playground process's server in a thread of this process: seconds less than a child that imports torch
first. For tests whose subject is not the process."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping

from tui_lab.core.job_protocol import JobLineWriter
from tui_lab.core.subprocesses import LINE_LIMIT_BYTES
from tui_lab.playground import client
from tui_lab.playground.__main__ import Server


class ThreadProcess:
    """What the client uses of ``asyncio.subprocess.Process``, over real pipes."""

    pid = os.getpid()
    thread: threading.Thread

    def __init__(self, stdin: asyncio.StreamWriter, stdout: asyncio.StreamReader) -> None:
        self.stdin, self.stdout, self.stderr = stdin, stdout, asyncio.StreamReader()
        self.stderr.feed_eof()
        self.returncode: int | None = None

    async def wait(self) -> int:
        await asyncio.to_thread(self.thread.join)
        self.returncode = 0
        return 0

    def kill(self) -> None:
        """Does nothing: a thread ends when its stdin is closed and its request is answered."""

    @classmethod
    async def start(cls, module: str, environment: Mapping[str, str] | None = None) -> ThreadProcess:
        """In place of ``subprocesses.spawn``."""
        assert module == client.MODULE and not environment
        loop = asyncio.get_running_loop()
        (request_end, stdin_end), (stdout_end, answer_end) = os.pipe(), os.pipe()
        stdout = asyncio.StreamReader(limit=LINE_LIMIT_BYTES)
        await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stdout), os.fdopen(stdout_end, "rb", buffering=0)
        )
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(stdin_end, "wb", buffering=0)
        )
        process = cls(asyncio.StreamWriter(transport, protocol, None, loop), stdout)

        def serve() -> None:
            with os.fdopen(answer_end, "w") as answers, os.fdopen(request_end, "rb") as requests:
                server = Server(JobLineWriter(answers))
                reader = threading.Thread(target=server.read_requests, args=(requests,))
                reader.start()
                server.serve()
                reader.join()

        process.thread = threading.Thread(target=serve, daemon=True)
        process.thread.start()
        return process
