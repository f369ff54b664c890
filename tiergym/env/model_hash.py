"""A digest of the model: of every source that a trajectory depends on. Results carry it, and are of this model only."""

from __future__ import annotations

from pathlib import Path

from tiergym.sim.compile_cache import hash_of

PACKAGE = Path(__file__).resolve().parents[1]
PARTS = ("actions", "engine", "machines", "mode_counts", "modes", "observations", "step_results", "threads")
"""Modules of this floor that `machines` needs, beside all of `tiergym.sim`; the others draw, or wrap."""


def model_hash(package: Path = PACKAGE) -> str:
    """Sixteen hexadecimal digits."""
    parts = (package / "env" / f"{part}.py" for part in PARTS)
    return hash_of([*sorted((package / "sim").rglob("*.py")), *parts], package)
