"""A run's TensorBoard events: the logger, what stands in them once, and how the page of custom scalars is laid out.

TensorBoard sorts by name, capitals first: `Return/` is so called in order to come first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stable_baselines3.common.logger import HParam, Image, Logger, TensorBoardOutputFormat, make_output_format

from tiergym.env import actions as act
from tiergym.extras import require
from tiergym.lab import run_dir
from tiergym.sim import names as n

if TYPE_CHECKING:
    from tiergym.lab.run_dir import RunConfig

DETERMINISTIC, EXPLORING = "Return/deterministic", "Return/exploring"
"""Mean return of the held-back machines, and of the episodes that ended while it learned."""
THROUGHPUT = "rollout/throughput"
"""Of the training's machines; in every record of theirs."""
STACKS: dict[str, tuple[str, ...]] = {"lost": n.CAUSES, "reward_terms": n.TERMS}
"""Groups of scalars that are also logged one upon another, as `stacked_GROUP/NAME`: what a stacked chart is made of."""
_TENSORBOARD_ONLY = ("stdout", "log", "json", "csv")
_LONGEST = 200


def make_logger(run: Path, config: RunConfig, start: int) -> Logger:
    """TensorBoard and CSV in the run's folder; a resumed run's table has a file of its own."""
    suffix = f"-{start:012d}" if start else ""
    board = TensorBoardOutputFormat(str(run))
    logger = Logger(str(run), [board, make_output_format("csv", str(run), suffix)])
    text = f"```toml\n{(run / run_dir.CONFIG).read_text(encoding='utf-8')}```"
    logger.record("config", text, exclude=_TENSORBOARD_ONLY)
    versions = json.dumps(run_dir.versions()["packages"], indent=2)
    logger.record("versions", f"```json\n{versions}\n```", exclude=_TENSORBOARD_ONLY)
    logger.record("hparams", HParam(_hyperparameters(config), _final_metrics(config)), exclude=_TENSORBOARD_ONLY)
    logger.dump(start)
    writer: Any = board.writer.file_writer
    writer.add_summary(_custom_scalars(len(config.scenarios)))
    return logger


def record_picture(logger: Logger, tag: str, path: Path) -> None:
    """Put a PNG file among the images, with the next dump."""
    picture = require("matplotlib.image").imread(path)
    logger.record(tag, Image(picture, "HWC"), exclude=_TENSORBOARD_ONLY)


def stacked(group: str, values: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """The tags and heights of a group's scalars, one upon another in the order of `STACKS`."""
    height = 0.0
    for name in STACKS[group]:
        height += values[f"{group}/{name}"]
        yield f"stacked_{group}/{name}", height


def layout(scenarios: int) -> Any:
    """The page of custom scalars, a `layout_pb2.Layout` of its plugin, for a run on so many scenarios."""
    pb = require("tensorboard.plugins.custom_scalar.layout_pb2")

    def lines(title: str, *patterns: str) -> Any:
        return pb.Chart(title=title, multiline=pb.MultilineChartContent(tag=[f"^{each}$" for each in patterns]))

    def bands(title: str, group: str) -> Any:
        tags = [f"stacked_{group}/{name}" for name in STACKS[group]]
        floors = [f"stacked_{group}/{_FLOOR}", *tags]
        series = [
            pb.MarginChartContent.Series(value=tag, lower=floor, upper=tag)
            for tag, floor in zip(tags, floors, strict=False)
        ]
        return pb.Chart(title=title, margin=pb.MarginChartContent(series=series))

    modes = [
        lines(f"{entry.name}: chosen, and in effect", f"modes/{entry.name}=.*", f"modes_in_effect/{entry.name}=.*")
        for entry in act.ENTRIES
    ]
    returns = [lines("return: deterministic and exploring", DETERMINISTIC, EXPLORING)]
    if scenarios > 1:
        returns.append(lines("return of the deterministic policy, by scenario", "eval_return/.*"))
        returns.append(lines("return while exploring, by scenario", "scenario_return/.*"))
    categories = {
        "Return": returns,
        "Where time goes": [
            bands("lost time by cause, stacked", "lost"),
            bands("reward terms, stacked", "reward_terms"),
        ],
        "Premature": [
            lines("pages reclaimed while CXL was free, per tick", "vmstat/premature_reclaim_pages"),
            lines("OOM kills while CXL was free, per tick", "vmstat/oom_kill_premature"),
            lines("the same of the deterministic policy, per episode", "eval/premature_reclaim_pages"),
        ],
        "Modes, shares of decisions": modes,
    }
    return pb.Layout(category=[pb.Category(title=title, chart=charts) for title, charts in categories.items()])


def _custom_scalars(scenarios: int) -> Any:
    """The summary that TensorBoard's plugin of custom scalars looks for; its own maker of one wants tensorflow."""
    proto = {name: require(f"tensorboard.compat.proto.{name}_pb2") for name in ("summary", "tensor", "tensor_shape")}
    plugin = require("tensorboard.plugins.custom_scalar.metadata")
    metadata = proto["summary"].SummaryMetadata(plugin_data={"plugin_name": plugin.PLUGIN_NAME})
    tensor = proto["tensor"].TensorProto(
        dtype="DT_STRING",
        string_val=[layout(scenarios).SerializeToString()],
        tensor_shape=proto["tensor_shape"].TensorShapeProto(),
    )
    value = proto["summary"].Summary.Value(tag=plugin.CONFIG_SUMMARY_TAG, tensor=tensor, metadata=metadata)
    return proto["summary"].Summary(value=[value])


_FLOOR = "0"


def floors() -> dict[str, float]:
    """What the lowest band of each stacked chart stands on."""
    return {f"stacked_{group}/{_FLOOR}": 0.0 for group in STACKS}


def _hyperparameters(config: RunConfig) -> dict[str, bool | str | float | int]:
    recipe = config.recipe
    fixed: dict[str, bool | str | float | int] = {
        "recipe": recipe.name,
        "algorithm": recipe.algorithm,
        "policy": recipe.policy,
        "action_form": recipe.action_form,
        "envs": recipe.envs,
        "hold_ticks": recipe.hold_ticks,
        "steps": recipe.steps,
        "reward": recipe.reward,
        "seed": config.seed,
        "scenarios": ", ".join(config.scenarios)[:_LONGEST],
    }
    tables = {**recipe.constraint, **recipe.hyperparameters, **recipe.network}
    return fixed | {name: _plain(value) for name, value in tables.items()}


def _final_metrics(config: RunConfig) -> dict[str, float]:
    """Tags whose last values stand beside the hyperparameters."""
    tags = [THROUGHPUT, EXPLORING]
    if config.recipe.evaluating.every_steps:
        tags = [DETERMINISTIC, "eval/throughput", "eval/oom_kills", "eval/premature_kills_per_hour", EXPLORING]
    return dict.fromkeys(tags, 0.0)


def _plain(value: Any) -> bool | str | float | int:
    if isinstance(value, Mapping):
        return f"{value['start']:g} to {value['end']:g}"
    return value if isinstance(value, bool | str | float | int) else str(value)
