"""An episode as one HTML file that needs nothing else: no network, no script that must run; readable at 400 pixels.

Curves are inline SVG, stretched to the width there is; all text is HTML, which keeps its size. A short script, where it
may run, shows the values under the pointer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np

from tiergym import files
from tiergym.env import actions as act
from tiergym.env.palette import FAINT, INK, KILL, MODE_COLOURS, ink_on
from tiergym.lab import episode_panels as ep
from tiergym.lab.episode_log import EpisodeLog
from tiergym.lab.mode_use import percent
from tiergym.terminal import number

MOST_POINTS = 800
"""Points of a curve; of a longer episode each is the mean of several ticks."""
LABELLED_SHARE = 0.015
"""A run of one mode is labelled if it is at least this share of the episode per letter."""


def write_episode_html(path: Path, logs: Sequence[EpisodeLog]) -> None:
    """Draw the policies of one machine to an HTML file: side by side, or one below the other on a narrow screen."""
    first = logs[0]
    title = f"{first.scenario}, episode {first.episode} of seed {first.seed}"
    body = f"<h1>{escape(title)}</h1>\n{episode_sections(logs)}\n<script>{SCRIPT}</script>"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    text = f'<!DOCTYPE html>\n<html lang="en"><head>{head}<style>{style()}</style></head>\n<body>\n'
    files.write_text(path, f"{text}{body}\n</body></html>\n")


def episode_sections(logs: Sequence[EpisodeLog]) -> str:
    """The policies of one machine as HTML without its head; its page needs `style`, and `SCRIPT` at its end."""
    first = logs[0]
    step = -(-first.ticks // MOST_POINTS)
    averaged = f" A point is the mean of {step} ticks." if step > 1 else ""
    panels = ep.panels(logs)
    body = [_heads(logs)]
    body.append(
        f'<p class="note">{first.ticks} ticks of {first.dt_s:g} s; time runs from left to right.{averaged} '
        f'<i class="kill"></i> OOM kill, <i class="event"></i> event of the scenario.</p>'
    )
    body += [_panel(panel, logs, step) for panel in panels]
    body.append(_modes(logs))
    data = json.dumps(_readout(panels, logs, step), separators=(",", ":")).replace("<", "\\u003c")
    body.append(f'<script type="application/json" id="data">{data}</script>')
    return "\n".join(body)


def _heads(logs: Sequence[EpisodeLog]) -> str:
    cells = [f"<div><h2>{escape(log.policy)}</h2><p>{escape('; '.join(ep.summary(log)))}</p></div>" for log in logs]
    return _grid(cells, "heads")


def _grid(cells: Iterable[str], kind: str = "") -> str:
    return f'<div class="grid {kind}">{"".join(cells)}</div>'


def _panel(panel: ep.Panel, logs: Sequence[EpisodeLog], step: int) -> str:
    names = [_key(series, panel.kind) for series in panel.series]
    legend = "".join(reversed(names) if panel.kind == "stack" else names)
    plots = [_plot(panel, index, log, step, len(logs) > 1) for index, log in enumerate(logs)]
    head = f"<h3>{escape(panel.title)} <small>{escape(panel.unit)}</small></h3>"
    return f'<section>{head}<p class="legend">{legend}</p>{_grid(plots)}</section>'


def _key(series: ep.Series, kind: str) -> str:
    """An entry of a legend: a box of the colour, or the line as it is drawn."""
    name = escape(series.name.replace("_", " "))
    if kind == "stack":
        return f'<span><i style="background:{series.colour}"></i>{name}</span>'
    line = f'<svg width="26" height="8"><path d="M0 4H26" {_stroke(series)}/></svg>'
    return f"<span>{line}{name}</span>"


def _stroke(series: ep.Series) -> str:
    dash = f' stroke-dasharray="{" ".join(map(str, series.dash))}"' if series.dash else ""
    return f'fill="none" stroke="{series.colour}" stroke-width="1.6"{dash}'


def _plot(panel: ep.Panel, index: int, log: EpisodeLog, step: int, named: bool) -> str:
    """One policy's curves in a box of 1000 x 100, stretched by the page, with both axes as text around it."""
    values = np.stack([_means(series.values[index], step) for series in panel.series])
    x = _places(log, step)
    shapes = []
    if panel.kind == "stack":
        edges = panel.shown(np.vstack([np.full(len(x), panel.low), np.cumsum(values, axis=0)]))
        for series, below, above in zip(panel.series, edges[:-1], edges[1:], strict=True):
            if (above > below).any():
                outline = f"{_points(x, above)}L{_points(x[::-1], below[::-1])[1:]}Z"
                shapes.append(f'<path d="{outline}" fill="{series.colour}"/>')
        if panel.series[0].name == ep.WORK:
            shapes.append(f'<path d="{_points(x, edges[1])}" fill="none" stroke="{INK}"/>')
    else:
        shapes += [
            f'<path d="{_points(x, panel.shown(row))}" {_stroke(series)}/>'
            for series, row in zip(panel.series, values, strict=True)
        ]
    grid = "".join(f"M0 {_down(panel.shown(np.array(tick)))}H1000" for tick in panel.ticks())
    svg = (
        f'<svg viewBox="0 0 1000 100" preserveAspectRatio="none"><path class="lines" d="{grid}"/>'
        f"{''.join(shapes)}{_happenings(log)}</svg>"
    )
    labels = "".join(
        f'<b style="bottom:{100 * float(panel.shown(np.array(tick))):.1f}%">{ep.tick_label(tick)}</b>'
        for tick in panel.ticks()
    )
    caption = f"<figcaption>{escape(log.policy)}</figcaption>" if named else ""
    cursor = f'<div class="plot" data-panel="{escape(panel.title)}" data-log="{index}">{svg}<u></u></div>'
    return f'<figure>{caption}<div class="axis">{labels}</div>{cursor}{_seconds(log)}<output></output></figure>'


