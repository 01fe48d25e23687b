"""A server on the loopback interface that speaks the OpenAI interface, as a process of its own: for tests and benchmarks.

    python loopback.py [--delay 0.05] [--faults] [--log FILE] [--arrivals FILE] [--model NAME] [--root PATH] [--key KEY]
                       [--port 0]

It prints its port and ends with its standard input. The answer to a prompt is ``answer to <hash of the request>``. Each
request is noted in the log, one line of prompt hash and status, before the answer leaves; with ``--arrivals FILE`` each is
noted there, too, when it comes, and only probes are answered without delay. With ``--faults`` seven kinds of
requests (by hash, 10 % each) meet: 429, 500, no reply, a cut reply, invalid JSON, empty text and another model's name;
``--heal N`` lets try number N + 1 of such a request succeed. ``--throttle N`` answers 429 while more than N are in flight,
``--quota N`` after N different requests, with an hour to wait. ``--only 502`` answers everything with that status.
Prompts that contain ``[filter]``, ``[long]``, ``[away]`` or ``[refusal]`` meet a content filter, a context limit, a 503, a
refusal field.

A bare asyncio protocol, because a web framework would be slower than the client that it is to measure.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

FAULTS = ("429", "500", "silent", "cut", "garbage", "empty", "other")


def appended(path: str | None) -> IO[str] | None:
    return open(path, "a", buffering=1) if path else None  # noqa: PTH123


class Server:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.tries: Counter[str] = Counter()
        self.in_flight = 0
        self.log = appended(options.log)
        self.arrivals = appended(options.arrivals)

    def reply(self, path: str, head: str, body: bytes) -> tuple[int, bytes, str, str]:
        """Status, body, extra header lines, and the fault (or "")."""
        model = self.options.model
        if self.options.only:
            return self.options.only, b"<html>Bad Gateway</html>", "", ""
        if self.options.key and f"authorization: bearer {self.options.key}" not in head.lower():
            return 401, b'{"error": {"code": "invalid_api_key"}}', "", ""
        if path.endswith("/models"):
            entry = {"id": model, "object": "model", "root": self.options.root}
            return 200, json.dumps({"object": "list", "data": [entry]}).encode(), "", ""
        document: dict[str, Any] = json.loads(body)
        if document.get("model") != model:
            error = {"error": {"code": "model_not_found", "message": "no such model"}}
            return 404, json.dumps(error).encode(), "", ""
        name = hashlib.sha256(body).hexdigest()[:16]
        self.tries[name] += 1
        if self.options.throttle and self.in_flight > self.options.throttle:
            return 429, b'{"error": {"code": "rate_limit_exceeded"}}', "Retry-After: 0.2\r\n", ""
        if self.options.quota and len(self.tries) > self.options.quota:
            self.log_line(name, "quota")
            return 429, b'{"error": {"code": "insufficient_quota"}}', "Retry-After: 3600\r\n", ""
        if document.get("max_tokens") == 1:  # a probe
            return 200, self.answer(document, "x", model), "", ""
        share = int(name[:4], 16) % 10
        fault = FAULTS[share] if self.options.faults and share < len(FAULTS) else ""
        if fault and self.tries[name] > self.options.heal:
            fault = ""
        status = {"429": 429, "500": 500}.get(fault, 200)
        self.log_line(name, fault or str(status))
        if fault == "429":
            return 429, b'{"error": {"code": "rate_limit_exceeded"}}', "Retry-After: 0\r\n", fault
        if fault == "500":
            return 500, b"<html>oops</html>", "", fault
        if fault == "garbage":
            return 200, b'{"choices": [{"message": {"content": "half an ans', "", fault
        if b"[filter]" in body:
            return 400, b'{"error": {"code": "content_filter", "message": "no"}}', "", ""
        if b"[away]" in body:
            return 503, b"<html>Service Unavailable</html>", "", ""
        if b"[long]" in body:
            return 400, b'{"error": {"code": 400, "message": "the maximum context length is 4096 tokens"}}', "", ""
        text = "" if fault == "empty" else f"answer to {name}"
        return 200, self.answer(document, text, "another-model" if fault == "other" else model), "", fault

    def arrived(self, path: str, body: bytes) -> float:
        """Note a request; gives the seconds until it is answered."""
        if path.endswith("/models"):
            return 0.0
        if self.arrivals is not None:
            if json.loads(body).get("max_tokens") == 1:  # a probe
                return 0.0
            self.arrivals.write(f"{hashlib.sha256(body).hexdigest()[:16]}\n")
        return float(self.options.delay)

    def log_line(self, name: str, status: str) -> None:
        if self.log is not None:
            self.log.write(f"{name} {status}\n")

    def answer(self, document: dict[str, Any], text: str, model: str) -> bytes:
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "logprobs": None}
        if "messages" in document:
            choice["message"] = {"role": "assistant", "content": text}
            if "[refusal]" in json.dumps(document):
                choice["message"] = {"role": "assistant", "content": None, "refusal": "I can't help with that."}
        else:
            choice["text"] = text
        usage = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
        reply = {"id": "x", "object": "chat.completion", "created": 0, "model": model, "choices": [choice]}
        return json.dumps(reply | {"usage": usage, "system_fingerprint": "fp_1"}).encode()


class Connection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self.server = server
        self.buffer = b""
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].decode("latin-1")
        length = 0
        for line in head.split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == "content-length":
                length = int(value)
        if len(self.buffer) < end + 4 + length:
            return
        body, self.buffer = self.buffer[end + 4 : end + 4 + length], self.buffer[end + 4 + length :]
        path = head.split(" ", 2)[1]
        self.server.in_flight += 1
        delay = self.server.arrived(path, body)
        asyncio.get_running_loop().call_later(delay, self.send, path, head, body)

    def send(self, path: str, head: str, body: bytes) -> None:
        if self.transport.is_closing():
            self.server.in_flight -= 1
            return
        status, content, extra, fault = self.server.reply(path, head, body)
        self.server.in_flight -= 1
        if fault == "silent":
            return
        lines = (
            f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n{extra}\r\n"
        )
        if fault == "cut":
            self.transport.write(lines.encode() + content[: len(content) // 2])
            self.transport.close()
            return
        self.transport.write(lines.encode() + content)


@contextmanager
def running(*options: str) -> Iterator[str]:
    """The server in a process of its own; gives its base address."""
    command = [sys.executable, str(Path(__file__).resolve()), *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.stdin.close()
        process.wait(timeout=10)
        process.stdout.close()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--heal", type=int, default=10**9)
    parser.add_argument("--log")
    parser.add_argument("--arrivals")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--root", default="/weights/tiny")
    parser.add_argument("--key", default="")
    parser.add_argument("--throttle", type=int, default=0)
    parser.add_argument("--quota", type=int, default=0)
    parser.add_argument("--only", type=int, default=0)
    parser.add_argument("--port", type=int, default=0)
    server = Server(parser.parse_args())
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Connection(server), "127.0.0.1", server.options.port, backlog=1024)
    print(listening.sockets[0].getsockname()[1], flush=True)
    # Ends with whoever started it: a test that dies leaves no server behind.
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
