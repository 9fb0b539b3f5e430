"""How good is the trained judge, beside the untrained one, a linear probe on the same prompt, and the noise ceiling?

    python -m benchmarks.judge_quality --preset world --seeds 0 1 2
    python -m benchmarks.judge_quality --preset world --seeds 0 1 2 --model DIR/model --dataset DIR/questions

Runs the main job once per seed (resuming what is there), each with its epoch chosen on dev, and prints what its summary.json
says of the validation questions as a table in Markdown, with 95 % intervals. `--no-evidence.baselines` leaves out the probe.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping
from typing import Any

from know_thyself.config import RunConfig, load_config
from know_thyself.pipelines import adaptive
from know_thyself.pipelines.inputs import check_inputs
from know_thyself.progress import Spoken, own_console
from know_thyself.types import Split

PROMISED = 0.9
"""The accuracy whose threshold is shown."""
HEADER = (
    "| seed | epoch | AUROC untrained | trained | linear probe | share of the ceiling | ECE as read | calibrated "
    f"| {PROMISED:.0%} promised: passes | of that right |"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments, flags = parser.parse_known_args()
    console = own_console()
    found = [_measure(load_config([*flags, "--seed", str(seed)], "judge_quality"), console) for seed in arguments.seeds]
    print(HEADER, "|---" * HEADER.count(" | ") + "|---|", *map(_row, found), sep="\n")
    mean = statistics.mean(_validation(summary, summary["best_epoch"])["auroc"] for summary in found)
    print(f"mean AUROC of the trained judges: {mean:.4f}")


def _measure(config: RunConfig, console: Spoken) -> Mapping[str, Any]:
    path = adaptive.run(config, check_inputs(config), console)
    summary: dict[str, Any] = json.loads((path / "summary.json").read_text())
    return summary


def _validation(summary: Mapping[str, Any], epoch: int) -> Mapping[str, Any]:
    """The numbers of `epoch` on validation."""
    facts: Mapping[str, Any] = next(row for row in summary["epochs"] if row["epoch"] == epoch)[Split.VALIDATION]
    return facts


def _row(summary: Mapping[str, Any]) -> str:
    trained = _validation(summary, summary["best_epoch"])
    probe = summary.get("baselines", {}).get("linear-probe", {})
    calibration = summary["calibration"]
    promise = next(row for row in summary["thresholds"] if row["target_accuracy"] == PROMISED)
    cells = [
        str(summary["seed"]),
        str(summary["best_epoch"]),
        _number(_validation(summary, 0), "auroc"),
        _number(trained, "auroc"),
        _number(probe, "auroc"),
        _number(summary["ceiling"], "fraction"),
        f"{_number(calibration, 'ece_before')} (perfect: {_number(trained, 'ece_band')})",
        f"{_number(calibration, 'ece_after')} ({calibration['method']})",
        _number(promise, "validation_coverage"),
        _number(promise, "validation_accuracy"),
    ]
    return f"| {' | '.join(cells)} |"


def _number(facts: Mapping[str, Any], key: str) -> str:
    """The number under `key`, with its interval where it has one."""
    value, low, high = (facts.get(name) for name in (key, f"{key}_low", f"{key}_high"))
    if value is None:
        return "not measured"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
