"""Pictures of a machine, and films of them."""

import itertools
import re
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import DependencyNotInstalled
from gymnasium.wrappers import RecordVideo
from gymnasium.wrappers.vector import RecordVideo as RecordVectorVideo

import tiergym
from tests import palette_seen
from tests.short_runs import TICKS, random_modes
from tiergym.env import frames, palette, render
from tiergym.env.history import LENGTH, History, per_tier
from tiergym.env.machines import Machines
from tiergym.env.placement_env import PlacementEnv
from tiergym.env.vector_env import PlacementVectorEnv
from tiergym.errors import UserError
from tiergym.sim import names as n
from tiergym.specs import load_scenario

needs_moviepy = pytest.mark.skipif(find_spec("moviepy") is None, reason="moviepy is not installed (tiergym[video])")
IDLE = np.zeros(n.N_ACTIONS, np.int64)


def count(picture: np.ndarray, colour: str) -> int:
    """Pixels of exactly this colour."""
    return int((picture == palette.rgb(colour)).all(axis=-1).sum())


def run(scenario: Any, ticks: int, action: np.ndarray = IDLE) -> PlacementEnv:
    env = PlacementEnv(scenario, render_mode="rgb_array")
    env.reset(seed=0)
    for _ in range(ticks):
        env.step(action)
    return env


def test_a_picture_is_of_the_state_that_was_reached(short):
    env, unwatched = PlacementEnv(short, render_mode="ansi"), PlacementEnv(short)
    env.reset(seed=0)
    unwatched.reset(seed=0)
    for tick, chosen in enumerate(random_modes(1, TICKS)[:, 0], start=1):
        obs, _, _, _, info = env.step(chosen)
        text = env.render()
        assert f"tick {tick} of {TICKS}" in text and f"throughput {info['throughput']:.3f}" in text
        assert "kernel MiB" in text and "slow" in text and "low" in text
        np.testing.assert_array_equal(obs, unwatched.step(chosen)[0])


def test_pictures_have_the_shape_and_change(short):
    env, unwatched = PlacementEnv(short, render_mode="rgb_array"), PlacementEnv(short)
    env.reset(seed=0)
    unwatched.reset(seed=0)
    pictures = [env.render()]
    for chosen in random_modes(1, 3)[:, 0]:
        obs = env.step(chosen)[0]
        pictures.append(env.render())
        np.testing.assert_array_equal(obs, unwatched.step(chosen)[0])
    assert all(picture.dtype == np.uint8 for picture in pictures)
    assert {picture.shape for picture in pictures} == {(frames.HEIGHT, frames.WIDTH, 3)}
    assert all((a != b).any() for a, b in itertools.pairwise(pictures))
    assert PlacementEnv(short).render() is None and PlacementVectorEnv(2, short).render() is None


def test_bands_are_as_high_as_their_classes_are_large():
    """Columns of the newest step, against the machine's own numbers."""
    env = run("kvstore-1to2", 100)
    record, picture = env._machines.records[0], env.render()
    column = picture[frames._DRAM : frames._DRAM + frames._PLOT_HEIGHT, frames._LEFT + frames._PLOT_WIDTH - 1]
    used, managed = per_tier(record["used_pages"])[:, n.FAST], per_tier(record["managed_pages"])[n.FAST]
    for cls, colour in palette.CLASS_COLOURS.items():
        share = used[n.CLASSES.index(cls)] / managed
        assert count(column[None], colour) == pytest.approx(share * frames._PLOT_HEIGHT, abs=1.01), cls
    assert used[n.ANON] / managed > 0.2


