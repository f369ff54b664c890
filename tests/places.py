"""Where the repository keeps what tests read."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EVIDENCE = ROOT / "experiments" / "evidence"
FITTED = EVIDENCE / "fitted"
"""Recordings that shaped the model."""
