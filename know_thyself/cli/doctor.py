"""The command `doctor`, which looks before a job is sent."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(
    address: Annotated[
        str | None,
        typer.Option(help="job server of a cluster, such as http://127.0.0.1:8265; this machine alone when not given"),
    ] = None,
    root: Annotated[
        str,
        typer.Option(
            "--experiments-root",
            envvar="KT_EXPERIMENTS",
            metavar="PATH",
            help="root of experiments, as the nodes name it",
        ),
    ] = "experiments",
    timeout: Annotated[float, typer.Option(min=1.0, help="seconds to wait for the cluster's nodes")] = 120.0,
) -> None:
    """Check versions, GPUs, storage, ports, token and spot labels, of this machine or of a cluster; a line each."""
    from know_thyself.doctor import examine_cluster, examine_machine

    findings = examine_machine(root) if address is None else examine_cluster(address, root, timeout)
    sound = True
    for finding in findings:
        print(finding, flush=True)
        sound = sound and finding.ok
    if not sound:
        raise typer.Exit(1)
