"""One episode in full: its log against the machine, its views, the commands show and watch."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.command_line import Cli
from tests.short_runs import TICKS
from tiergym import specs
from tiergym.env import actions as act
from tiergym.env.machines import Machines
from tiergym.errors import UserError
from tiergym.lab import episode_html, episode_log, episode_panels, episode_plot, episode_text, metrics
from tiergym.lab.episode_log import EpisodeLog, log_episode
from tiergym.lab.evaluate import evaluate, evaluation_seeds
from tiergym.policy.load import load_policy
from tiergym.sim import names as n

HOTADD = "hotadd-kvstore"
"""CXL arrives at 15 s: before that nothing can be asked from it."""


@pytest.fixture(scope="module")
def hopeful(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A policy that asks for what its machine cannot do: kernel pages from CXL that is not there yet, moved stacks."""
    path = tmp_path_factory.mktemp("policies") / "hopeful.toml"
    path.write_text('[modes]\n"place.pt_leaf" = "prefer_slow"\n"migrate.kstack" = "idle"\n')
    return str(path)


@pytest.fixture(scope="module")
def logs(hopeful: str) -> list[EpisodeLog]:
    scenario = specs.load_scenario(HOTADD)
    return [log_episode(load_policy(name), name, scenario, 0, 1) for name in (hopeful, "adaptive")]


@pytest.fixture(scope="module")
def killed() -> EpisodeLog:
    """Restricting where nothing can be reclaimed."""
    return log_episode(load_policy("restrict"), "restrict", specs.load_scenario("sparse-1to2"), 0, 0)


def test_a_log_is_the_episode_that_evaluate_measures() -> None:
    scenario = specs.load_scenario("llama-1to2")
    measured = evaluate(load_policy("adaptive"), scenario, 3, seed=2)
    log = log_episode(load_policy("adaptive"), "adaptive", scenario, 2, 2)
    values = {name: array[2] for name, array in measured.values.items()}
    assert log.machine_seed == evaluation_seeds(2, 3)[2]
    assert log.reward.sum() == pytest.approx(values["return"], rel=1e-12)
    assert log.throughput.mean() == pytest.approx(values["throughput"], rel=1e-12)
    np.testing.assert_allclose(log.lost.mean(axis=0), [values[f"lost_{cause}"] for cause in n.CAUSES], rtol=1e-9)
    np.testing.assert_allclose(log.lost.sum(axis=1), 1 - log.throughput, atol=1e-9)
    assert log.counters[:, n.C_PGDEMOTE_PROACTIVE].sum() > 0
    moved = log.counters[:, [n.C_PGDEMOTE_KSWAPD, n.C_PGDEMOTE_DIRECT, n.C_PGDEMOTE_PROACTIVE]].sum()
    assert moved == values["demoted_pages"]
    slow = log.pages[:, n.FIRST_KERNEL_CLASS :, n.SLOW].sum(axis=1).mean()
    assert slow == pytest.approx(values["slow_kernel_pages"])
    modes = measured.modes.in_force[2]
    for entry, first in enumerate(act.OFFSETS):
        shares = np.bincount(log.in_force[:, entry], minlength=act.NVEC[entry]) / log.ticks
        np.testing.assert_allclose(shares, modes[first : first + act.NVEC[entry]])
    assert metrics.NAMES[0] == "return"


def test_what_is_in_force_is_what_the_machine_had(logs: list[EpisodeLog], hopeful: str) -> None:
    """The engine's record of the action, from a run of its own."""
    machines = Machines([specs.load_scenario(HOTADD)], 1, next_step=True)
    machines.reset(evaluation_seeds(0, 2)[1:])
    policy, log = load_policy(hopeful), logs[0]
    for tick in range(log.ticks):
        machines.step(policy(machines.obs, machines.masks))
        np.testing.assert_array_equal(machines.records["action"][0], log.in_force[tick])
        np.testing.assert_array_equal(machines.records["free_pages"][0], log.free_pages[tick])
    tables, stacks = n.A_PLACE_PT_LEAF, n.A_MIGRATE_KSTACK
    assert (log.chosen[:, tables] == n.PREFER_SLOW).all() and (log.chosen[:, stacks] == 1).all()
    refused = log.in_force[:, tables] != log.chosen[:, tables]
    assert refused[5:60].all() and not refused[70:].any(), "CXL arrives at 15 s, tick 60"
    assert (log.in_force[:, stacks] == 0).all()


