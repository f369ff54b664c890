"""Where the repository keeps what tests read."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EVIDENCE = ROOT / "experiments" / "evidence"
FITTED = EVIDENCE / "fitted"
"""Recordings that shaped the model."""
FLOORS = ("sim", "specs", "env", "policy", "recordings", "lab", "bench", "validation", "kernel_lab", "cli")
"""Folders of the package, from the bottom up; docs/architecture.md says what each is."""
