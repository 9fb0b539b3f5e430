"""Whatever the OpenAPI document lets anyone send, and much that it does not: no answer is a failure, and each is as it says."""

from __future__ import annotations

import os
from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from know_thyself.testing import FakeJudge
from serve.api import create_app
from serve.policy import read_policy
from tests.serve.apps import KEYS, bearer

CASES = int(os.environ.get("KT_SCHEMA_CASES", "200"))
"""Cases of each operation at most, besides those that cover its schema: about a thousand in all. Give 20000 for a long run."""
NOT_HERE = [positive_data_acceptance, ignored_auth]
"""An empty question is of the right shape, and refused all the same; keys have tests of their own."""

schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(FakeJudge(), read_policy(), KEYS))


@schema.parametrize()
@settings(max_examples=CASES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_case_breaks_the_service_and_every_answer_is_as_documented(case: schemathesis.Case[Any]) -> None:
    case.call_and_validate(headers=bearer("all"), excluded_checks=NOT_HERE)