def test_a_mode_is_a_word_in_its_colour_and_the_default_has_none():
    scenario = load_scenario("kvstore-1to2")
    plain, chosen = run(scenario, 1), run(scenario, 1, np.eye(n.N_ACTIONS, dtype=np.int64)[n.A_HEADROOM] * 3)
    row = frames._ACTION_TOP + n.A_HEADROOM * frames._ROW
    where = np.s_[row - 1 : row + frames._ROW - 3, frames._MODE - 4 :]
    assert count(chosen.render()[where], palette.MODE_COLOURS[3]) > 500
    assert count(plain.render()[where], palette.MODE_COLOURS[3]) == 0
    assert count(plain.render()[where], palette.BACKGROUND) > 500
    other = run("llama-1to2", 1).render()
    assert (plain.render()[:40, : frames._LEFT + 100] != other[:40, : frames._LEFT + 100]).any(), "the scenario's name"


def test_kills_are_lines_through_all_plots():
    restrict = IDLE.copy()
    restrict[: n.N_PLACEMENTS] = n.RESTRICT
    env = PlacementEnv("sparse-1to2", render_mode="rgb_array")
    env.reset(seed=0)
    killed = 0
    while not killed:
        assert count(env.render(), palette.KILL) == 0
        for _ in range(20):
            env.step(restrict)
            killed += env.tick()["counters"]["oom_kill"] > 0
    assert count(env.render(), palette.KILL) == killed * len(frames._TOPS) * frames._PLOT_HEIGHT


def test_history_keeps_the_last_steps_in_order_and_forgets_other_episodes(short):
    machines = Machines([short], 2)
    machines.reset(np.arange(2, dtype=np.uint64))
    machines.records["ticks"] = [LENGTH + 20, 30]
    history = History(2)
    history.add(machines.records)
    assert len(history.order(0)) == 0
    reached = []
    for _ in range(LENGTH + 10):
        machines.step(np.zeros((2, n.N_ACTIONS), np.int64))
        history.add(machines.records)
        reached.append(machines.records["lost"].copy())
        ticks = int(machines.records["tick"][1])
        assert len(history.order(1)) == ticks
    lost = np.stack(reached, axis=1)
    np.testing.assert_array_equal(history.lost[history.order(0), 0], lost[0, -LENGTH:].astype(np.float32))
    np.testing.assert_array_equal(history.lost[history.order(1), 1], lost[1, len(reached) - ticks :].astype(np.float32))
    assert 0 < ticks < 30


@pytest.mark.parametrize("deficiency", palette_seen.DEFICIENCIES)
@pytest.mark.parametrize("names", ["CLASS_COLOURS", "CAUSE_COLOURS", "WMARK_COLOURS", "MODE_COLOURS"])
def test_no_two_colours_look_alike_to_anybody(names: str, deficiency: str):
    colours = getattr(palette, names)
    seen = [palette_seen.lab(colour, deficiency) for colour in getattr(colours, "values", lambda: colours)()]
    distances = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]]
    assert min(distances) > 15, "2.3 is what can just be told apart"


def test_a_frame_takes_less_than_a_matplotlib_figure_that_exists_already():
    """A ratio, since machines differ: a full history in ten frames, against ten drawings of six stacked plots."""
    agg = pytest.importorskip("matplotlib.backends.backend_agg")
    from matplotlib.figure import Figure

    env = run("llama-1to2", 250)
    figure = Figure(figsize=(11.2, 6.08), dpi=100)
    canvas = agg.FigureCanvasAgg(figure)
    for axes in figure.subplots(6, 1):
        axes.stackplot(np.arange(LENGTH), np.random.default_rng(0).random((9, LENGTH)))

    def seconds(draw: Any) -> float:
        draw()
        started = time.process_time()
        for _ in range(5):
            draw()
        return time.process_time() - started

    assert seconds(env.render) < seconds(canvas.draw) / 3


