"""Drain this Ray node as soon as the cloud says that it takes the machine back.

python drain_on_notice.py [--cloud auto|aws|gcp] [--rebalance]

Ray hears of a spot notice from nobody. This program asks the metadata service of the machine, and on a notice runs
`ray drain-node`, once: Ray places nothing more on the node, Ray Serve moves its replicas, Ray Train may write a checkpoint.
What is no well-formed notice (an error, silence, garbage) never drains and never ends the program.
It runs where `ray` finds this node: beside Ray on a machine, or in a container that shares /tmp/ray and the
processes of its pod with Ray's.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import FrameType

METADATA = "169.254.169.254"
PATIENCE = 2.0
"""Seconds that a whole answer may take."""
LONGEST = 4096
"""Bytes of an answer that are read; a notice has fewer than 100."""
PAUSE = 2.0
"""Seconds between two questions, unless told otherwise, and between two tries to drain."""
HOLD = 20
"""Seconds for which the service of GCP is asked to hold its answer until there is something new."""
GRACE = {"aws": 120.0, "gcp": 30.0}
"""Seconds that the clouds leave a machine from notice to end."""
TOKEN, AWS_ACTION = "/latest/api/token", "/latest/meta-data/spot/instance-action"
AWS_REBALANCE = "/latest/meta-data/events/recommendations/rebalance"
GCP_PREEMPTED = "/computeMetadata/v1/instance/preempted"
GOOGLE = {"Metadata-Flavor": "Google"}
ACTIONS = ("terminate", "stop", "hibernate")
NEAR = 3600.0
"""Seconds from now within which the time of a notice lies, however wrong a clock may be."""


class NoAnswerError(Exception):
    """The metadata service did not answer as that of this cloud does; the text says how it answered instead."""


@dataclass(frozen=True, slots=True)
class Notice:
    """That the machine goes, and when, in seconds since the epoch; None where that is only likely."""

    reason: str
    deadline: float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the metadata service answered."""

    status: int
    headers: http.client.HTTPMessage
    text: str


Ask = Callable[[], Notice | None]
"""Asks a cloud for a notice: None when there is none. Raises `NoAnswerError` and `OSError`."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` in what takes longer, also where every single byte comes in time."""

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"no whole answer within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def ask(host: str, method: str, path: str, headers: dict[str, str], patience: float = PATIENCE) -> Answer:
    """What `host` answers, through no proxy and after no redirection. Raises `NoAnswerError` and `OSError`."""
    with within(patience), closing(http.client.HTTPConnection(host)) as connection:
        try:
            connection.request(method, path, headers=headers)
            reply = connection.getresponse()
            return Answer(reply.status, reply.headers, reply.read(LONGEST).decode("ascii").strip())
        except (http.client.HTTPException, UnicodeDecodeError) as error:
            raise NoAnswerError(f"{path}: {type(error).__name__}") from error


