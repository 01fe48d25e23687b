"""CSV that survives damage: one broken row costs that row, not the file.

The standard reader stops at the first quoting error, and an opening quote that is never closed swallows everything
behind it. Here a record that cannot be parsed is given back as a reason, and reading goes on at the next line.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator

MAX_LINES = 1000
"""A cell with more line breaks than this is an opening quote that nobody closed."""

_MAX_FIELD = 1 << 26


class _Endless(Exception):  # noqa: N818  # a signal between two functions of this file
    """A record went on for more than `MAX_LINES` lines."""


class _Lines:
    """Lines that can be given back."""

    def __init__(self, lines: Iterator[str], most: int) -> None:
        self._lines, self._most = lines, most
        self._again: deque[str] = deque()
        self.taken: list[str] = []
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if len(self.taken) >= self._most:
            raise _Endless
        line = self._again.popleft() if self._again else next(self._lines)
        self.taken.append(line)
        self.number += 1
        return line

    def give_back_all_but_first(self) -> None:
        self._again.extendleft(reversed(self.taken[1:]))
        self.number -= len(self.taken) - 1


def delimiter_of(header: str, name: str) -> str:
    """Tab for ``.tsv``; else whichever of comma, semicolon and tab is most frequent in the header."""
    if name.endswith(".tsv"):
        return "\t"
    return max(",;\t", key=header.count)


def uneven(cells: int, columns: int, line: int) -> str:
    """Why a record is none that has another number of cells than the header."""
    return f"{cells} cells where the header has {columns} (line {line}): check quotes and delimiters"


def csv_rows(lines: Iterator[str], delimiter: str, most: int = MAX_LINES) -> Iterator[tuple[int, list[str] | str]]:
    """Line number with the cells of a record, or with the reason why that line begins no record.

    `lines` keep their ends, in whatever mixture. Blank lines are passed over. A record of more than `most` lines is a
    quote that nobody closed.
    """
    source = _Lines(lines, most)
    while True:
        source.taken = []
        start = source.number + 1
        before = csv.field_size_limit(_MAX_FIELD)
        try:
            cells = next(csv.reader(source, delimiter=delimiter, strict=True))
        except StopIteration:
            return
        except (csv.Error, _Endless) as error:
            closed = not isinstance(error, _Endless) and "unexpected end" not in str(error)
            source.give_back_all_but_first()
            said = f"broken quoting ({error})" if closed else "a quote is opened and never closed"
            yield start, f'{said} at line {start}: write a quote inside a cell twice ("")'
            continue
        finally:
            csv.field_size_limit(before)
        if cells:
            yield start, cells
