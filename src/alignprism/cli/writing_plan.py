"""What a dry run of rephrasing or twins says: calls, cost, and which text goes where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alignprism.cli.construct import destinations, say

if TYPE_CHECKING:
    from alignprism.construct.writing import Commission
    from alignprism.models.protocol import Decoding, Request


@dataclass(frozen=True, slots=True)
class WritingPlan:
    """What the writer is asked in the first round, how it answers, and the limits of rounds and of a check's tokens."""

    asked: Sequence[Commission]
    decoding: Decoding
    rounds: int
    check_tokens: int

    def say(self, writer: str, checker: str | None, allow_remote: Sequence[str]) -> None:
        """Calls and cost of the first round and of all of them, at most."""
        from alignprism.construct.checker import check_request
        from alignprism.models.protocol import Decoding

        requests = [one.request for one in self.asked]
        self._say_role("writer", writer, requests, self.decoding, "seeds, explanations and shots", allow_remote)
        if checker is not None:
            # Seeds stand for what is not written yet: new prompts are about as long.
            checks = [check_request(one.seed) for one in self.asked for _ in range(one.wanted)]
            how = Decoding(max_new_tokens=self.check_tokens)
            self._say_role("checker", checker, checks, how, "new prompts", allow_remote)
        say("Answers that are in the call store already are not asked for again. Nothing was asked.")

    def _say_role(
        self,
        role: str,
        named: str,
        requests: Sequence[Request],
        decoding: Decoding,
        what: str,
        allow_remote: Sequence[str],
    ) -> None:
        from alignprism.models.cost import estimate
        from alignprism.models.model_file import model_settings

        settings = model_settings(named)
        first = estimate(requests, decoding, settings.endpoint.price if settings.endpoint else None)
        say(f"{role} {named}: first round {first}")
        say(f"    {self.rounds} rounds at most: {sum((first for _ in range(self.rounds - 1)), first)}")
        hosts = settings.endpoint.hosts if settings.endpoint else ()
        say(f"    {what} go to: {destinations(hosts, allow_remote)}")
