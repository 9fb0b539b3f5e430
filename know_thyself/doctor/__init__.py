"""Whether a machine or a cluster is fit for a job, before one is sent: findings, each a line, each with its remedy."""

from __future__ import annotations

from know_thyself.doctor.cluster import examine_cluster
from know_thyself.doctor.findings import Finding
from know_thyself.doctor.here import examine_machine

__all__ = ["Finding", "examine_cluster", "examine_machine"]