def test_runs_cut_an_episode_where_something_changes(logs: list[EpisodeLog]) -> None:
    for log in logs:
        for entry in range(n.N_ACTIONS):
            found = episode_panels.runs(log, entry)
            assert found[0].start == 0 and found[-1].end == log.ticks
            for run in found:
                assert (log.in_force[run.start : run.end, entry] == run.mode).all()
                assert (log.chosen[run.start : run.end, entry] == run.chosen).all()
            pairs = list(itertools.pairwise(found))
            assert all(a.end == b.start and (a.mode, a.chosen) != (b.mode, b.chosen) for a, b in pairs)
    run = episode_panels.runs(logs[0], n.A_MIGRATE_KSTACK)[0]
    words = episode_panels.in_words(logs[0], run, n.A_MIGRATE_KSTACK)
    assert words == "off from 0 s to 75 s; idle was chosen and is impossible here"


def test_panels_hold_the_pages_the_marks_and_all_of_the_time(logs: list[EpisodeLog]) -> None:
    panels = {panel.title: panel for panel in episode_panels.panels(logs)}
    dram, cxl = panels["DRAM: pages by class"], panels["CXL: pages by class"]
    for panel, tier in ((dram, n.FAST), (cxl, n.SLOW)):
        for i, log in enumerate(logs):
            total = sum(series.values[i] for series in panel.series)
            np.testing.assert_allclose(total, log.pages[:, :, tier].sum(axis=1) / 2**18)
        assert panel.high == max(log.managed_pages[:, n.TIER_ZONES[tier]].sum(axis=1).max() for log in logs) / 2**18
    time = panels["throughput, and time lost by cause"]
    for i, log in enumerate(logs):
        np.testing.assert_allclose(sum(series.values[i] for series in time.series), 100, atol=0.2)
        assert time.low < 100 * log.throughput.min()
    free = {series.name: series for series in panels["free DRAM and watermarks"].series}
    np.testing.assert_allclose(free["free in zone normal"].values[1], logs[1].free_pages[:, n.NORMAL] / 256)
    np.testing.assert_allclose(free["low of it"].values[0], logs[0].wmark_pages[:, n.WMARK_LOW, n.NORMAL] / 256)
    moved = {series.name: series for series in panels["pages moved"].series}
    ahead = logs[1].counters[:, n.C_PGDEMOTE_PROACTIVE] / logs[1].dt_s
    np.testing.assert_allclose(moved["demoted ahead"].values[1], ahead)
    for panel in panels.values():
        assert 2 <= len(panel.ticks()) <= 6 and panel.ticks() == sorted(panel.ticks())
        assert panel.shown(np.array([panel.low, panel.high])).tolist() == [0, 1]