def ask_aws(host: str, rebalance: bool) -> Notice | None:
    """AWS: the notice of interruption, two minutes ahead, and with `rebalance` the warning that may come before it."""
    token = ask(host, "PUT", TOKEN, {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    if token.status != 200 or not token.text.isprintable() or not token.text:
        raise NoAnswerError(f"{TOKEN}: status {token.status}")
    shown = {"X-aws-ec2-metadata-token": token.text}
    told = _told(ask(host, "GET", AWS_ACTION, shown), AWS_ACTION)
    if told is not None:
        if told.get("action") not in ACTIONS:
            raise NoAnswerError(f"{AWS_ACTION}: no action")
        ends = _time(told.get("time"), AWS_ACTION)
        if abs(ends - time.time()) > NEAR:
            raise NoAnswerError(f"{AWS_ACTION}: a time that is not near")
        return Notice(f"AWS will {told['action']} this instance", ends)
    told = _told(ask(host, "GET", AWS_REBALANCE, shown), AWS_REBALANCE) if rebalance else None
    if told is None:
        return None
    _time(told.get("noticeTime"), AWS_REBALANCE)
    return Notice("AWS recommends to leave this instance", None)


def _told(answer: Answer, path: str) -> dict[str, object] | None:
    """The object that AWS answers, None where it has nothing to say."""
    if answer.status == 404:
        return None
    if answer.status != 200:
        raise NoAnswerError(f"{path}: status {answer.status}")
    try:
        told = json.loads(answer.text)
    except (ValueError, RecursionError) as error:
        raise NoAnswerError(f"{path}: no JSON") from error
    if not isinstance(told, dict):
        raise NoAnswerError(f"{path}: no object")
    return told


def _time(text: object, path: str) -> float:
    try:
        return datetime.strptime(str(text), "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError as error:
        raise NoAnswerError(f"{path}: no time") from error


def asks_gcp(host: str) -> Ask:
    """GCP: whether this instance was preempted. From the second question on, the answer is held until it changes."""
    etag = ""

    def ask_gcp() -> Notice | None:
        nonlocal etag
        held = f"?wait_for_change=true&timeout_sec={HOLD}&last_etag={etag}" if etag else ""
        answer = ask(host, "GET", GCP_PREEMPTED + held, GOOGLE, PATIENCE + (HOLD if held else 0))
        etag = ""  # unless this answer is whole, the next question waits for nothing
        if answer.status != 200 or answer.headers.get("Metadata-Flavor") != "Google":
            raise NoAnswerError(f"{GCP_PREEMPTED}: status {answer.status}, not of Google")
        if answer.text not in ("TRUE", "FALSE"):
            raise NoAnswerError(f"{GCP_PREEMPTED}: neither TRUE nor FALSE")
        if answer.text == "TRUE":
            return Notice("GCP preempts this instance", time.time() + GRACE["gcp"])
        tag = answer.headers.get("ETag", "")
        etag = tag if tag.isalnum() else ""
        return None

    return ask_gcp


def watch(clouds: dict[str, Ask], pause: float) -> tuple[str, Notice]:
    """Ask, with a `pause` between, until there is a notice; whose it is. Of several clouds, the first to answer is the one."""
    said = ""
    while True:
        faults = []
        for cloud, asked in list(clouds.items()):
            try:
                notice = asked()
            except (NoAnswerError, OSError) as error:
                faults.append(f"{cloud}: {error}")
                continue
            if notice is not None:
                return cloud, notice
            clouds = {cloud: asked}
            faults = [f"watching the notices of {cloud}"]
            break
        if (found := "; ".join(faults)) != said:
            said = found
            say(said)
        time.sleep(pause)


def drain(cloud: str, notice: Notice) -> bool:
    """Have Ray drain this node, trying again until the machine goes; whether Ray accepted."""
    begun = time.time()
    # A clock that is wrong must not leave Ray more time than there is, nor none at all.
    ends = min(notice.deadline or begun + GRACE[cloud], begun + GRACE[cloud])
    ends = max(ends, begun + 10)
    while (left := int(ends - time.time())) > 0:
        command = ["ray", "drain-node", "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", notice.reason]
        if notice.deadline is not None:
            command += ["--deadline-remaining-seconds", str(left)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=left, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            say(f"ray drain-node: {error}")
        else:
            if done.returncode == 0:
                return True
            say(f"ray drain-node: exit {done.returncode}: {(done.stderr.strip().splitlines() or [''])[-1]}")
        time.sleep(PAUSE)
    return False


def say(text: str) -> None:
    print(f"drain-on-notice: {text}", file=sys.stderr, flush=True)


def _host(text: str) -> str:
    if not re.fullmatch(r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no HOST or HOST:PORT")
    return text


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the first process of a container would not hear it otherwise
    parser = argparse.ArgumentParser(description="Drain this Ray node when the cloud takes its machine back.")
    parser.add_argument("--cloud", choices=("auto", "aws", "gcp"), default="auto", help="whose notices; auto finds out")
    parser.add_argument("--rebalance", action="store_true", help="drain also when AWS recommends to rebalance")
    parser.add_argument("--metadata", default=METADATA, type=_host, metavar="HOST[:PORT]", help="where the metadata service is")
    parser.add_argument("--every", default=PAUSE, type=float, metavar="SECONDS", help="between two questions")
    flags = parser.parse_args()
    clouds: dict[str, Ask] = {"aws": lambda: ask_aws(flags.metadata, flags.rebalance), "gcp": asks_gcp(flags.metadata)}
    cloud, notice = watch(clouds if flags.cloud == "auto" else {flags.cloud: clouds[flags.cloud]}, flags.every)
    say(f"{notice.reason}: draining this node")
    drained = drain(cloud, notice)
    say("drained" if drained else "not drained, and no time is left")
    return 0 if drained else 1


if __name__ == "__main__":
    sys.exit(main())
