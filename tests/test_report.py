"""Reports: pages of every kind of source, with its numbers; strangers' names and numbers; a real browser."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.browsing import beyond_the_right_edge, look, start_browser
from tests.command_line import Cli
from tests.refusals import assert_refused
from tests.short_runs import short_scenario, write_short_scenario
from tests.tiny_training import small, tiny_scenario
from tiergym.env.model_hash import model_hash
from tiergym.errors import UserError
from tiergym.lab import results
from tiergym.lab.compare import compare
from tiergym.lab.leaderboard import leaderboard
from tiergym.lab.report import page, replayed
from tiergym.lab.report.charts import flags, over_time, profiles, track
from tiergym.lab.report.sources import Asked, read_source
from tiergym.lab.statistics import Interval
from tiergym.lab.suite_comparison import compare_suites, load_members
from tiergym.lab.train import train
from tiergym.policy.load import load_policy
from tiergym.specs import load_scenario, load_suite

ASKED = Asked(("online", "soft"), 2, 0)
RUNG = {
    "scenario": "a+b",
    "ticks": 10,
    "rules": {"online": [-4.0, -4.0], "soft": [-3.0, -3.0]},
    "rule": "soft",
    "selected": "soft",
    "one": [-3.5, -3.5],
    "constant": [-2.0, -2.0],
    "plan": [-1.0, -1.0],
    "learned": None,
    "seed": 0,
}


class Tags(HTMLParser):
    """Names of a page's elements and attributes, with what stands in scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script" and data.strip():
            self.scripts.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of every kind: c.json, s.json, board.json, rungs.json, the run `ppo`."""
    folder = tmp_path_factory.mktemp("results")
    write_short_scenario(folder)
    policies = {name: [load_policy(name)] for name in ("online", "soft", "restrict")}
    results.write_json(folder / "c.json", results.comparison_json(compare(policies, short_scenario(), 3, 0)))
    (folder / "mine.toml").write_text('scenarios = ["short.toml", "sparse-1to2"]\n')
    suites = [load_suite(folder / "mine.toml")]
    found = compare_suites(suites, load_members(suites, {}, ""), policies, {}, 3, 0)
    results.write_json(folder / "s.json", found.document())
    spelled = {name: [name] for name in policies}
    board = leaderboard(suites, spelled, folder / "cells", 3, 0, "soft")
    results.write_json(folder / "board.json", board.document())
    rungs = {"schema": 1, "model": model_hash(), "suites": {"mine": [RUNG, RUNG | {"learned": [-1.5, -1.5]}]}}
    results.write_json(folder / "rungs.json", rungs)
    train(small("ppo"), tiny_scenario(folder), seed=0, out=folder / "ppo")
    return folder


def made(source: Path, replay: bool = False) -> str:
    return page.render([read_source(str(source), ASKED)], replay)


def seen(text: str) -> str:
    """The page's text without tags, spaces made single."""
    body = re.sub(r"(?s)<(script|style)\b.*?</\1>", "", text)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_a_comparison_is_told_with_its_numbers(folder: Path) -> None:
    document = json.loads((folder / "c.json").read_text())
    text = seen(made(folder / "c.json", replay=True))
    best = max(document["policies"], key=lambda name: document["policies"][name]["return"]["mean"])
    assert f"{best} does best: return {document['policies'][best]['return']['mean']:.2f} [" in text
    for said in ("Lost time by cause", "What each policy did", "When each mode was in force", "tick by tick"):
        assert said in text
    assert all(digest in text for digest in (document["model"], document["digest"], document["agents"]["soft"][0]))
    assert "tiergym compare --scenario llama-1to2 --policies online,soft,restrict --set episode.horizon_s=2" in text
    assert "tiergym verify" in text


def test_a_suite_is_told_with_intervals_and_profile(folder: Path) -> None:
    document = json.loads((folder / "s.json").read_text())["suites"]["mine"]
    text = seen(made(folder / "s.json"))
    for row in document["rows"].values():
        assert f"{row['saved']['mean']:.3f}" in text and f"{row['worst_tenth']['mean']:.3f}" in text
    assert "Performance profile" in text and document["digest"] in text and "mean over 2 scenarios" in text