def _places(log: EpisodeLog, step: int) -> np.ndarray:
    """From left (0) to right (1000) where points lie."""
    return 1000 * _means(log.time_s, step) / (log.ticks * log.dt_s)


def _means(values: np.ndarray, step: int) -> np.ndarray:
    """Means of every `step` values; what is left over at the end is a mean, too."""
    if step == 1:
        return values
    starts = np.arange(0, len(values), step)
    return np.asarray(np.add.reduceat(values, starts) / np.diff([*starts, len(values)]))


def _down(share: float | np.ndarray) -> str:
    """How far below the top of the box, as SVG counts."""
    return f"{100 - 100 * float(share):.4g}"


def _points(x: np.ndarray, shares: np.ndarray) -> str:
    return "M" + "L".join(f"{at:.5g} {_down(share)}" for at, share in zip(x.tolist(), shares.tolist(), strict=True))


def _happenings(log: EpisodeLog) -> str:
    length = log.ticks * log.dt_s
    events = "".join(f"M{1000 * at / length:.5g} 0V100" for at, _ in log.events)
    kills = "".join(f"M{1000 * at / length:.5g} 0V100" for at in log.kills_s)
    return f'<path class="event" d="{events}"/><path class="kill" d="{kills}"/>'


def _seconds(log: EpisodeLog) -> str:
    """The time axis, at round numbers of seconds."""
    length = log.ticks * log.dt_s
    places = ((at, 100 * at / length) for at in ep.round_ticks(0.0, length, 4))
    labels = [f'<b style="left:{left:.4g}%">{ep.tick_label(at)} s</b>' for at, left in places if left < 97]
    return f'<div class="seconds">{"".join(labels)}</div>'


def _modes(logs: Sequence[EpisodeLog]) -> str:
    keys = [f'<span><i style="background:{MODE_COLOURS[0]}"></i>0: Linux\'s default</span>']
    keys += [
        f'<span><i style="background:{colour}"></i>{i}: {escape(ep.mode_names(i))}</span>'
        for i, colour in enumerate(MODE_COLOURS[1:], start=1)
    ]
    keys.append('<span><i class="overruled"></i>another mode was chosen, which is impossible</span>')
    cells = []
    for log in logs:
        rows = "".join(_mode_row(log, entry) for entry in range(len(act.ENTRIES)))
        caption = f"<figcaption>{escape(log.policy)}</figcaption>" if len(logs) > 1 else ""
        cells.append(f'<figure class="modes">{caption}{rows}{_seconds(log)}</figure>')
    events = "".join(f"<li>{at:g} s: {escape(name.replace('_', ' '))}</li>" for at, name in logs[0].events)
    happens = f"<h3>Events of the scenario</h3><ul>{events}</ul>" if events else ""
    head = "<h3>Modes in force <small>of every action entry</small></h3>"
    return f'<section>{head}<p class="legend">{"".join(keys)}</p>{_grid(cells)}</section>{happens}'


def _mode_row(log: EpisodeLog, entry: int) -> str:
    of, shapes, words = act.ENTRIES[entry], [], []
    paths: dict[int, str] = {}
    overruled = ""
    for run in ep.runs(log, entry):
        left, width = 1000 * run.start / log.ticks, 1000 * (run.end - run.start) / log.ticks
        box = f"M{left:.5g} 0h{width:.5g}v10h-{width:.5g}z"
        paths[run.mode] = paths.get(run.mode, "") + box
        if run.chosen != run.mode:
            overruled += f"M{left:.5g} 8h{width:.5g}v2h-{width:.5g}z"
        word = of.modes[run.mode]
        if width / 1000 >= LABELLED_SHARE * (len(word) + 1):
            colour = ink_on(MODE_COLOURS[run.mode])
            place = f"left:{left / 10:.4g}%;width:{width / 10:.4g}%;color:{colour}"
            words.append(f'<em style="{place}" title="{escape(ep.in_words(log, run, entry))}">{word}</em>')
    shapes = [f'<path d="{d}" fill="{MODE_COLOURS[mode]}"/>' for mode, d in paths.items()]
    shapes.append(f'<path d="{overruled}" fill="{KILL}"/>')
    svg = f'<svg viewBox="0 0 1000 10" preserveAspectRatio="none">{"".join(shapes)}</svg>'
    shares = np.bincount(log.in_force[:, entry], minlength=len(of.modes)) / log.ticks
    ordered = sorted(((share, mode) for share, mode in zip(shares, of.modes, strict=True) if share), reverse=True)
    text = ", ".join(f"{mode} {percent(share)}" for share, mode in ordered)
    return f'<div class="row"><span>{of.name} <small>{text}</small></span><div>{svg}{"".join(words)}</div></div>'


