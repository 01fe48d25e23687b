"""Several addresses of one model: the least busy one is asked, and one that does not answer is left out for a while."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

FIRST_REST_SECONDS, LONGEST_REST_SECONDS = 2.0, 60.0


@dataclass(slots=True)
class Address:
    """One base address. ``rest_until`` is a time of the clock that `Addresses` is asked with."""

    url: str
    in_flight: int = 0
    failures: int = 0
    rest_until: float = 0.0

    @property
    def place(self) -> str:
        """Host and port, as messages name it."""
        return urlsplit(self.url).netloc


class Addresses:
    """Which address to ask next."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.all = [Address(url) for url in urls]

    def add(self, url: str) -> None:
        """One more address takes part."""
        self.all.append(Address(url))

    @property
    def none_answers(self) -> bool:
        """Whether every address has failed since it last answered."""
        return all(address.failures for address in self.all)

    def pick(self, now: float, avoid: Address | None = None) -> Address:
        """The least busy address that answers; `avoid` (it has just failed) only if there is no other.

        When none answers, the one whose rest ends first: somebody has to find out that it is back.
        """
        awake = [address for address in self.all if address.rest_until <= now]
        if not awake:
            return min(self.all, key=lambda address: address.rest_until)
        others = [address for address in awake if address is not avoid] or awake
        return min(others, key=lambda address: address.in_flight)

    @staticmethod
    def failed(address: Address, now: float) -> None:
        """The address could not be reached: it rests, each time twice as long."""
        if address.rest_until > now:  # the same failure, seen by another request that was in flight
            return
        address.failures += 1
        rest = min(LONGEST_REST_SECONDS, FIRST_REST_SECONDS * 2.0 ** (address.failures - 1))
        address.rest_until = now + rest

    @staticmethod
    def answered(address: Address) -> None:
        """The address works."""
        address.failures = 0
        address.rest_until = 0.0