def test_a_leaderboard_and_a_ladder_share_a_page(folder: Path) -> None:
    parts = [read_source(str(folder / name), ASKED) for name in ("board.json", "rungs.json")]
    text = seen(page.render(parts))
    assert "under soft" in text and "tick by tick" in text, "a leaderboard's best policy on its first scenario"
    assert "the best constant of each family" in text and "headroom 0.67" in text
    assert text.count("a+b*") == 2


def test_random_networks_are_told_with_the_best_in_hindsight(folder: Path, cli: Cli) -> None:
    path = folder / "nets.json"
    made_by = cli("networks", folder / "mine.toml", "--count", 5, "--out", folder / "nets", "--json", path)
    assert made_by.code == 0, made_by.err
    document = json.loads(path.read_text())
    text = seen(made(path))
    ((suite, saved),) = document["saved"].items()
    assert f"the best, chosen in hindsight, {saved['1.0']:.2f}." in text and "of 5 random networks" in text
    for scenario, guess in document["suites"][suite].items():
        assert scenario in text and f"{guess['quantiles']['0.99']:.2f}" in text
    del saved["0.9"]
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"0\.9: None; allowed: a number"):
        read_source(str(path), ASKED)


def test_an_experiment_has_a_profile_of_its_episodes(folder: Path, cli: Cli) -> None:
    path = folder / "e.toml"
    path.write_text(
        f'description = "x"\nscenarios = ["{folder}/short.toml", "sparse-1to2"]\npolicies = ["online", "leaf"]\n'
        'episodes = 2\nseed = 1\n[modes.leaf]\nplace.pt_leaf = "restrict"\n'
    )
    assert cli("run", path, "--out", folder / "e").code == 0
    text = seen(made(folder / "e", replay=True))
    assert "all scenarios: what each policy saves" in text and "Performance profile" in text
    assert "tick by tick" in text and "place.pt_leaf" in text, "its named modes are loaded again"
    (folder / "e" / "results.json").unlink()
    (folder / "e" / "sparse-1to2" / "results.json").unlink()
    (folder / "e" / "sparse-1to2" / "results.parquet").unlink()
    assert "The experiment is not finished: 1 of its scenarios are here." in seen(made(folder / "e"))


def test_a_training_run_is_measured_and_has_its_curves(folder: Path) -> None:
    text = seen(made(folder / "ppo", replay=True))
    assert "return while exploring" in text and "all scenarios: what each policy saves" in text
    assert f"tiergym train --agent ppo --steps {small('ppo').steps} " in text
    assert "trained on model" in text and "tick by tick" in text


def test_a_training_run_s_own_episode_is_shown_whoever_does_best(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replayed, "best_two", lambda part: ["soft", "online"])
    shown = [replayed.replay(read_source(str(folder / name), ASKED)) for name in ("ppo", "c.json")]
    logs = [again.logs for again in shown if isinstance(again, replayed.Replay)]
    assert [[log.policy for log in each] for each in logs] == [["ppo", "online"], ["soft", "online"]]


