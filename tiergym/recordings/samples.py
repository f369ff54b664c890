"""Samples as they come in, held in little memory: a recorder must not fill the machine that it watches."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tiergym.recordings.format import Column
from tiergym.recordings.proc_files import Values


@dataclass
class Samples:
    """Rows of numbers, 8 bytes each: float64, exact up to 2^53, NaN where a sample lacks a column."""

    times: list[float] = field(default_factory=list)
    rows: list[NDArray[np.float64]] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)

    def add(self, t_s: float, values: Values) -> None:
        """Append one sample; columns that it is the first to have are added."""
        for name in values:
            self.places.setdefault(name, len(self.places))
        row = np.full(len(self.places), np.nan)
        row[[self.places[name] for name in values]] = list(values.values())
        self.times.append(t_s)
        self.rows.append(row)

    def columns(self) -> dict[str, Column]:
        """t_s from the first sample on, and all columns. A node or zone that is not there has no pages: 0; else NaN."""
        columns: dict[str, Column] = {"t_s": np.array(self.times) - self.times[0]}
        for name, place in self.places.items():
            column = np.array([row[place] if place < len(row) else np.nan for row in self.rows])
            if re.match(r"[nmzb]\d", name):
                column = np.nan_to_num(column)
            columns[name] = column if np.isnan(column).any() else column.astype(np.int64)
        return columns
