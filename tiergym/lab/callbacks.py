"""What happens during training besides learning: numbers for TensorBoard, checkpoints, stopping, progress."""

import signal
import sys
import threading
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

import numpy as np
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from stable_baselines3.common.callbacks import BaseCallback

from tiergym.env import actions as act
from tiergym.lab import checkpoint
from tiergym.lab.tensorboard_log import DETERMINISTIC, EXPLORING, STACKS, THROUGHPUT, floors, stacked
from tiergym.lab.training_env import TrainingVecEnv
from tiergym.sim import names as n
from tiergym.terminal import console, number

LOGS = 200
"""Log at most about this many times per training; an on-policy learner at most once per rollout."""
BAR_WIDTH, LONGEST_WHAT = 12, 28
"""Columns of the bar, and letters before it, so that a line has 80 at most."""
VMSTAT = (
    n.C_KSWAPD_WAKEUPS_FAST,
    n.C_PGSTEAL_KSWAPD_FAST,
    n.C_PGSTEAL_DIRECT_FAST,
    n.C_ALLOCSTALL,
    n.C_PGDEMOTE_KSWAPD,
    n.C_PGDEMOTE_DIRECT,
    n.C_PGDEMOTE_PROACTIVE,
    n.C_PGPROMOTE_SUCCESS,
    n.C_PSWPOUT,
    n.C_FILE_REFAULT,
    n.C_KERNEL_FALLBACK_SLOW,
    n.C_PREMATURE_RECLAIM_PAGES,
    n.C_OOM_KILL,
    n.C_OOM_KILL_PREMATURE,
    n.C_PGMIGRATE_PT,
    n.C_PGMIGRATE_SLAB,
    n.C_PGMIGRATE_KSTACK,
    n.C_PGMIGRATE_FAIL,
)
"""Counters that are logged, per machine and tick."""


