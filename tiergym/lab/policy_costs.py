"""What a policy took to make and takes to keep: decisions and time of its training, bytes of its file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tiergym import files, paths
from tiergym.lab import run_dir
from tiergym.policy.load import EXPORTED, WITH


@dataclass(frozen=True)
class PolicyCost:
    """Bytes of the files that are the policy, None where it is Python elsewhere. Of a training run, decisions that its
    recipe asked for, and seconds for which it wrote its log, evaluations while it trained included."""

    bytes: int | None
    decisions: int | None = None
    seconds: float | None = None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def policy_cost(spec: str) -> PolicyCost:
    """Of a policy as `load_policy` takes it. Raises `UserError` for the folder of a run that is none."""
    path = Path(spec)
    if files.is_dir(path):
        size = (path / EXPORTED).stat().st_size
        if not files.is_file(path / run_dir.CONFIG):
            return PolicyCost(size)
        return PolicyCost(size, run_dir.read(path).recipe.steps, _logged_seconds(path))
    found = [_file(part) for part in spec.split(WITH)]
    return PolicyCost(sum(each.stat().st_size for each in found if each) if all(found) else None)


def _file(spec: str) -> Path | None:
    """The file that one part of a policy's name stands for: a shipped one, or its own."""
    shipped = (paths.agents_dir() / f"{spec}{suffix}" for suffix in (".toml", ".py"))
    candidates = (*shipped, Path(spec.partition(":")[0]))
    return next((path for path in candidates if files.is_file(path)), None)


def _logged_seconds(run: Path) -> float:
    """From the first to the last event of each of the run's logs: one per start of the training."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader  # type: ignore[import-untyped]

    seconds = 0.0
    for path in run.glob("events.out.*"):
        times = [event.wall_time for event in EventFileLoader(str(path)).Load()]
        seconds += max(times, default=0.0) - min(times, default=0.0)
    return seconds
