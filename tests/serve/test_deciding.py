"""Which bar holds, what it comes to with a judge, and policies that cannot be kept."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from know_thyself.errors import ConfigError
from know_thyself.testing import FakeJudge, fake_card
from know_thyself.wire import Bar
from serve.api import create_app
from serve.auth import Keys, Scope
from serve.deciding import NOTHING, Decider, Line, Promise, draw_line, promises
from serve.policy import DEFAULTS, GatePolicy, Policy, UpstreamPolicy, read_policy
from tests.serve.apps import ROUTE, key, policy_of, three_verdicts


def test_a_judge_promises_its_targets_and_the_best_where_one_was_out_of_reach() -> None:
    assert promises(fake_card()) == [
        Promise(accuracy=0.8, threshold=0.7, on="p_correct"),
        Promise(accuracy=0.9, threshold=0.85, on="p_correct"),
        Promise(accuracy=0.95, threshold=0.92, on="p_correct"),
    ]
    nothing = {"target_accuracy": 0.9, "reachable": False, "best_accuracy": None, "threshold": None, "on": "p_correct"}
    assert promises(fake_card(thresholds=(nothing,))) == []


@pytest.mark.parametrize(("target", "threshold"), [(0.5, 0.7), (0.8, 0.7), (0.81, 0.85), (0.9, 0.85), (0.95, 0.92)])
def test_a_target_is_kept_by_the_least_promise_that_is_no_less(target: float, threshold: float) -> None:
    line = draw_line(Bar(target_accuracy=target), fake_card(), "request")
    assert line == Line(value=threshold, on="p_correct", source="request")


@pytest.mark.parametrize(
    ("thresholds", "reachable"), [(fake_card().thresholds, "0.8, 0.9, 0.95"), ((), "none")], ids=["some", "none"]
)
def test_a_target_out_of_reach_is_refused_with_what_is_reachable(thresholds: object, reachable: str) -> None:
    with pytest.raises(ConfigError, match=f"target_accuracy=0.99 is not reachable with this judge; reachable: {reachable}$"):
        draw_line(Bar(target_accuracy=0.99), fake_card(thresholds=thresholds), "request")


def test_a_promise_on_the_confidence_is_kept_by_it() -> None:
    line = draw_line(Bar(target_accuracy=0.9), three_verdicts(), "route")
    assert line == Line(value=0.6, on="confidence", source="route")
    assert line.shown is None


def test_a_standing_threshold_means_nothing_to_a_judge_without_calibration_but_its_own_promise_does() -> None:
    bare = three_verdicts(calibration=None)
    decider = Decider(policy=policy_of(0.5, routes={ROUTE: Bar(target_accuracy=0.9)}), card=bare)
    decider.check(())
    assert decider.line("/v1/other", None, Bar()) == NOTHING
    assert decider.line(ROUTE, key("k", Scope.JUDGE, threshold=0.1), Bar()) == NOTHING
    assert decider.line(ROUTE, key("k", Scope.JUDGE), Bar()).on == "confidence"


def test_a_policy_or_key_that_the_judge_cannot_keep_is_refused_before_anything_is_served() -> None:
    keys = Keys(keys=(key("eager", Scope.JUDGE, target_accuracy=0.99),))
    with pytest.raises(ConfigError, match=r"key eager: target_accuracy=0.99 is not reachable"):
        create_app(FakeJudge(), policy_of(), keys)
    with pytest.raises(ConfigError, match=r"/v1/judgments: target_accuracy=0.99 is not reachable"):
        create_app(FakeJudge(), policy_of(routes={ROUTE: Bar(target_accuracy=0.99)}), Keys())
    with pytest.raises(
        ConfigError, match="has a bar for '/v1/judgment', which decides nothing: use /v1/chat/completions, /v1/"
    ):
        create_app(FakeJudge(), policy_of(routes={"/v1/judgment": Bar(threshold=0.5)}), Keys())


def test_the_policy_that_comes_along_is_read() -> None:
    policy = read_policy()
    assert (policy.below, policy.default, policy.routes, policy.gate) == ("escalate", Bar(threshold=0.5), {}, None)


def test_the_gate_that_the_policy_shows_is_one() -> None:
    shown = DEFAULTS.read_text().split("# [gate]\n")[1]
    bare = "\n".join(line.removeprefix("#") for line in shown.splitlines())
    gate = Policy.model_validate(tomllib.loads(f"[default]\nthreshold = 0.5\n[gate]\n{bare}")).gate
    upstream = UpstreamPolicy(base_url="https://example.org/v1", model="large", key_variable="UPSTREAM_KEY")
    assert gate == GatePolicy(below="escalate", upstream=upstream)


def test_a_policy_file_says_all_that_a_policy_can(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('below = "abstain"\n[default]\ntarget_accuracy = 0.8\n[routes."/v1/judgments"]\nthreshold = 0.7\n')
    policy = read_policy(file)
    assert policy.below == "abstain"
    assert policy.default == Bar(target_accuracy=0.8)
    assert policy.routes == {ROUTE: Bar(threshold=0.7)}


GATE = "[default]\nthreshold = 0.5\n[gate]\n"
UPSTREAM = '[gate.upstream]\nmodel = "large"\nbase_url = '
REFUSED = {
    "no upstream": (GATE + 'below = "escalate"\n', r"gate: the gate escalates, and has no upstream: add \[gate.upstream\], or"),
    "no upstream for what passes": (GATE + 'passing = "escalate"\n', "gate: the gate escalates, and has no upstream"),
    "no use": (GATE + UPSTREAM + '"http://x/v1"\n', 'has an upstream, and never escalates: set below = "escalate"'),
    "no time": (GATE + "budget_ms = 0\n", r"gate\.budget_ms: Input should be greater than 0"),
    "no address": (GATE + UPSTREAM + '"example.org/v1"\n', r"gate\.upstream\.base_url: this is no address of a service"),
    "a key in the address": (GATE + UPSTREAM + '"http://me:hunter2@x/v1"\n', "an address holds no key and no query"),
    "a query in the address": (GATE + UPSTREAM + '"http://x/v1?key=hunter2"\n', "name the variable with the key"),
    "nothing": ("", "default: Field required"),
    "no bar": ("[default]\n", "default has neither threshold nor target_accuracy: give it one"),
    "two bars": ("[default]\nthreshold = 0.5\ntarget_accuracy = 0.9\n", "default: threshold and target_accuracy say the same"),
    "no share": ("[default]\nthreshold = 50\n", r"default\.threshold: Input should be less than or equal to 1"),
    "unknown": ("surprise = 1\n[default]\nthreshold = 0.5\n", "surprise: Extra inputs"),
    "other decision": ('below = "answer"\n[default]\nthreshold = 0.5\n', "below: Input should be 'escalate' or 'abstain'"),
    "torn": ("[default", "cannot be read as TOML or JSON"),
    "no UTF-8": ("\udcff", "cannot be read as TOML or JSON"),
}


@pytest.mark.parametrize(("text", "told"), REFUSED.values(), ids=REFUSED)
def test_a_policy_that_is_wrong_is_refused_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=told) as caught:
        read_policy(file)
    assert len(str(caught.value).splitlines()) == 1
    assert "hunter2" not in str(caught.value)