def test_a_run_without_a_policy_shows_what_there_is(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "stopped"
    for name in ("config.toml", "versions.json", "progress.csv"):
        run.mkdir(exist_ok=True)
        (run / name).write_bytes((folder / "ppo" / name).read_bytes())
    text = seen(made(run))
    assert "Not measured" in text and "has no policy.onnx" in text and "return while exploring" in text


def test_a_suite_by_its_file_is_measured(folder: Path) -> None:
    text = seen(made(folder / "mine.toml"))
    assert "mine: what each policy saves" in text and "tiergym report" in text


def test_the_same_results_make_the_same_bytes(folder: Path, cli: Cli) -> None:
    pages = []
    for name in ("first.html", "second.html"):
        done = cli("report", folder / "s.json", folder / "ppo", "-o", name, "--episodes", 2)
        assert done.code == 0, done.err
        pages.append(Path(name).read_bytes())
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "0" * 16}, "These results are of another model (0000000000000000; here is"),
        ({"model": ""}, "do not say of which model"),
    ],
)
def test_another_model_s_results_are_shown_and_said_to_be_that(folder: Path, cli: Cli, change: Any, words: str) -> None:
    Path("x.json").write_text(json.dumps(json.loads((folder / "c.json").read_text()) | change))
    assert cli("report", "x.json", "-o", "x.html").code == 0
    text = seen(Path("x.html").read_text())
    assert words in text and text.index(words) < text.index("does best"), "on top"
    assert "tick by tick" not in text and "No episode is shown" in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"digest": "0" * 16}, "scenario short is another one here"),
        ({"agents": {"online": ["0"], "soft": ["0"], "restrict": ["0"]}}, "is another one here"),
        ({"scenario": "nowhere"}, "unknown scenario"),
    ],
)
def test_what_is_another_one_here_is_not_replayed(folder: Path, tmp_path: Path, change: Any, words: str) -> None:
    document = json.loads((folder / "s.json").read_text())
    entry = document["scenarios"]["short"] | {"scenario": "short", "schema": 1, "model": document["model"]}
    known = {"episodes": 3, "seed": 0, "agents": document["agents"]}
    suites = {} if "scenario" in change else {"suites": document["suites"], "above": document["above"]}
    (tmp_path / "x.json").write_text(json.dumps(entry | known | suites | change))
    assert words in seen(made(tmp_path / "x.json", replay=True))


