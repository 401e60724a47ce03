"""Tables in Parquet, where pyarrow is installed."""

from __future__ import annotations

from pathlib import Path

from mdan_zoo.errors import DatasetError


def read_parquet(path: Path) -> tuple[list[str], list[list[str]]]:
    """Read a table in Parquet as text.

    Returns:
        The names of the columns and the rows; a missing value is an empty text.

    Raises:
        DatasetError: pyarrow is not installed, or the file cannot be read.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise DatasetError(
            f"{path} needs pyarrow to be read: pip install pyarrow, or save the table as .csv"
        ) from error
    try:
        columns = parquet.read_table(path).to_pydict()
    except (ArrowException, OSError) as error:
        raise DatasetError(f"{path}: {error}") from error
    rows = zip(*columns.values(), strict=True)
    return list(columns), [
        ["" if value is None else str(value).strip() for value in row] for row in rows
    ]