class MetricsCallback(BaseCallback):
    """Means over machines and ticks since the last record, and returns of the episodes that ended since.

    Takes whole arrays from `TrainingVecEnv.last_metrics`: no Python work per machine. `latest` holds the last
    record, and the last deterministic return. What the learner itself records, after a rollout, is written with that
    rollout: each number once per step.
    """

    def __init__(self, total_steps: int) -> None:
        super().__init__()
        self.latest: dict[str, float] = {}
        self._every = total_steps // LOGS
        self._begin(0)

    def _begin(self, steps: int) -> None:
        self._since_steps, self._since_s, self._ticks = steps, monotonic(), 0.0
        self._sums: dict[str, Any] = {}
        self._chosen, self._in_effect = np.zeros(act.N_MASK), np.zeros(act.N_MASK)
        self._ended: list[tuple[int, float]] = []

    def _on_training_start(self) -> None:
        self._env: Any = self.training_env.unwrapped
        self._start_steps, self._start_s = self.num_timesteps, monotonic()
        self._begin(self.num_timesteps)

    def _on_step(self) -> bool:
        metrics = self._env.last_metrics
        ticks = metrics.pop("ticks").astype(np.float64)
        self._ticks += ticks.sum()
        for name, values in metrics.items():  # counters are sums over a step's ticks, all else holds for each of them
            total = values.sum(axis=0) if name == "counters" else ticks @ values
            self._sums[name] = self._sums.get(name, 0.0) + total
        chosen, in_effect = self._env.last_modes
        for modes, counts in ((chosen, self._chosen), (in_effect, self._in_effect)):
            counts += np.bincount((modes + act.OFFSETS).ravel(), minlength=act.N_MASK)
        infos, scenarios = self.locals["infos"], self._env.last_scenarios
        self._ended += [(scenarios[i], infos[i]["episode"]["r"]) for i in np.flatnonzero(self.locals["dones"])]
        return True

    def _on_rollout_start(self) -> None:
        if not self.logger.name_to_value.keys().isdisjoint((THROUGHPUT, DETERMINISTIC)):
            self.logger.dump(self.num_timesteps)

    def _on_rollout_end(self) -> None:
        if self._ticks and self.num_timesteps - self._since_steps >= self._every:
            self._record()

    def leave_out(self, seconds: float) -> None:
        """Time that did not go into learning."""
        self._since_s += seconds
        self._start_s += seconds

    def finish(self) -> None:
        """Write what the last rollout and its update have left."""
        if self.logger.name_to_value:
            self.logger.dump(self.num_timesteps)

    def _record(self) -> None:
        mean = {name: total / self._ticks for name, total in self._sums.items()}
        steps = self.num_timesteps - self._since_steps
        per_second = 1.0 / max(monotonic() - self._since_s, 1e-9)
        out = {
            THROUGHPUT: mean["throughput"],
            "time/steps_per_second": per_second * steps,
            "time/ticks_per_second": per_second * self._ticks,
            "time/fps": (self.num_timesteps - self._start_steps) / max(monotonic() - self._start_s, 1e-9),
        }
        if self._ended:
            out[EXPLORING] = float(np.mean([value for _, value in self._ended]))
        out |= self._usual() | self._by_scenario()
        out |= {f"reward_terms/{name}": mean["reward_terms"][i] for i, name in enumerate(n.TERMS)}
        out |= {f"lost/{name}": mean["attribution"][i] for i, name in enumerate(n.CAUSES)}
        for group in STACKS:
            out |= dict(stacked(group, out))
        out |= floors()
        out |= {f"vmstat/{n.COUNTERS[i]}": mean["counters"][i] for i in VMSTAT}
        kernel = range(n.FIRST_KERNEL_CLASS, n.N_CLASSES)
        out |= {f"kernel_pages_on_slow/{n.CLASSES[i]}": mean["kernel_slow"][i] for i in kernel}
        for group, counts in (("modes", self._chosen), ("modes_in_effect", self._in_effect)):
            out |= {f"{group}/{name}": counts[i] / steps for i, name in enumerate(act.MASK_NAMES)}
        for name, value in out.items():
            self.logger.record(name, float(value))
        self.latest |= out
        self._begin(self.num_timesteps)

    def _usual(self) -> dict[str, float]:
        """The means that stable-baselines3 logs, of its own buffer of finished episodes; lengths in decisions."""
        ended = self.model.ep_info_buffer
        if not ended:
            return {}
        lengths = [-(-episode["l"] // self._env.hold_ticks) for episode in ended]
        returns = [episode["r"] for episode in ended]
        return {"rollout/ep_rew_mean": float(np.mean(returns)), "rollout/ep_len_mean": float(np.mean(lengths))}

    def _by_scenario(self) -> dict[str, float]:
        """Mean returns of the episodes that ended, of each scenario where there are several."""
        names = self._env.distinct_scenarios
        if len(names) == 1:
            return {}
        found: dict[int, list[float]] = {}
        for scenario, value in self._ended:
            found.setdefault(scenario, []).append(value)
        return {f"scenario_return/{names[i]}": float(np.mean(values)) for i, values in found.items()}


class CheckpointCallback(BaseCallback):
    """Saves a checkpoint every `every` steps, between two rollouts."""

    def __init__(self, run: Path, every: int, env: TrainingVecEnv) -> None:
        super().__init__()
        self.run, self.every, self.env = run, every, env
        self._saved = 0

    def _on_training_start(self) -> None:
        self._saved = self.num_timesteps

    def _on_rollout_start(self) -> None:
        if self.num_timesteps - self._saved >= self.every:
            self.save()

    def _on_step(self) -> bool:
        return True

    def save(self) -> None:
        """Save one now; only between two rollouts, where nothing is half done."""
        checkpoint.save(self.run, self.model, self.env)
        self._saved = self.num_timesteps


class StoppedError(Exception):
    """Leaves the learning loop between two rollouts."""


class StopRequest(BaseCallback):
    """Raises `StoppedError` before the next rollout once SIGINT (Ctrl-C) or SIGTERM arrives; the same once more kills.

    A context manager: the signals' old handlers come back with its end. Python delivers signals to the main thread
    only; elsewhere the request comes from whoever sets `requested`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requested = False
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._old = {sig: signal.signal(sig, self._request) for sig in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for sig, handler in self._old.items():
            signal.signal(sig, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:  # a worker gets Ctrl-C from the terminal, and is told to stop by the one who asked
            print("stopping after this rollout; once more: at once, without a checkpoint", file=sys.stderr, flush=True)
        self.requested = True
        signal.signal(number, self._old[signal.Signals(number)])

    def _on_rollout_start(self) -> None:
        if self.requested:
            raise StoppedError

    def _on_step(self) -> bool:
        return True


class ProgressCallback(BaseCallback):
    """A bar on a terminal's stderr; elsewhere one line for each tenth of the training."""

    def __init__(self, what: str, total_steps: int, metrics: MetricsCallback) -> None:
        super().__init__()
        self.what, self.total, self.metrics = what, total_steps, metrics
        self._tenth = 0

    def _on_training_start(self) -> None:
        self._console = console(stderr=True)
        self._tenth = 10 * self.num_timesteps // self.total
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(BAR_WIDTH),
            TaskProgressColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        what = self.what if len(self.what) <= LONGEST_WHAT else self.what.partition(" on ")[0]
        self._task = self._bar.add_task(what, total=self.total, completed=self.num_timesteps, text="")
        self._bar.start()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._bar.update(self._task, completed=self.num_timesteps, text=self._short_text())
        tenth = 10 * self.num_timesteps // self.total
        if self._bar.disable and tenth > self._tenth:
            self._tenth = tenth
            self._console.print(f"{self.what}: {self._text()}", highlight=False, markup=False, soft_wrap=True)

    def _short_text(self) -> str:
        """What fits beside a bar into 80 columns: the deterministic return, the exploring one before there is one."""
        latest = self.metrics.latest
        text = f"{number(latest['time/steps_per_second'])}/s" if THROUGHPUT in latest else ""
        returns = latest.get(DETERMINISTIC, latest.get(EXPLORING))
        return text if returns is None else f"{text}, return {returns:.2f}"

    def _text(self) -> str:
        text = f"{number(self.num_timesteps)} of {number(self.total)} steps"
        latest = self.metrics.latest
        if THROUGHPUT in latest:
            text += f", {number(latest['time/steps_per_second'])}/s, throughput {latest[THROUGHPUT]:.3f}"
        if EXPLORING in latest:
            text += f", return {latest[EXPLORING]:.2f}"
        if DETERMINISTIC in latest:
            text += f", deterministic {latest[DETERMINISTIC]:.2f}"
        return text

    def stop(self) -> None:
        """Leave the terminal as it was, also where training ends with an error."""
        if hasattr(self, "_bar"):
            self._bar.stop()