def _readout(panels: Sequence[ep.Panel], logs: Sequence[EpisodeLog], step: int) -> dict[str, object]:
    """What the script shows: the time of each point, and per panel and policy every series in words."""
    times = _means(logs[0].time_s, step)
    return {
        "s": [float(f"{at:.6g}") for at in times],
        "panels": {
            panel.title: {
                "names": [series.name.replace("_", " ") for series in panel.series],
                "values": [
                    [[number(float(x)) for x in _means(series.values[i], step)] for series in panel.series]
                    for i in range(len(logs))
                ],
            }
            for panel in panels
        },
    }


def style() -> str:
    """Rules for `episode_sections`, and for other figures of their kind."""
    return _CSS.replace("INK", INK).replace("FAINT", FAINT).replace("KILL", KILL)


_CSS = """
:root{color-scheme:light}
body{font:14px/1.4 system-ui,sans-serif;color:INK;background:#fff;margin:1rem auto;padding:0 .8rem;max-width:1500px}
h1{font-size:1.25rem;margin:0 0 .5rem}h2{font-size:1.1rem;margin:0}h3{font-size:1rem;margin:1.2rem 0 0}
h2+p{margin:.1rem 0 0}small{color:#555;font-weight:normal;font-size:.8rem}
.note{color:#555;font-size:.85rem}.note i{display:inline-block;height:1em;vertical-align:-.15em;margin:0 .2em}
.note i.kill{border-left:2px solid KILL}.note i.event{border-left:2px dashed FAINT}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr));gap:.6rem 1.6rem}
.legend{margin:.1rem 0 .4rem;font-size:.82rem;display:flex;flex-wrap:wrap;gap:.1rem 1rem}
.legend i{display:inline-block;width:.9em;height:.9em;border:1px solid #888;margin-right:.35em;vertical-align:-.1em}
.legend svg{margin-right:.35em;vertical-align:.05em}
figure{margin:0;position:relative;align-content:start}
figure{display:grid;grid-template-columns:4.2rem minmax(0,1fr);row-gap:.1rem}
figcaption{grid-column:2;font-size:.82rem;font-weight:600}
output{position:absolute;top:100%;left:4.2rem;right:0;z-index:1;background:#fff;font-size:.82rem}
.axis{position:relative;font-size:.75rem}
.axis b{position:absolute;right:.4rem;transform:translateY(50%);font-weight:400}
.plot{position:relative;height:130px;border-left:1px solid #777;border-bottom:1px solid #777}
.plot svg{display:block;width:100%;height:100%;overflow:hidden}.plot path{vector-effect:non-scaling-stroke}
.plot u{position:absolute;top:0;bottom:0;width:0;border-left:1px solid INK;display:none}
path.lines{stroke:#e2e2e2;fill:none}path.kill{stroke:KILL;stroke-width:1.5;fill:none}
path.event{stroke:FAINT;stroke-width:1.2;stroke-dasharray:4 3;fill:none}
.seconds{grid-column:2;position:relative;height:1.2rem;font-size:.75rem}
.seconds b{position:absolute;transform:translateX(-50%);font-weight:400;white-space:nowrap}
.seconds b:first-child{transform:none}
.modes{display:block}.row{margin:.15rem 0 .3rem}.row span{font-size:.8rem;display:block}
.row>div{position:relative;height:17px}.row svg{display:block;width:100%;height:100%}
.row em{position:absolute;top:0;font:12px/17px system-ui,sans-serif;padding-left:4px;overflow:hidden;
box-sizing:border-box;white-space:nowrap}
@media(min-width:900px){.modes{padding-left:4.2rem}}
i.overruled{background:linear-gradient(#E6E6E6 70%,KILL 70%)}
"""

SCRIPT = """
const data=JSON.parse(document.getElementById('data').textContent);
for(const plot of document.querySelectorAll('.plot[data-panel]')){
 const panel=data.panels[plot.dataset.panel],values=panel.values[plot.dataset.log],line=plot.querySelector('u');
 const out=plot.parentElement.querySelector('output');
 plot.onpointermove=e=>{const box=plot.getBoundingClientRect(),share=(e.clientX-box.left)/box.width;
  const i=Math.max(0,Math.min(data.s.length-1,Math.round(share*data.s.length-1)));
  line.style.display='block';line.style.left=100*share+'%';
  out.textContent=data.s[i]+' s: '+panel.names.map((n,k)=>n+' '+values[k][i]).join(', ');};
 plot.onpointerleave=()=>{line.style.display='none';out.textContent='';};
}
"""