class Page(HTMLParser):
    """Tags, texts and whatever a page would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [f"{tag} {key}={value}" for key, value in attrs if key in ("src", "href", "xlink:href")]
        if tag not in ("meta", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "path":
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_a_page_needs_nothing_but_itself(tmp_path: Path, logs: list[EpisodeLog]) -> None:
    path = tmp_path / "new" / "episode.html"
    episode_html.write_episode_html(path, logs)
    text = path.read_text()
    page = Page(text)
    assert page.open == [] and page.loaded == [] and "url(" not in text and "http" not in text
    words = " ".join(page.words)
    for said in ("hotadd-kvstore, episode 1 of seed 0", "adaptive", "hopeful.toml", "watermarks", "15 s: hot add"):
        assert said in words, said
    for entry in act.NAMES:
        assert words.count(f"{entry} ") >= 2, entry
    assert re.search(
        r'title="fallback from [\d.]+ s to 15[\d.]* s; prefer_slow was chosen and is impossible here"', text
    )
    assert text.count("<svg viewBox") == 2 * (7 + n.N_ACTIONS)
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    assert len(data["s"]) == logs[0].ticks and data["s"][-1] == 75


def test_names_cannot_break_a_page(tmp_path: Path, killed: EpisodeLog) -> None:
    path = tmp_path / "page.html"
    episode_html.write_episode_html(path, [replace(killed, policy="<script>x</script>", scenario="</script>&")])
    page = Page(path.read_text())
    assert page.open == [] and "<script>x</script>" in "".join(page.words)


def test_a_long_episode_is_averaged_and_says_so(tmp_path: Path) -> None:
    long = specs.override(specs.load_scenario("llama-1to2"), {"episode.horizon_s": 0.25 * 2001})
    log = log_episode(load_policy("online"), "online", long, 0, 0)
    path = tmp_path / "long.html"
    episode_html.write_episode_html(path, [log])
    assert "A point is the mean of 3 ticks." in path.read_text()
    means = episode_html._means(log.throughput, 3)
    assert len(means) == 667 and means[0] == pytest.approx(log.throughput[:3].mean())
    assert means[-1] == pytest.approx(log.throughput[-3:].mean())


@pytest.mark.parametrize("several", [False, True])
def test_a_picture_is_drawn(tmp_path: Path, logs: list[EpisodeLog], killed: EpisodeLog, several: bool) -> None:
    path = tmp_path / "episode.png"
    episode_plot.write_episode_png(path, logs if several else [killed])
    picture = matplotlib.image.imread(path)
    assert picture.shape[1] == 1280 and picture.shape[0] > 1000
    red = picture[..., 0] - picture[..., 1:3].max(axis=-1) > 0.2
    assert (int(red.sum(axis=0).max()) > 800) != several, "kills are lines through all panels"


def test_the_terminal_view_is_80_columns_wide_and_says_what_happened(
    logs: list[EpisodeLog], killed: EpisodeLog
) -> None:
    for shown in (logs, logs[:1], [killed]):
        text = episode_text.render(shown).plain
        assert max(map(len, text.splitlines())) <= 80, max(text.splitlines(), key=len)
    text = episode_text.render(logs[:1]).plain
    assert re.search(r"migrate.kstack +!{42} +0 changes", text)
    assert re.search(r"place.pt_leaf +!{6,10}3{30,36} +0 changes", text)
    assert "hot add                at 15 s" in text and "always at Linux's default: place.pt_upper" in text
    text = episode_text.render([killed]).plain
    assert re.search(r"OOM kills +·+x·+x·* 2 in all", text)
    assert "restrict throughout\nthe same: place.pt_upper" in text
    both = episode_text.render(logs).plain
    assert re.search(r"(?m)^anon +A .*\n +B ", both)
    assert re.search(r"(?m)^throughput +A ", both)


def test_bars_show_what_is_more_than_nothing() -> None:
    assert episode_text._bars(np.array([0, 1e-9, 0.5, 1.0])) == " ▁▄█"
    assert len(episode_text._bars(np.linspace(0, 1, 1000))) == episode_text.STRIP


def test_json_and_parquet_hold_every_series(tmp_path: Path, logs: list[EpisodeLog]) -> None:
    document = json.loads(json.dumps(episode_log.document(logs)))
    assert (document["schema"], document["scenario"], document["episode"]) == (1, HOTADD, 1)
    assert document["events"] == [{"at_s": 15, "kind": "hot_add"}, {"at_s": 35, "kind": "hot_add"}]
    series = document["policies"]["adaptive"]
    assert series["pages"]["slow"]["anon"] == logs[1].pages[:, n.ANON, n.SLOW].tolist()
    assert series["wmark_pages"]["low"]["normal"] == logs[1].wmark_pages[:, n.WMARK_LOW, n.NORMAL].tolist()
    assert set(series["counters"]) == set(n.COUNTERS) and set(series["lost"]) == set(n.CAUSES)
    (hopeful, _) = document["policies"].values()
    assert hopeful["modes"]["migrate.kstack"] == {
        "chosen": ["idle"] * logs[0].ticks,
        "in_force": ["off"] * logs[0].ticks,
    }
    episode_log.write_parquet(tmp_path / "log.parquet", logs)
    rows = pq.read_table(tmp_path / "log.parquet").to_pylist()
    assert len(rows) == 2 * logs[0].ticks
    last = rows[-1]
    assert last["policy"] == "adaptive" and last["tick"] == logs[0].ticks - 1
    assert last["pages/slow/anon"] == series["pages"]["slow"]["anon"][-1]
    assert last["modes/headroom/in_force"] == series["modes"]["headroom"]["in_force"][-1]
    assert last["counters/pgfree"] == series["counters"]["pgfree"][-1]


def test_show_writes_every_file_it_is_asked_for(cli: Cli, short_toml: Path, tmp_path: Path) -> None:
    files = ("--png", "new/e.png", "--html", "e.html", "--json", "e.json", "--log", "e.parquet")
    done = cli("show", "restrict", "--against", "online", "--scenario", short_toml, "--episode", 3, *files)
    assert (done.code, done.out) == (0, ""), done.err
    for name in files[1::2]:
        assert (tmp_path / name).stat().st_size > 1000
    document = json.loads((tmp_path / "e.json").read_text())
    assert list(document["policies"]) == ["restrict", "online"] and document["episode"] == 3
    assert document["machine_seed"] == evaluation_seeds(0, 4)[3]
    first, second = document["policies"].values()
    assert first["managed_pages"]["dma"] == second["managed_pages"]["dma"] and len(first["time_s"]) == TICKS


def test_show_draws_in_the_terminal_and_takes_changes(cli: Cli, short_toml: Path) -> None:
    done = cli("show", "online", "--scenario", short_toml, "--set", "kernel.demotion=off")
    assert done.code == 0, done.err
    assert "short with kernel.demotion = " in done.out and "always at Linux's default" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("online", "--against", "online"), "--against: 'online' is the policy itself; allowed: another one"),
        (("onlin",), "did you mean 'online'"),
        (("online", "--against", "onlin"), "did you mean 'online'"),
        (("online", "--scenario", "llma-1to2"), "did you mean 'llama-1to2'"),
        (("online", "--png", "."), "it is a folder; name a file"),
    ],
)
def test_show_refuses_bad_input_in_one_line(cli: Cli, arguments: tuple[Any, ...], words: str) -> None:
    done = cli("show", *arguments)
    assert done.code == 2 and words in done.err and len(done.err.splitlines()) == 1


def test_a_plan_for_another_length_is_refused(short: specs.Scenario, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"schema": 1, "plan": "x", "horizon_ticks": 5, "pieces": [{"ticks": 5, "modes": {}}]}')
    with pytest.raises(UserError, match="5"):
        log_episode(load_policy(str(path)), "plan", short, 0, 0)


def test_watch_follows_an_episode_to_its_end(cli: Cli, short_toml: Path) -> None:
    done = cli("watch", "restrict", "--scenario", short_toml, "--speed", 1000)
    assert done.code == 0, done.err
    assert f"tick {TICKS} of {TICKS}" in done.out and "place.pt_leaf=restrict" in done.out


def test_watch_ends_with_ctrl_c_and_exit_code_0(short_toml: Path) -> None:
    command = [sys.executable, "-m", "tiergym", "watch", "online", "--scenario", str(short_toml), "--speed", "0.01"]
    environment = os.environ | {"FORCE_COLOR": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None and process.stderr is not None
        shown = b""
        while b"tick 1 of" not in shown:
            part = os.read(process.stdout.fileno(), 4096)
            assert part, process.stderr.read().decode()
            shown += part
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0 and b"Traceback" not in errors
