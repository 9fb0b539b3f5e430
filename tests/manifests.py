"""The manifests of cluster/ as Kubernetes would be handed them, and the rules by which KubeRay 1.7 refuses its resources."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "cluster"
KUBERAY = CLUSTER / "kuberay"
DEPLOYED = [f"{size}/{what}" for size in ("small", "large") for what in ("cluster", "jobs", "service")]
LOCAL = "config.kubernetes.io/local-config"

Resource = dict[str, Any]


@cache
def kustomized(folder: Path) -> list[Resource]:
    """What `kubectl kustomize` makes of `folder`, as far as our manifests use it; anything else is an error."""
    built = _layered(folder, [])
    return [one for one in built if LOCAL not in one["metadata"].get("annotations", {})]


def _layered(folder: Path, given: list[Resource]) -> list[Resource]:
    """`given` and the resources of `folder`, with its components, patches and replacements made to them, in this order."""
    layer = yaml.safe_load((folder / "kustomization.yaml").read_text())
    kind = layer.pop("kind")
    assert (kind, layer.pop("apiVersion").rpartition("/")[2]) in {("Kustomization", "v1beta1"), ("Component", "v1alpha1")}
    built = list(given)
    for name in layer.pop("resources", []):
        path = folder / name
        built += _layered(path, []) if path.is_dir() else _read(path)
    for name in layer.pop("components", []):
        built = _layered(folder / name, built)
    for patch in layer.pop("patches", []):
        for one in _selected(built, patch["target"]):
            for operation in yaml.safe_load(patch["patch"]):
                _patch(one, **operation)
    for replacement in layer.pop("replacements", []):
        source = replacement["source"]
        (found,) = _selected(built, {"kind": source["kind"]})
        for target in replacement["targets"]:
            for one in _selected(built, target["select"]):
                for path in target["fieldPaths"]:
                    _patch(one, "add", "/" + path.replace(".", "/"), found[source["fieldPath"]])
    assert not layer, f"{folder}: {layer} is not understood"
    return built


def _read(path: Path) -> list[Resource]:
    """The documents of a file; what an anchor stands for is a copy of its own wherever it is used."""
    return [json.loads(json.dumps(one)) for one in yaml.safe_load_all(path.read_text())]


def _selected(resources: list[Resource], target: dict[str, str]) -> list[Resource]:
    wanted = [one for one in resources if one["kind"] == target["kind"]]
    return [one for one in wanted if target.get("name") in (None, one["metadata"]["name"])]


def _patch(resource: Resource, op: str, path: str, value: Any) -> None:
    """One operation of a JSON patch (RFC 6902)."""
    *parents, last = [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]
    place: Any = resource
    for step in parents:
        place = place[int(step)] if isinstance(place, list) else place[step]
    if isinstance(place, list):
        assert (op, last) == ("add", "-")
        place.append(copy.deepcopy(value))
    else:
        assert op == "add" or (op == "replace" and last in place), f"{path} is not there"
        place[last] = copy.deepcopy(value)


def cluster_spec(resource: Resource) -> Resource | None:
    """The cluster that one of KubeRay's resources describes."""
    field = {"RayCluster": "", "RayJob": "rayClusterSpec", "RayService": "rayClusterConfig"}.get(resource["kind"])
    if field is None:
        return None
    spec = resource["spec"]
    return dict(spec[field] if field else spec)


def pod_templates(resources: list[Resource]) -> Iterator[tuple[str, Resource]]:
    """All templates of pods, each with a name."""
    for resource in resources:
        name = f"{resource['kind']} {resource['metadata']['name']}"
        if spec := cluster_spec(resource):
            yield f"{name} head", spec["headGroupSpec"]["template"]
            for group in spec["workerGroupSpecs"]:
                yield f"{name} {group['groupName']}", group["template"]
        if resource["kind"] == "RayJob":
            yield f"{name} submitter", resource["spec"]["submitterPodTemplate"]
        if resource["kind"] == "StatefulSet":
            yield name, resource["spec"]["template"]