def test_python_that_results_name_does_not_run(folder: Path, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("import pathlib\npathlib.Path('ran').touch()\ndef rule(obs, masks): ...\n")
    document = json.loads((folder / "c.json").read_text())
    document["policies"] = {"evil.py": document["policies"]["soft"]}
    document |= {"scenario": "llama-1to2", "digest": "", "modes": {}, "agents": {}}
    Path("x.json").write_text(json.dumps(document))
    assert cli("report", "x.json", "-o", "x.html").code == 0
    assert "is Python code that would run here" in seen(Path("x.html").read_text())
    assert not Path("ran").exists()


HOSTILE = (
    "<script>document.title='hacked'</script>",
    '"><img src=x onerror="document.title=\'hacked\'">',
    "</style><script>document.title='hacked'</script>",
    "{{ 7 * 7 }}{% include '/etc/passwd' %}",
    "x' onmouseover='alert(1)" + 300 * "x",
)


@pytest.fixture(scope="module")
def hostile(folder: Path) -> Path:
    """Every text of a comparison on a suite, of a ladder too, is a stranger's."""
    document = json.loads((folder / "s.json").read_text())
    names = dict(zip(("online", "soft", "restrict", "short", "mine"), HOSTILE, strict=True))
    text = json.dumps(document)
    for name, other in names.items():
        text = text.replace(json.dumps(name), json.dumps(other))
    document = json.loads(text) | {"model": HOSTILE[0]}
    for entry in document["scenarios"].values():
        entry |= {"changes": {HOSTILE[1]: HOSTILE[0]}, "digest": HOSTILE[1]}
        entry["modes"] = {
            policy: {HOSTILE[0]: {"in_force": {HOSTILE[1]: 0.5, HOSTILE[2]: 0.5}}} for policy in entry["policies"]
        }
    path = folder / "hostile.json"
    path.write_text(json.dumps(document))
    rung = RUNG | {"scenario": HOSTILE[1], "rules": {"online": [-4.0], HOSTILE[0]: [-3.0]}}
    rung |= {"rule": HOSTILE[0], "selected": HOSTILE[0], "one": [-3.0], "constant": [-2.0], "plan": [-1.0]}
    (folder / "rungs-hostile.json").write_text(json.dumps({"schema": 1, "suites": {HOSTILE[2]: [rung]}}))
    parts = [read_source(str(each), ASKED) for each in (path, folder / "rungs-hostile.json", folder / "c.json")]
    out = folder / "hostile.html"
    page.write_report(out, parts)
    return out


def test_strangers_names_inject_nothing(hostile: Path) -> None:
    text = hostile.read_text()
    tags = Tags(text)
    assert set(tags.tags).isdisjoint({"img", "iframe", "object", "embed", "base", "form"})
    assert len(tags.scripts) == 2, "the episode's numbers, and the page's own script"
    assert not [name for name, _ in tags.attributes if name.startswith("on")]
    assert "{{ 7 * 7 }}" in text.replace("&#39;", "'"), "a template in a name is text"
    assert all(value.startswith("data:") for name, value in tags.attributes if name in ("src", "href") and value)


def spoiled(document: dict, path: str, value: Any) -> dict:
    """The document with another value at `a/b/c`."""
    *parents, last = path.split("/")
    at = document
    for key in parents:
        at = at[key]
    at[last] = value
    return document


@pytest.mark.parametrize(
    ("file", "field", "value", "words"),
    [
        ("c.json", "schema", 2, "schema is 2; allowed: 1"),
        ("c.json", "schema", True, "schema is True; allowed: 1"),
        ("c.json", "policies", [], "policies: []; allowed: a table"),
        ("c.json", "policies", {}, "policies: empty"),
        ("c.json", "policies/soft", {}, "policies.soft: no return"),
        ("c.json", "policies/soft/return/mean", "x", "policies.soft.return.mean: 'x'; allowed: a number"),
        ("c.json", "policies/soft/return/low", float("nan"), "return.low: nan"),
        ("c.json", "policies/soft/throughput/high", 10**400, "throughput.high: a number of"),
        ("c.json", "policies/soft/return", [1], "policies.soft.return: [1]; allowed: a table"),
        ("c.json", "episodes", -1, "episodes: -1; allowed: a whole number"),
        ("c.json", "episodes", 0, "episodes: 0; allowed: a whole number from 1"),
        ("s.json", "above", [0, 0], "above: [0.0, 0.0]; allowed: two numbers"),
        ("c.json", "seed", True, "seed: True"),
        ("c.json", "agents", {"soft": "x"}, "agents.soft: 'x'; allowed: a list"),
        ("c.json", "modes/soft", {"zone": {"in_force": {}}}, "modes.soft.zone.in_force: empty"),
        ("c.json", "scenario", 3, "scenario: 3; allowed: a text"),
        ("s.json", "scenarios/short/policies/other", {}, "policies.other: no return"),
        ("s.json", "suites/mine/rows/soft/saved", None, "soft.saved: None; allowed: a table"),
        ("s.json", "suites/mine/profile/soft", [1], "profile.soft has 1 numbers; allowed: 81"),
        ("s.json", "suites/mine/rows/other", {}, "suites.mine: 'other' has no results on the scenarios"),
        ("s.json", "suites/mine", 3, "suites.mine: 3; allowed: a table"),
        ("board.json", "rows", {}, "rows: empty"),
        ("board.json", "rows/mine/soft/improves/mean", [], "improves.mean: []"),
        ("board.json", "policies/soft", [3], "policies.soft: 3; allowed: a table"),
        ("rungs.json", "suites/mine", [{}], "mine[0].rules: None; allowed: a table"),
        ("rungs.json", "suites/mine", [RUNG | {"selected": "x"}], "selected: 'x' is not among the rules"),
        ("rungs.json", "suites/mine", [RUNG | {"plan": [1.0]}], "episodes; allowed: as many of each rung"),
        ("rungs.json", "suites", 3, "suites: 3; allowed: a table"),
    ],
)
def test_malformed_results_are_refused_in_one_line(
    folder: Path, cli: Cli, file: str, field: str, value: Any, words: str
) -> None:
    Path("x.json").write_text(json.dumps(spoiled(json.loads((folder / file).read_text()), field, value)))
    assert_refused(cli("report", "x.json", "-o", "x.html"), "x.json: ", words)
    assert not Path("x.html").exists()


def test_halves_of_characters_are_written_as_question_marks(folder: Path, cli: Cli) -> None:
    text = (folder / "c.json").read_text().replace('"soft"', '"so\\ud800ft"')
    Path("x.json").write_text(text)
    done = cli("report", "x.json", "-o", "x.html")
    assert done.code == 0 and "so?ft" in Path("x.html").read_text(), done.err


def test_what_is_no_source_is_refused(folder: Path, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.json").write_text("[")
    for source, words in (
        ("empty", "empty: neither results.json nor config.toml"),
        ("bad.json", "not valid JSON"),
        ("no.json", "No such file"),
        ("tset", "did you mean 'test'"),
        ("runs/ppo", "also allowed: a folder of run or train"),
    ):
        assert_refused(cli("report", source, "-o", "x.html"), words)
    assert_refused(cli("report", folder / "c.json", "-o", "x.txt"), "ends in .html")
    assert_refused(cli("report", folder / "c.json", "-o", "."), "it is a folder")


def test_damaged_episodes_are_refused(folder: Path, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "results.json").write_bytes((folder / "c.json").read_bytes())
    (tmp_path / "e" / "results.parquet").write_bytes(b"PAR1")
    assert_refused(cli("report", "e", "-o", "x.html"), "results.parquet: not 3 episodes")


def test_shares_over_time_are_those_of_the_episodes() -> None:
    scenario = load_scenario("hotadd-kvstore")
    found = replayed.mode_shares(load_policy("adaptive"), "adaptive", scenario, 0, 2)
    for name, shares in found.shares.items():
        assert shares.sum(axis=1) == pytest.approx(1), name
    one = compare({"adaptive": [load_policy("adaptive")]}, scenario, 2, 0).modes["adaptive"].document()
    mean = found.shares["place.pt_leaf"].mean(axis=0)
    assert mean.tolist() == pytest.approx(list(one["place.pt_leaf"]["in_force"].values()))


def test_charts_place_numbers() -> None:
    drawn = track({"a": Interval(0.5, 0.4, 0.6), "b": Interval(-9.0, -9.5, -8.0)}, 2, -1.0)
    assert [mark.cut for mark in drawn.marks] == [False, True] and drawn.marks[1].mean == 0
    assert drawn.marks[0].low < drawn.marks[0].mean < drawn.marks[0].low + drawn.marks[0].width
    for same in (0.0, 1.0, 1e9, 1e100):
        close = track({"a": Interval(same, same, same), "b": Interval(*3 * [float(np.nextafter(same, 1e101))])}, 2)
        assert 2 <= len(close.ticks) <= 12
    assert {"-1", "-0.5", "0", "0.5"} <= {label for _, label in drawn.ticks}
    shown = profiles([-1.0, 0.0, 1.0], {"a": [1.0, 0.5, 0.0]})
    assert shown.lines[0].path == "M0 0L500 0L500 50L1000 50L1000 100"
    lanes = {flag.label: flag.lane for flag in flags({"S": 0.5, "H": 0.5, "P": 1.0}, dict.fromkeys("SHP", "#000000"))}
    assert lanes == {"S": 0, "H": 1, "P": 0}
    assert over_time(np.full((1, 2), 0.5), 1.0).lines[0].path == "M0 50L1000 50L1000 100L0 100Z"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from start_browser()


@pytest.mark.parametrize("width", [400, 1280])
def test_a_browser_shows_it_whole_and_asks_nobody(browser: Any, folder: Path, hostile: Path, width: int) -> None:
    everything = folder / "everything.html"
    names = ("s.json", "board.json", "rungs.json", "ppo")
    page.write_report(everything, [read_source(str(folder / name), ASKED) for name in names])
    for path in (everything, hostile):
        said, asked = look(browser, path, width)
        assert said == []
        assert [address for address in asked if not address.startswith("data:")] == [path.as_uri()]
        assert browser.title.startswith("tiergym report:")
        assert beyond_the_right_edge(browser) == []


def test_a_browser_tells_numbers_under_the_pointer(browser: Any, folder: Path) -> None:
    page.write_report(folder / "c.html", [read_source(str(folder / "c.json"), ASKED)])
    look(browser, folder / "c.html", 1280)
    plot = browser.find_element("css selector", ".plot[data-panel]")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    browser.execute_script(
        "const box = arguments[0].getBoundingClientRect();"
        "arguments[0].dispatchEvent(new PointerEvent('pointermove', {clientX: box.left + box.width / 2}))",
        plot,
    )
    assert re.search(r"^[\d.]+ s: .*anon", plot.parent.find_element("css selector", "output").text)
