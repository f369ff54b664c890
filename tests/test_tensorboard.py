"""A run in TensorBoard: asked of the real server, and looked at with a browser."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from tests.browsing import start_browser
from tests.tiny_training import logged_twice, small, tiny_scenario
from tiergym.env import actions as act
from tiergym.lab.train import train
from tiergym.sim import names as n

PATIENCE_S = 120
SCENARIOS = ("tiny", "again")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    scenario = tiny_scenario(folder)
    recipe = replace(small("ppo", steps=128), evaluation={"episodes": 2, "every_steps": 64})
    return train(recipe, [scenario, replace(scenario, name="again")], out=folder / "board" / "run", progress=False)


def eventually(question: Callable[[], Any]) -> Any:
    """The first true answer."""
    until = time.monotonic() + PATIENCE_S
    while not (answer := question()):
        assert time.monotonic() < until, question
        time.sleep(0.2)
    return answer


@pytest.fixture(scope="module")
def server(run) -> Iterator[str]:
    """The address of a TensorBoard that has read the run."""
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        str(run.parent),
        "--port",
        "0",
        "--load_fast=false",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = next(found[0] for line in process.stderr if (found := re.search(r"http://\S+", line)))
        try:
            eventually(lambda: asked(address, "images/tags"))
            yield address
        finally:
            process.terminate()


def asked(address: str, path: str, body: Any = None) -> Any:
    """What a plugin of the server answers."""
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"{address}data/plugin/{path}", data, {"Content-Type": "application/json"})
    with urlopen(request, timeout=PATIENCE_S) as answer:
        return json.load(answer)


def test_the_server_has_the_tags(server):
    tags = set(asked(server, "scalars/tags")["run"])
    assert {"Return/deterministic", "Return/exploring", "eval/mean_reward", "eval/throughput"} <= tags
    assert {"rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps", "train/loss"} <= tags
    assert {f"{group}/{name}" for group in ("eval_return", "scenario_return") for name in SCENARIOS} <= tags
    assert {f"{group}/{name}" for group in ("modes", "modes_in_effect") for name in act.MASK_NAMES} <= tags
    assert {f"stacked_lost/{name}" for name in n.CAUSES} | {f"stacked_reward_terms/{name}" for name in n.TERMS} <= tags
    assert min(tag.partition("/")[0] for tag in tags) == "Return"


def test_the_server_has_a_picture_of_each_evaluation(server):
    pictures = asked(server, "images/images?run=run&tag=timeline&sample=0")
    assert [picture["step"] for picture in pictures] == [64, 128]
    with urlopen(f"{server}data/plugin/images/individualImage?{pictures[-1]['query']}", timeout=PATIENCE_S) as answer:
        picture = answer.read()
    assert picture.startswith(b"\x89PNG") and int.from_bytes(picture[16:20]) == 1280


def test_the_server_has_hyperparameters_with_final_metrics(server):
    experiment = asked(server, "hparams/experiment", {"hparamsLimit": 100})
    assert {"algorithm", "n_steps", "gamma", "seed"} <= {each["name"] for each in experiment["hparamInfos"]}
    wanted = [{"metric": each["name"]} for each in experiment["metricInfos"]]
    assert {each["metric"].get("tag") for each in wanted} >= {"Return/deterministic", "eval/throughput"}
    question = {"allowedStatuses": ["STATUS_SUCCESS", "STATUS_RUNNING"], "colParams": wanted, "sliceSize": 9}
    (group,) = asked(server, "hparams/session_groups", question)["sessionGroups"]
    values = {each["name"]["tag"]: each for each in group["metricValues"]}
    last = asked(server, "scalars/scalars?run=run&tag=Return/deterministic")[-1]
    assert values["Return/deterministic"]["value"] == pytest.approx(last[2])
    assert int(values["Return/deterministic"]["trainingStep"]) == 128


def test_each_chart_of_the_custom_page_has_its_lines(server):
    tags = asked(server, "scalars/tags")["run"]
    layout = asked(server, "custom_scalars/layout")
    assert layout["category"][0]["title"] == "Return"
    charts = {chart["title"]: chart for category in layout["category"] for chart in category["chart"]}
    for chart in charts.values():
        for pattern in chart.get("multiline", {}).get("tag", []):
            assert any(re.search(pattern, tag) for tag in tags), pattern
        for series in chart.get("margin", {}).get("series", []):
            assert {series["value"], series["lower"], series["upper"]} <= set(tags)
    lost = [series["value"] for series in charts["lost time by cause, stacked"]["margin"]["series"]]
    assert lost == [f"stacked_lost/{name}" for name in n.CAUSES]


def test_bands_stand_upon_one_another_and_reach_what_is_lost(run):
    events = EventAccumulator(str(run)).Reload()
    for i, throughput in enumerate(events.Scalars("rollout/throughput")):
        heights = [events.Scalars(f"stacked_lost/{name}")[i].value for name in n.CAUSES]
        assert heights == sorted(heights) and heights[-1] == pytest.approx(1 - throughput.value, abs=1e-4)


def test_nothing_is_logged_twice(run):
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    assert logged_twice(run) == []
    assert [event.step for event in events.Scalars("train/loss")] == [32, 64, 96, 128]


def test_lengths_are_in_decisions(run):
    """An episode of 12 ticks, of which a choice holds 8, has two decisions."""
    events = EventAccumulator(str(run)).Reload()
    assert events.Scalars("rollout/ep_len_mean")[-1].value == pytest.approx(2)
    assert events.Scalars("rollout/ep_rew_mean")[-1].value < 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from start_browser("--window-size=1280,1600")


def look(browser: Any, address: str) -> None:
    browser.get("about:blank")  # the page would not load anew for another part of itself
    browser.get(address)


COUNT = """
function count(root, selector) {
    const inside = [...root.querySelectorAll("*")].filter(element => element.shadowRoot);
    const deeper = inside.map(element => count(element.shadowRoot, selector));
    return deeper.reduce((a, b) => a + b, root.querySelectorAll(selector).length);
}
return count(document, arguments[0]);
"""
"""Elements of the page that are drawn, in whatever depth of components."""


def test_a_browser_finds_the_return_first(browser, server):
    def groups() -> list[str]:
        headings = [each.text for each in browser.find_elements("css selector", ".group-toolbar")]
        return [words[0] for heading in headings if (words := heading.split()) and words[0] != "Pinned"]

    look(browser, f"{server}#timeseries")
    assert eventually(groups)[0].startswith("Return")
    first = browser.find_elements("css selector", "scalar-card")[:2]
    assert ["deterministic" in card.text for card in first] == [True, False]
    assert ["exploring" in card.text for card in first] == [False, True]


def test_a_browser_finds_the_charts(browser, server):
    titles = ("return: deterministic and exploring", "lost time by cause, stacked", "reward terms, stacked")

    def drawn() -> bool:
        text = browser.find_element("tag name", "body").text
        return all(title in text for title in (*titles, "return while exploring, by scenario"))

    look(browser, f"{server}#custom_scalars")
    eventually(drawn)
    bands = len(n.CAUSES) + len(n.TERMS)
    eventually(lambda: browser.execute_script(COUNT, "path.area") == bands)
    eventually(lambda: browser.execute_script(COUNT, "path.line") > bands + act.N_MASK)
