"""An episode in the terminal: the panels of `episode_panels` as rows of little bars, 80 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from rich.text import Text

from tiergym.env import actions as act
from tiergym.env.palette import MODE_COLOURS, ink_on
from tiergym.lab import episode_panels as ep
from tiergym.lab.episode_log import EpisodeLog
from tiergym.lab.mode_use import percent
from tiergym.sim import names as n
from tiergym.terminal import number

BARS = " ▁▂▃▄▅▆▇█"
LABEL, MARK, STRIP, VALUE = 21, 2, 42, 7
"""Columns of a row: name, which policy, the episode, and twice a number."""
WIDTH = LABEL + MARK + STRIP + 2 * VALUE
LEAST_SHARE = 1e-3
"""A row is left out where it never reaches this share of its panel."""


def render(logs: Sequence[EpisodeLog]) -> Text:
    """The episode as text of at most 80 columns; several policies share each row's scale."""
    first = logs[0]
    title = f"{first.scenario}, episode {first.episode} of seed {first.seed}"
    lines = [Text(line, style="bold") for line in textwrap.wrap(title, WIDTH)]
    lines.append(Text(f"{first.ticks} ticks of {first.dt_s:g} s", style="dim"))
    for mark, log in zip(_marks(logs), logs, strict=True):
        came, why = ep.summary(log)
        lines.append(Text(f"{mark}{ep.shortened(log.policy, WIDTH - len(mark))}", style="bold"))
        lines += [Text(f"{'':<{len(mark)}}{words}") for words in (came, why)]
    for panel in ep.panels(logs):
        rows = list(_panel_rows(panel, logs))
        if rows:
            lines += [Text(), _head(f"{panel.title}, {panel.unit}{', log' if panel.log else ''}", first), *rows]
    if any(log.kills for log in logs) or first.events:
        lines += [Text(), _head("happenings", first, numbers=False), *_happenings(logs)]
    lines += [Text(), _head("modes in force", first, numbers=False), *_mode_rows(logs)]
    return Text("\n").join(lines)


def _marks(logs: Sequence[EpisodeLog]) -> list[str]:
    """What tells policies apart in a row: letters, where there are several."""
    return [f"{letter} " for letter in "ABCDEFGH"[: len(logs)]] if len(logs) > 1 else [""]


def _head(title: str, log: EpisodeLog, numbers: bool = True) -> Text:
    """A panel's title; the ends of the time axis stand where there is room."""
    until = f"{log.ticks * log.dt_s:g} s"
    name = f"{title:<{LABEL + MARK}}"
    since = "0 s" if len(name) == LABEL + MARK else ""
    times = f"{since}{until:>{LABEL + MARK + STRIP - len(name) - len(since)}}"
    columns = f"{'most':>{VALUE}}{'last':>{VALUE}}" if numbers else ""
    return Text.assemble((name, "bold"), (f"{times}{columns}", "dim"))


def _bins(values: np.ndarray) -> np.ndarray:
    """Means of `values` (T,) in at most `STRIP` equal parts of the episode."""
    columns = min(STRIP, len(values))
    cuts = np.arange(columns) * len(values) // columns
    return np.asarray(np.add.reduceat(values, cuts) / np.diff([*cuts, len(values)]))


def _bars(shares: np.ndarray) -> str:
    """One character per part, of shares of the full height (T,); whatever is above nothing shows."""
    heights = np.ceil(_bins(shares) * (len(BARS) - 1) - 1e-9).astype(int)
    return "".join(BARS[height] for height in np.clip(heights, 0, len(BARS) - 1).tolist())


def _panel_rows(panel: ep.Panel, logs: Sequence[EpisodeLog]) -> Iterator[Text]:
    for series in panel.series:
        if panel.unit == "GiB" and series.name in n.CLASSES[n.FIRST_KERNEL_CLASS :]:
            continue  # kernel classes have panels of their own
        top = max(float(values.max()) for values in series.values)
        if top < LEAST_SHARE * (panel.high - panel.low if panel.kind == "stack" else 1.0):
            continue
        # Work fills the whole axis, and what is lost is seen where it is short of it.
        work = series.name == ep.WORK
        scale = replace(panel, low=panel.low if work else 0.0, high=top)
        name = "throughput" if work else series.name.replace("_", " ")
        same = all((values == series.values[0]).all() for values in series.values[1:])
        rows = list(zip(_marks(logs), series.values, strict=True))
        for row, (mark, values) in enumerate([("=" if len(logs) > 1 else "", rows[0][1])] if same else rows):
            yield Text.assemble(
                f"{name if row == 0 else '':<{LABEL}}{mark:<{MARK}}",
                f"{_bars(scale.shown(values)):<{STRIP}}",  # in the terminal's own ink: it may be on black or on white
                f"{number(float(values.max())):>{VALUE}}{number(float(values[-1])):>{VALUE}}",
            )


