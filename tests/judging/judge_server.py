"""A judge behind a real socket on the loopback interface: speaks the OpenAI interface, counts what it is asked, ends by itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Say = Callable[[str], str | None]
"""The reply to the last user turn; None: status 400, as from a server that refuses it."""


@dataclass
class JudgeServer:
    """``shown``: the texts that were judged, probes (one token) aside; ``authorised``: the keys that came with them."""

    say: Say
    log_probs: bool = False
    shown: list[str] = field(default_factory=list)
    authorised: set[str] = field(default_factory=set)
    address: str = ""


@contextmanager
def serving(say: Say, log_probs: bool = False) -> Iterator[JudgeServer]:
    """A server for as long as the context lasts, but no longer than the test's process."""
    judge = JudgeServer(say, log_probs)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200, {"object": "list", "data": [{"id": "judge-1", "object": "model"}]})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = asked["messages"][-1]["content"]
            limit = asked.get("max_tokens", asked.get("max_completion_tokens"))
            if limit == 1:
                self._send(200, _completion("x", asked))
                return
            judge.shown.append(text)
            judge.authorised.add(self.headers.get("Authorization", ""))
            said = judge.say(text)
            if said is None:
                self._send(400, {"error": {"message": "no", "code": "bad_request"}})
                return
            self._send(200, _completion(said, asked, judge.log_probs))

        def _send(self, status: int, document: dict[str, Any]) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    judge.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield judge
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _completion(text: str, asked: dict[str, Any], log_probs: bool = False) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    if log_probs and asked.get("logprobs"):
        words = [part if place == 0 else f" {part}" for place, part in enumerate(text.split(" "))]
        choice["logprobs"] = {"content": [{"token": word, "logprob": -0.25, "top_logprobs": []} for word in words]}
    usage = {"prompt_tokens": 500, "completion_tokens": 20, "total_tokens": 520}
    return {
        "id": "r",
        "object": "chat.completion",
        "created": 0,
        "model": "judge-1",
        "choices": [choice],
        "usage": usage,
    }
