"""What stages use: told line by line, summed over attempts, reckoned into hours and money where these are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from know_thyself.config import CostConfig, RunConfig
from know_thyself.cost import HOUR, Throughput, Work, cost_of, throughput_of, used, write_used
from know_thyself.errors import ConfigError, StoreError
from know_thyself.experiment import Experiment, write_experiment
from know_thyself.experiment.usage import USED, Act, Meter, Use, total, used_by

USES: dict[Act, Use] = {
    "start": Use(seconds=60.0, times=3),
    "sample": Use(seconds=100.0, times=4, questions=50, answers=250, characters=6000, read=1500, written=1000),
    "judge": Use(seconds=20.0, times=4, questions=50, characters=2000, read=500),
    "train": Use(seconds=50.0, times=9, questions=40, read=2000),
}
MEASURED = Throughput(sampled=10.0, judged=25.0, trained=40.0, start=20.0, answer_tokens=4.0, characters_per_token=4.0)
WORK = Work(sampled=36_000.0, judged=90_000.0, trained=72_000.0, starts=18)


def lay_down(experiment: Path, uses: dict[Act, Use], stage: str = "examine-0") -> None:
    folder = experiment / "stages" / stage / USED
    folder.mkdir(parents=True)
    (folder / "one.jsonl").write_text("".join(json.dumps({"act": act, **use.to_row()}) + "\n" for act, use in uses.items()))


def test_time_is_told_once_and_goes_to_what_it_was_spent_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 107.0, 109.5, 110.0])
    monkeypatch.setattr("know_thyself.experiment.usage.time.monotonic", lambda: next(clock))
    meter = Meter(tmp_path / "stages" / "examine-0")
    meter.tell("start")
    meter.tell("sample", questions=2, answers=6, characters=80, read=20, written=12)
    meter.tell("judge", questions=2, characters=60, read=15)
    assert used_by(tmp_path) == {
        "start": Use(seconds=7.0),
        "sample": Use(seconds=2.5, questions=2, answers=6, characters=80, read=20, written=12),
        "judge": Use(seconds=0.5, questions=2, characters=60, read=15),
    }


def test_all_processes_of_all_stages_and_attempts_count(tmp_path: Path) -> None:
    for stage in ("examine-0", "train-1"):
        lay_down(tmp_path, USES, stage)
    assert used_by(tmp_path) == {act: total([use, use]) for act, use in USES.items()}


def test_a_line_that_a_dying_process_left_torn_does_not_count(tmp_path: Path) -> None:
    lay_down(tmp_path, USES)
    (file,) = tmp_path.glob(f"stages/*/{USED}/*")
    file.write_text(file.read_text() + '{"act": "judge", "seco')
    assert used_by(tmp_path) == USES


def test_throughput_is_what_was_measured() -> None:
    assert Throughput.of(USES) == MEASURED
    assert Throughput.of({}) == Throughput()
    assert Throughput.of({"start": USES["start"]}) == Throughput(start=20.0)


def test_work_at_a_throughput_takes_hours_and_costs_money() -> None:
    told = cost_of(WORK, MEASURED, CostConfig(on_demand=2.0, spot=0.5))
    assert told == {
        "device_hours": {"sample": 1.0, "judge": 1.0, "train": 0.5, "start": 0.1, "all": 2.6},
        "money": {"on_demand": 5.2, "spot": 1.3},
    }


def test_what_is_unknown_is_not_guessed() -> None:
    told = cost_of(WORK, Throughput(judged=25.0, start=0.0), CostConfig(spot=0.5))
    assert told["device_hours"] == {"sample": None, "judge": 1.0, "train": None, "start": 0.0, "all": None}
    assert told["money"] == {"on_demand": None, "spot": None}
    assert "no throughput known of: sample, train" in told["device_hours_undefined"]


def test_nothing_to_do_takes_no_time_at_an_unknown_pace() -> None:
    told = cost_of(Work(sampled=0, judged=0, trained=0, starts=0), Throughput(start=1.0), CostConfig(on_demand=1.0))
    assert (told["device_hours"]["all"], told["money"]["on_demand"]) == (0.0, 0.0)


def config(root: Path, **cost: Any) -> RunConfig:
    return RunConfig(experiments_root=root, name="one", cost=CostConfig(**cost))


def test_an_earlier_experiment_measures_and_settings_go_before(tmp_path: Path) -> None:
    with write_experiment(config(tmp_path)) as experiment:
        lay_down(experiment.path, USES)
    found, by = throughput_of(config(tmp_path, measured_by="latest", judged=7.0))
    assert found == Throughput(**{**{name: getattr(MEASURED, name) for name in Throughput.__slots__}, "judged": 7.0})
    assert by == {"experiment": "one", "model": "world"}
    assert throughput_of(config(tmp_path, trained=3.0)) == (Throughput(trained=3.0), None)


def test_an_experiment_that_measured_nothing_or_is_not_there_is_refused(tmp_path: Path) -> None:
    with write_experiment(config(tmp_path)):
        pass
    with pytest.raises(ConfigError, match="measured-by=one has measured nothing"):
        throughput_of(config(tmp_path, measured_by="one"))
    with pytest.raises(StoreError, match="no experiment 'other'"):
        throughput_of(config(tmp_path, measured_by="other"))


def test_what_was_used_is_written_with_its_price(tmp_path: Path) -> None:
    lay_down(tmp_path, USES)
    write_used(Experiment(tmp_path), CostConfig(on_demand=36.0))
    told = json.loads((tmp_path / "used.json").read_text())
    assert told == used(Experiment(tmp_path), CostConfig(on_demand=36.0))
    assert told["device_hours"] == pytest.approx(230.0 / HOUR, rel=1e-5)
    assert told["money"] == {"on_demand": pytest.approx(2.3), "spot": None}
    assert told["acts"]["sample"] == {
        "device_seconds": 100.0,
        "times": 4,
        "questions": 50,
        "tokens_read": 1500,
        "tokens_written": 1000,
    }