def _happenings(logs: Sequence[EpisodeLog]) -> Iterator[Text]:
    for row, (mark, log) in enumerate(zip(_marks(logs), logs, strict=True)):
        if log.kills:
            kills = log.counters[:, n.C_OOM_KILL]
            shown = "".join("x" if part else "·" for part in _bins(kills))
            yield Text.assemble(
                f"{'OOM kills' if row == 0 else '':<{LABEL}}{mark:<{MARK}}", (shown, "bold red"), f" {log.kills} in all"
            )
    for at, name in logs[0].events:
        yield Text(f"{name.replace('_', ' '):<{LABEL + MARK}}at {at:g} s")


def _mode_rows(logs: Sequence[EpisodeLog]) -> Iterator[Text]:
    """Every entry that ever leaves mode 0, or tried to: a digit per part of the episode, or the mode that never
    changes. Entries with the same modes in all ticks share their rows."""
    still, alike = [], dict[tuple[object, ...], list[int]]()
    for entry, of in enumerate(act.ENTRIES):
        if all(
            (log.in_force[:, entry] == log.chosen[:, entry]).all() and not log.chosen[:, entry].any() for log in logs
        ):
            still.append(of.name)
        else:
            series = (log.in_force[:, entry].tobytes() + log.chosen[:, entry].tobytes() for log in logs)
            alike.setdefault((of.modes, *series), []).append(entry)
    for entries in alike.values():
        for row, (mark, log) in enumerate(zip(_marks(logs), logs, strict=True)):
            name = act.NAMES[entries[0]] if row == 0 else ""
            yield from _mode_row(log, entries[0], f"{name:<{LABEL}}{mark:<{MARK}}")
        if len(entries) > 1:
            yield from _wrapped(f"the same: {', '.join(act.NAMES[entry] for entry in entries[1:])}")
    if still:
        yield from _wrapped(f"always at Linux's default: {', '.join(still)}")


def _mode_row(log: EpisodeLog, entry: int, label: str) -> Iterator[Text]:
    found = ep.runs(log, entry)
    if len(found) == 1 and found[0].mode == found[0].chosen:
        yield Text.assemble(label, (act.ENTRIES[entry].modes[found[0].mode], _mode_style(found[0].mode)), " throughout")
        return
    changes = np.count_nonzero(np.diff(log.chosen[:, entry]))
    yield Text.assemble(label, *_mode_strip(log, entry), f"{changes:>{VALUE - 1}} change{'' if changes == 1 else 's'}")
    yield Text(f"{'':<{len(label)}}{_mode_words(log, entry)}", style="dim")


def _wrapped(text: str) -> list[Text]:
    return [Text(line, style="dim") for line in textwrap.wrap(text, WIDTH)]


def _mode_style(mode: int) -> str:
    """A mode's colour behind readable letters."""
    return f"{ink_on(MODE_COLOURS[mode])} on {MODE_COLOURS[mode]}"


def _mode_strip(log: EpisodeLog, entry: int) -> Iterator[tuple[str, str]]:
    """The mode that was in force most, part by part; ! where most choices were impossible."""
    modes = np.arange(len(act.ENTRIES[entry].modes))
    shares = np.stack([_bins((log.in_force[:, entry] == mode).astype(float)) for mode in modes])
    refused = _bins((log.in_force[:, entry] != log.chosen[:, entry]).astype(float))
    for part, mode in enumerate(shares.argmax(axis=0).tolist()):
        yield ("!" if refused[part] > 0.5 else str(mode)), _mode_style(mode)
    yield " " * (STRIP - len(refused)), ""


def _mode_words(log: EpisodeLog, entry: int) -> str:
    """What the digits mean, as far as they occur."""
    of, in_force = act.ENTRIES[entry], log.in_force[:, entry]
    words = [f"{m} {name} {percent(float((in_force == m).mean()))}" for m, name in enumerate(of.modes)]
    refused = float((in_force != log.chosen[:, entry]).mean())
    kept = [word for m, word in enumerate(words) if (in_force == m).any()]
    return ", ".join([*kept, *([f"! impossible {percent(refused)}"] if refused else [])])
