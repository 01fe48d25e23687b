"""Excel sheets as records. Merged cells hold a value in their first cell only, so the other rows are set aside."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from alignprism.errors import Failure
from alignprism.prompts.sources import Record, SourceFile, Unreadable
from alignprism.rows import RowError

if TYPE_CHECKING:
    from openpyxl.worksheet.worksheet import Worksheet


def excel_records(file: SourceFile) -> Iterator[Record | Unreadable]:
    """The rows of the first sheet with the header's names; row numbers are the sheet's own.

    Raises
    ------
    RowError
        no Excel file, an empty sheet, or a header with merged or repeated cells.
    """
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError as error:
        raise Failure("reading .xlsx needs openpyxl; install it, or save the sheet as CSV") from error
    try:
        with file.open() as handle:
            book = load_workbook(handle, data_only=True)
    except (InvalidFileException, zipfile.BadZipFile, KeyError, OSError, ValueError) as error:
        raise RowError(f"{file.shown}: not a readable Excel file ({error}); save it as .xlsx or CSV") from error
    sheet = book.worksheets[0]
    hidden = _merged(sheet)
    rows = sheet.iter_rows(values_only=True)
    first = next(rows, None)
    if first is None or not any(cell is not None for cell in first):
        raise RowError(f"{file.shown}: sheet {sheet.title!r}: row 1 is empty; the first row names the columns")
    if 1 in hidden:
        raise RowError(
            f"{file.shown}: sheet {sheet.title!r}: cell {hidden[1]} of the header is merged; unmerge it (a title above "
            "the header has to go)"
        )
    names = [str(cell).strip() if cell is not None else "" for cell in first]
    repeated = next((name for name in names if name and names.count(name) > 1), None)
    if repeated is not None:
        raise RowError(f"{file.shown}: header: column {repeated!r} occurs twice; rename one")
    for number, cells in enumerate(rows, 2):
        if number in hidden:
            reason = f"cell {hidden[number]} is merged with another and holds no value of its own: unmerge and fill it"
            yield Unreadable(file.shown, number, "", reason)
        elif any(cell is not None for cell in cells):
            yield Record(file.shown, number, {n: _plain(c) for n, c in zip(names, cells, strict=False) if n})


def _merged(sheet: Worksheet) -> dict[int, str]:
    """Row number to the name of its first cell that is inside a merged area without being its first cell."""
    hidden: dict[int, str] = {}
    for area in sheet.merged_cells.ranges:
        for row, column in area.cells:
            if (row, column) != (area.min_row, area.min_col):
                hidden.setdefault(row, sheet.cell(row, column).coordinate)
    return hidden


def _plain(cell: Any) -> Any:
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    return cell if cell is None or isinstance(cell, str | int | float | bool) else str(cell)