def test_a_batch_gives_a_frame_per_machine_as_recorders_expect(short):
    envs = PlacementVectorEnv(3, [short, "kvstore-1to2"], render_mode="rgb_array")
    envs.reset(seed=0)
    envs.step(np.zeros((3, n.N_ACTIONS), np.int64))
    pictures = envs.render()
    assert isinstance(pictures, render.Pictures) and len(pictures) == 3
    alone = PlacementEnv(short, render_mode="rgb_array")
    alone.reset(seed=0)
    alone.step(IDLE)
    np.testing.assert_array_equal(pictures[0], alone.render())
    assert np.array(pictures).shape == (3, frames.HEIGHT, frames.WIDTH, 3)
    assert (pictures[0] != pictures[1]).any() and len(pictures[1:]) == 2
    np.testing.assert_array_equal(pictures[-1], pictures[2])
    with pytest.raises(IndexError):
        pictures[3]
    envs.step(np.zeros((3, n.N_ACTIONS), np.int64))
    with pytest.raises(RuntimeError, match="look before the next step"):
        pictures[0]
    texts = PlacementVectorEnv(2, short, render_mode="ansi")
    texts.reset(seed=0)
    frames_of_text = texts.render()
    assert frames_of_text is not None and [text.startswith("tick 0 ") for text in frames_of_text] == [True, True]


def test_to_look_at_one_machine_of_many_draws_one(short, monkeypatch):
    drawn = []
    monkeypatch.setattr(frames, "draw", lambda record, history, machine, name: drawn.append(machine))
    envs = PlacementVectorEnv(1000, short, render_mode="rgb_array")
    envs.reset(seed=0)
    pictures = envs.render()
    assert pictures is not None and pictures[7] is None
    assert drawn == [7]


def test_without_pillow_a_picture_says_what_to_install(short, monkeypatch):
    def missing(name, *rest, **more):
        raise ImportError(name)

    frames._pillow.cache_clear()
    frames._letters.cache_clear()
    frames._background.cache_clear()
    env = run(short, 1)
    with monkeypatch.context() as patch:
        patch.setattr("builtins.__import__", missing)
        with pytest.raises(DependencyNotInstalled, match=re.escape("pip install 'tiergym[lab]'")):
            env.render()
    assert env.render().any()


def test_a_window_is_gymnasium_s_and_says_what_it_needs(short, monkeypatch):
    monkeypatch.setattr(render, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pygame, which is not installed: pip install pygame"):
        PlacementEnv(short, render_mode="human")
    monkeypatch.setattr(render, "find_spec", lambda name: name)
    with pytest.raises(UserError, match=re.escape("gymnasium.make(..., render_mode='human') makes of rgb_array")):
        PlacementEnv(short, render_mode="human")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with pytest.warns(UserWarning, match="HumanRendering"):
        env = gymnasium.make(tiergym.ENV_ID, scenario=short, render_mode="human")
    if find_spec("pygame") is None:
        with pytest.raises(DependencyNotInstalled, match="pygame is not installed"):
            env.reset(seed=0)
        return
    env.reset(seed=0)
    env.step(IDLE)
    window: Any = env.get_wrapper_attr("window")
    assert window.get_size() == (frames.WIDTH, frames.HEIGHT)
    env.close()


@needs_moviepy
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_film_of_an_episode_is_recorded(short, tmp_path: Path):
    env = gymnasium.make(tiergym.ENV_ID, scenario=short, render_mode="rgb_array")
    film = RecordVideo(env, str(tmp_path), episode_trigger=lambda episode: episode == 0)
    film.reset(seed=0)
    done = False
    while not done:
        _, _, _, done, _ = film.step(IDLE)
    film.close()
    (path,) = tmp_path.glob("*.mp4")
    assert path.stat().st_size > 5000


@needs_moviepy
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("first_only", [True, False])
def test_a_film_of_a_batch_is_recorded(short, tmp_path: Path, first_only: bool):
    envs = PlacementVectorEnv(4, short, render_mode="rgb_array")
    film = RecordVectorVideo(envs, str(tmp_path), record_first_only=first_only, episode_trigger=lambda e: e == 0)
    film.reset(seed=0)
    for _ in range(TICKS + 1):
        film.step(np.zeros((4, n.N_ACTIONS), np.int64))
    film.close()
    (path,) = tmp_path.glob("*.mp4")
    assert path.stat().st_size > 5000