def every(node: Any) -> Iterator[tuple[str, Any]]:
    """Every key of a tree, with its value."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key, value
            yield from every(value)
    elif isinstance(node, list):
        for value in node:
            yield from every(value)


LONGEST_NAME = {"RayCluster": 53, "RayJob": 47, "RayService": 47}
FIELDS = {
    "RayCluster": "authOptions autoscalerOptions enableInTreeAutoscaling gcsFaultToleranceOptions headGroupSpec managedBy "
    "rayVersion suspend upgradeStrategy workerGroupSpecs",
    "RayJob": "activeDeadlineSeconds backoffLimit clusterSelector deletionStrategy entrypoint entrypointNumCpus "
    "entrypointNumGpus entrypointResources jobId managedBy metadata preRunningDeadlineSeconds rayClusterSpec runtimeEnvYAML "
    "shutdownAfterJobFinishes submissionMode submitterConfig submitterPodTemplate suspend ttlSecondsAfterFinished",
    "RayService": "excludeHeadPodFromServeSvc managedBy rayClusterConfig rayClusterDeletionDelaySeconds serveConfigV2 "
    "serveService suspend upgradeStrategy",
    "head": "enableIngress headService labels rayStartParams resources serviceType template",
    "group": "groupName idleTimeoutSeconds labels maxReplicas minReplicas numOfHosts priority rayStartParams replicas "
    "resources scaleStrategy suspend template",
    "autoscaler": "args command env envFrom idleTimeoutSeconds image imagePullPolicy resources securityContext upscalingMode "
    "version volumeMounts",
    "auth": "enableK8sTokenAuth mode secretName",
    "fault tolerance": "backend externalStorageNamespace redisAddress redisPassword redisUsername storage",
}


def faults(resource: Resource) -> list[str]:
    """Why KubeRay 1.7 would refuse one of its resources; empty when it would not."""
    kind, name = resource["kind"], resource["metadata"]["name"]
    found = [] if resource["apiVersion"] == "ray.io/v1" else ["apiVersion is not ray.io/v1"]
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) or len(name) > LONGEST_NAME[kind]:
        found.append(f"name {name}")
    found += _unknown(kind, resource["spec"])
    found += _job_faults(resource["spec"]) if kind == "RayJob" else []
    spec = cluster_spec(resource)
    assert spec is not None
    found += _service_faults(spec["headGroupSpec"]) if kind == "RayService" else []
    if kind != "RayCluster" and "upgradeStrategy" in spec:
        found.append("upgradeStrategy of a cluster that KubeRay makes")
    return found + _cluster_faults(spec, kind)


def _unknown(what: str, node: Resource) -> list[str]:
    return [f"{what} has no field {field}" for field in node if field not in FIELDS[what].split()]


def _job_faults(spec: Resource) -> list[str]:
    found = []
    if spec.get("ttlSecondsAfterFinished", 0) > 0 and not spec.get("shutdownAfterJobFinishes"):
        found.append("ttlSecondsAfterFinished without shutdownAfterJobFinishes")
    if spec.get("submissionMode", "K8sJobMode") not in ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"):
        found.append("submissionMode")
    if spec.get("submissionMode") == "SidecarMode" and {"submitterPodTemplate", "submitterConfig"} & set(spec):
        found.append("SidecarMode with a submitter of its own")
    if ("clusterSelector" in spec) == ("rayClusterSpec" in spec):
        found.append("one of clusterSelector and rayClusterSpec")
    if spec.get("backoffLimit", 0) < 0 or spec.get("activeDeadlineSeconds", 1) <= 0:
        found.append("a limit below its least")
    return found


def _service_faults(head: Resource) -> list[str]:
    found = ["headService.metadata.name is set"] if "name" in str(head.get("headService", "")) else []
    ports = head["template"]["spec"]["containers"][0].get("ports", [])  # where there are none, KubeRay adds its own
    if ports and "serve" not in {port.get("name") for port in ports}:
        found.append("no port of the head is named serve, so there is no service of Serve's")
    return found


def _cluster_faults(spec: Resource, kind: str) -> list[str]:
    found = _unknown("RayCluster", spec) + _unknown("head", spec["headGroupSpec"])
    found += _unknown("autoscaler", spec.get("autoscalerOptions", {}))
    auth = spec.get("authOptions", {})
    found += _unknown("auth", auth)
    if auth.get("mode", "token") == "token" and tuple(map(int, spec.get("rayVersion", "0.0").split(".")[:2])) < (2, 52):
        found.append("token authentication wants rayVersion 2.52 or later")
    if auth.get("enableK8sTokenAuth") and kind != "RayCluster":
        found.append(f"{kind} with enableK8sTokenAuth")
    if spec.get("autoscalerOptions", {}).get("idleTimeoutSeconds", 0) < 0:
        found.append("idleTimeoutSeconds below 0")
    head = spec["headGroupSpec"]
    environment = {one["name"] for container in head["template"]["spec"]["containers"][:1] for one in container.get("env", [])}
    if "gcsFaultToleranceOptions" in spec:
        options = spec["gcsFaultToleranceOptions"]
        found += _unknown("fault tolerance", options)
        if environment & {"REDIS_PASSWORD", "RAY_REDIS_ADDRESS"} or "redis-password" in head["rayStartParams"]:
            found.append("Redis said twice")
        if options.get("backend", "redis") == "redis" and "storage" in options:
            found.append("storage of the backend redis")
    elif "RAY_REDIS_ADDRESS" in environment:
        found.append("RAY_REDIS_ADDRESS without gcsFaultToleranceOptions")
    if "RAY_enable_autoscaler_v2" in environment and "version" in spec.get("autoscalerOptions", {}):
        found.append("the version of the autoscaler said twice")
    for group in [head, *spec["workerGroupSpecs"]]:
        found += _group_faults(group, scales=bool(spec.get("enableInTreeAutoscaling")))
    names = [group["groupName"] for group in spec["workerGroupSpecs"]]
    return found + ([] if len(names) == len(set(names)) else ["two groups of one name"])


def _group_faults(group: Resource, *, scales: bool) -> list[str]:
    name, is_head = group.get("groupName", "head"), "groupName" not in group
    found = [] if is_head else _unknown("group", group)
    parameters = group["rayStartParams"]
    if not group["template"]["spec"].get("containers"):
        found.append(f"{name} has no container")
    if "labels" in parameters:
        found.append(f"{name} says its labels in rayStartParams")
    if group.get("resources") and {"num-cpus", "num-gpus", "memory", "resources"} & set(parameters):
        found.append(f"{name} says its resources twice")
    if any(not isinstance(value, str) for value in parameters.values()):
        found.append(f"{name} has a parameter that is no text")
    if scales and group["template"]["spec"].get("restartPolicy", "Never") != "Never":
        found.append(f"{name} restarts, which the autoscaler v2 does not allow")
    if not is_head and not 0 <= group.get("minReplicas", 0) <= group.get("maxReplicas", 2**31 - 1):
        found.append(f"{name} has no minReplicas within 0 and maxReplicas")
    for key, value in group.get("labels", {}).items():
        if not re.fullmatch(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?", key) or len(value) > 63:
            found.append(f"{name} has the label {key}={value}")
    return found


def without_order(resources: list[Resource]) -> list[str]:
    """Resources as texts that are equal where the resources are, in whatever order."""
    return sorted(json.dumps(one, sort_keys=True) for one in resources)
