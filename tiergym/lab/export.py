"""The exported policy of a run, from its newest checkpoint."""

from pathlib import Path

from tiergym.lab import checkpoint, learner, run_dir
from tiergym.policy.export_onnx import export_onnx
from tiergym.policy.load import EXPORTED


def export_run(run: Path, out: Path | None = None) -> Path:
    """Write the policy of a run as ONNX to `out`, by default the run's own `policy.onnx`; returns the file.

    Raises `UserError` where `run` is no run, has no checkpoint, or was trained on another layout.
    """
    config = run_dir.read(run)
    run_dir.check_versions(run)
    model = learner.build(config.recipe, config.seed % (1 << 32))
    checkpoint.load_weights(checkpoint.latest(run), model)
    path = run / EXPORTED if out is None else out
    export_onnx(model, path, learner.baseline_table(learner.form_of(config.recipe)))
    return path
