"""The manifests are what Kubernetes, KubeRay, Ray and the lock take, and keep what must be kept in."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from know_thyself import __version__
from know_thyself.presets import __path__ as presets  # type: ignore[attr-defined]
from tests.manifests import (
    CLUSTER,
    DEPLOYED,
    KUBERAY,
    ROOT,
    Resource,
    cluster_spec,
    every,
    faults,
    kustomized,
    pod_templates,
    without_order,
)

CLOUDS = ["aws", "gcp"]
OURS = {"app.kubernetes.io/part-of": "know-thyself"}
DRAIN = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
SPARE = 15
"""Seconds of grace that a pod needs beyond the drain, to end what is left."""


def lock(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    pins = [line.partition("==") for line in lines if line and not line.startswith("#")]
    return {package: version for package, _, version in pins}


RAY = lock("cpu")["ray"]
IMAGES = {f"know-thyself:{__version__}-ray{RAY}-{build}" for build in ("cpu", "cuda")}
OTHER_IMAGES = {"redis:7.2.7-bookworm"}


def launcher(cloud: str) -> Resource:
    return dict(yaml.safe_load((CLUSTER / f"{cloud}.yaml").read_text()))


@pytest.fixture(params=DEPLOYED)
def deployed(request: pytest.FixtureRequest) -> list[Resource]:
    return kustomized(KUBERAY / request.param)


@pytest.fixture
def rays(deployed: list[Resource]) -> list[Resource]:
    return [one for one in deployed if cluster_spec(one)]


def test_each_folder_deploys_what_its_name_says() -> None:
    kinds = {name: sorted(one["kind"] for one in kustomized(KUBERAY / name) if cluster_spec(one)) for name in DEPLOYED}
    expected = {"cluster": ["RayCluster"], "jobs": ["RayJob", "RayJob"], "service": ["RayService"]}
    assert kinds == {name: expected[name.partition("/")[2]] for name in DEPLOYED}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not here")
def test_kubectl_makes_the_same_of_them() -> None:
    for name in DEPLOYED:
        made = subprocess.run(["kubectl", "kustomize", str(KUBERAY / name)], capture_output=True, text=True, check=True)
        assert without_order(list(yaml.safe_load_all(made.stdout))) == without_order(kustomized(KUBERAY / name))


def test_kuberay_refuses_none_of_them(rays: list[Resource]) -> None:
    assert [fault for one in rays for fault in faults(one)] == []


WRONG: dict[str, tuple[str, Any]] = {
    "a field that there is none": ("spec.workerGroups", []),
    "labels as a parameter": ("spec.headGroupSpec.rayStartParams.labels", "a=b"),
    "a number as a parameter": ("spec.headGroupSpec.rayStartParams.num-cpus", 0),
    "an old Ray": ("spec.rayVersion", "2.51.0"),
    "a name too long": ("metadata.name", "n" * 54),
    "a restart": ("spec.headGroupSpec.template.spec.restartPolicy", "Always"),
    "no container": ("spec.headGroupSpec.template.spec.containers", []),
    "Redis twice": ("spec.gcsFaultToleranceOptions", {"redisAddress": "redis:6379", "storage": {}}),
    "more than the most": ("spec.workerGroupSpecs.0.minReplicas", 9),
    "a group twice": ("spec.workerGroupSpecs.0.groupName", "on-demand"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_the_rules_bite(wrong: str) -> None:
    (cluster,) = (copy.deepcopy(one) for one in kustomized(KUBERAY / "large/cluster") if one["kind"] == "RayCluster")
    assert faults(cluster) == []
    path, value = WRONG[wrong]
    *parents, last = path.split(".")
    place: Any = cluster
    for step in parents:
        place = place[int(step)] if isinstance(place, list) else place[step]
    place[last] = value
    assert faults(cluster)


def test_a_service_whose_head_names_no_port_of_serve_is_wrong() -> None:
    (service,) = (copy.deepcopy(one) for one in kustomized(KUBERAY / "large/service") if one["kind"] == "RayService")
    ports = service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"]
    ports.remove({"containerPort": 8000, "name": "serve"})
    assert len(faults(service)) == 1


@pytest.mark.parametrize("cloud", CLOUDS)
def test_rays_launcher_takes_its_files(cloud: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(launcher(cloud))
    validate_config(prepared)
    assert prepared["provider"]["type"] == cloud
    assert [prepared[f"{who}setup_commands"] for who in ("", "head_", "worker_")] == [[], [], []]  # none of Ray's own defaults


@pytest.mark.parametrize("cloud", CLOUDS)
def test_rays_launcher_refuses_what_is_wrong(cloud: str) -> None:
    from jsonschema import ValidationError  # type: ignore[import-untyped]
    from ray.autoscaler._private.util import prepare_config, validate_config

    wrong = launcher(cloud) | {"initial_workers": 2}
    with pytest.raises(ValidationError):
        validate_config(prepare_config(wrong))


@pytest.mark.parametrize("size", ["small", "large"])
def test_ray_serve_takes_the_service(size: str) -> None:
    from ray.serve.schema import ServeDeploySchema

    (service,) = (one for one in kustomized(KUBERAY / size / "service") if one["kind"] == "RayService")
    told = yaml.safe_load(service["spec"]["serveConfigV2"])
    parsed = ServeDeploySchema.model_validate(told)
    (application,) = parsed.applications
    assert application.import_path == "serve.app:build"
    assert set(application.args) == {"registry", "keys"}  # no host but loopback goes without keys
    (deployment,) = application.deployments
    options = deployment.ray_actor_options
    assert (deployment.num_replicas, deployment.max_replicas_per_node) == (2, 1)
    spec = cluster_spec(service)
    assert spec is not None
    gpus = {"nvidia.com/gpu" in group["template"]["spec"]["containers"][0]["resources"]["limits"] for group in workers(spec)}
    assert gpus == {options.model_dump().get("num_gpus") == 1} == {size == "large"}


def workers(spec: Resource) -> list[Resource]:
    return list(spec["workerGroupSpecs"])


def test_versions_and_images_are_those_of_the_lock(deployed: list[Resource], rays: list[Resource]) -> None:
    assert lock("cuda")["ray"] == RAY
    assert {cluster_spec(one)["rayVersion"] for one in rays} <= {RAY}  # type: ignore[index]
    images = {value for one in deployed for key, value in every(one) if key == "image"}
    assert images <= IMAGES | OTHER_IMAGES


def test_the_nodes_of_one_cluster_have_one_image(rays: list[Resource]) -> None:
    for one in rays:
        assert len({value for key, value in every(cluster_spec(one)) if key == "image"}) == 1


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_images_of_the_launcher_are_those_of_the_lock(cloud: str) -> None:
    docker = launcher(cloud)["docker"]
    assert docker["image"] == f"REGISTRY/know-thyself:{__version__}-ray{RAY}-cuda"
    assert not {"head_image", "worker_image"} & set(docker)  # driver and workers exchange what both must have


def dockerfile() -> str:
    return (CLUSTER / "Dockerfile").read_text().replace("\\\n", " ")


def test_the_image_holds_the_locked_set_and_nothing_else() -> None:
    text = dockerfile()
    (tag,) = re.findall(r"-t (know-thyself:\S+)", text)
    assert tag in IMAGES
    installs = re.findall(r"pip install (.*)", text)
    assert all("--no-deps" in install for install in installs)
    files = {build: {*re.findall(r"-r requirements/(\w+)\.txt", install)} for build, install in stages("pip install")}
    assert files == {"packages-cpu": {"cpu", "launcher"}, "packages-cuda": {"cuda", "launcher"}, "cpu": set(), "cuda": set()}
    (python,) = re.findall(r"FROM python:(\S+)-slim-bookworm AS", text)
    assert re.fullmatch(r"3\.11\.\d+", python)
    assert not set(lock("launcher")) & (set(lock("cpu")) | set(lock("cuda")))


def stages(instruction: str) -> list[tuple[str, str]]:
    """The lines with `instruction`, each with the stage of the image that it is in."""
    stage, found = "", []
    for line in dockerfile().splitlines():
        if line.startswith("FROM"):
            stage = line.split()[-1]
        elif instruction in line:
            found.append((stage, line))
    return found


def test_both_targets_run_as_nobody_special_and_say_how_they_are() -> None:
    assert dict(stages("USER ")) == {"system": "USER kt"}
    assert {stage for stage, _ in stages("HEALTHCHECK")} == {"cpu", "cuda"}
    assert all(f"FROM system AS {target}" in dockerfile() for target in ("cpu", "cuda"))


def test_what_enters_the_image_is_named() -> None:
    first, *rest = [line for line in (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] != "#"]
    assert first == "*"
    let_in = {line[1:] for line in rest if line.startswith("!")}
    assert {"jobs", "know_thyself", "serve", "requirements", "pyproject.toml"} <= let_in
    assert not {".git", "experiments", "tests", "shared", ".venv"} & let_in


NIGHTLY = re.compile(r"nightly|latest|dev0|ray-wheels|git\+")


@pytest.mark.parametrize("path", sorted(path for path in CLUSTER.rglob("*") if path.suffix in (".yaml", "") and path.is_file()))
def test_nothing_is_nightly(path: Path) -> None:
    assert not NIGHTLY.search(path.read_text())


SECRET = re.compile(r"token|password|secret|credential|private_key|api_?key", re.IGNORECASE)


def test_no_manifest_holds_a_secret(deployed: list[Resource]) -> None:
    assert "Secret" not in {one["kind"] for one in deployed}
    for one in deployed:
        for key, value in every(one):
            if key == "env":
                plain = {entry["name"] for entry in value if "value" in entry}
                assert not {name for name in plain if SECRET.search(name)}
            if key in ("stringData", "data"):
                pytest.fail(f"{one['kind']} {one['metadata']['name']} holds data")


@pytest.mark.parametrize(
    "path", sorted(path for path in CLUSTER.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
)
def test_no_file_holds_what_looks_like_a_secret(path: Path) -> None:
    text = path.read_text()
    assert not re.findall(r"AKIA[0-9A-Z]{16}|-----BEGIN|\b[0-9a-f]{40,}\b|hf_\w{20,}|sk-\w{20,}|gh[pousr]_\w{20,}", text)
    assert not re.findall(r"(?i)\b(?:ENV|ARG)\s+\S*(?:token|password|secret|key)\S*=\S{12,}", text)


def test_every_cluster_asks_for_the_token(rays: list[Resource]) -> None:
    for one in rays:
        spec = cluster_spec(one)
        assert spec is not None
        assert spec["authOptions"] == {"mode": "token", "secretName": "ray-token"}
        for group in workers(spec):  # KubeRay gives the token to Ray's container alone
            beside = group["template"]["spec"]["containers"][1]
            assert {entry["name"] for entry in beside["env"]} == {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_launcher_asks_for_the_token_and_keeps_the_dashboard_in(cloud: str) -> None:
    told = launcher(cloud)
    starts = [line for who in ("head", "worker") for line in told[f"{who}_start_ray_commands"] if "ray start" in line]
    assert len(starts) == 2
    assert all("export RAY_AUTH_MODE=token;" in line for line in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "--num-cpus=0" in starts[0]
    assert told["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    assert "security_group" not in told["provider"]  # Ray's own lets in ssh and the nodes of the cluster


def test_the_image_has_what_rays_launcher_runs_in_it() -> None:
    """Its commands come through login shells, which begin with a PATH of their own, and the head reaches workers by ssh."""
    packages = re.search(r"apt-get install (.*?)&&", dockerfile())
    assert packages
    assert {"openssh-client", "rsync"} <= set(packages[1].split())
    path = re.search(r"ENV .*PATH=(\S+?):\$PATH", dockerfile())
    assert path
    assert f"echo 'PATH={path[1]}:$PATH' > /etc/profile.d/" in dockerfile()


@pytest.mark.parametrize("cloud", CLOUDS)
def test_what_is_shared_is_the_images_users_once_it_is_mounted(cloud: str) -> None:
    told = launcher(cloud)["initialization_commands"]
    mounted, owned = (next(i for i, line in enumerate(told) if word in line) for word in ("sudo mount", "install -d"))
    assert mounted < owned
    assert "nfsvers=4.1" in told[mounted]  # earlier ones leave the locks of a machine that is gone
    assert "-o 1000 -g 1000 /shared" in told[owned]


def test_the_machines_of_aws_are_not_rays_own_choice() -> None:
    images = {kind["node_config"]["ImageId"] for kind in launcher("aws")["available_node_types"].values()}
    assert images == {"MACHINE_IMAGE"}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_launcher_prefers_spot_falls_back_and_watches(cloud: str) -> None:
    told = launcher(cloud)
    types = told["available_node_types"]
    assert told["head_node_type"] == "head"
    assert types["head"]["resources"] == {"CPU": 0}
    assert types["spot"]["priority"] > types["on-demand"]["priority"]
    assert types["spot"]["resources"] == types["on-demand"]["resources"]
    markets = {name: kind["labels"]["ray.io/market-type"] for name, kind in types.items()}
    assert markets == {"head": "on-demand", "spot": "spot", "on-demand": "on-demand"}
    assert {name for name, kind in types.items() if "preemptible" in str(kind) or "MarketType" in str(kind)} == {"spot"}
    (watch,) = (line for line in told["worker_start_ray_commands"] if "drain_on_notice" in line)
    assert f"/opt/know-thyself/cluster/drain_on_notice.py --cloud {cloud} " in watch
    assert "export RAY_AUTH_MODE=token;" in watch


def test_grace_is_longer_than_the_drain(rays: list[Resource]) -> None:
    for name, template in pod_templates(rays):
        if "submitter" in name:
            continue
        ray = template["spec"]["containers"][0]
        (drain,) = (int(entry["value"]) for entry in ray["env"] if entry["name"] == DRAIN)
        assert template["spec"]["terminationGracePeriodSeconds"] >= drain + SPARE, name


def test_every_worker_has_the_watcher_beside_it(rays: list[Resource]) -> None:
    for one in rays:
        spec = cluster_spec(one)
        assert spec is not None
        for group in workers(spec):
            ray, watcher = group["template"]["spec"]["containers"]
            program = Path(watcher["command"][1])
            assert (CLUSTER / program.relative_to("/opt/know-thyself/cluster")).is_file()
            mounts = [{(mount["name"], mount["mountPath"]) for mount in each["volumeMounts"]} for each in (ray, watcher)]
            assert mounts[1] == {("ray", "/tmp/ray")}
            assert group["template"]["spec"]["shareProcessNamespace"]  # `ray drain-node` looks for the node among the processes
            assert mounts[1] < mounts[0]


def test_heads_do_no_work_and_are_never_on_spot(rays: list[Resource]) -> None:
    for one in rays:
        spec = cluster_spec(one)
        assert spec is not None
        head, (spot, on_demand) = spec["headGroupSpec"], workers(spec)
        assert head["rayStartParams"]["num-cpus"] == "0"
        terms = [affinity(group["template"]) for group in (head, spot, on_demand)]
        assert terms[0] == terms[2] != terms[1]
        keys = [{expression["key"] for term in each for expression in term["matchExpressions"]} for each in terms]
        assert keys[0] == keys[1]
        assert {e["operator"] for term in terms[0] for e in term["matchExpressions"]} == {"NotIn"}
        assert len(terms[0]) == 1  # all of it must hold, where of the terms of spot one does
        assert (spot["labels"], on_demand["labels"]) == (market("spot"), market("on-demand"))
        assert head["labels"] == market("on-demand")
        assert spot["priority"] > on_demand["priority"]


def market(kind: str) -> dict[str, str]:
    return {"ray.io/market-type": kind}


def affinity(template: Resource) -> list[Resource]:
    node = template["spec"]["affinity"]["nodeAffinity"]
    return list(node["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"])


@pytest.mark.parametrize("size", ["small", "large"])
def test_one_replica_of_the_service_is_off_spot_and_it_outlives_its_head(size: str) -> None:
    built = kustomized(KUBERAY / size / "service")
    (service,) = (one for one in built if one["kind"] == "RayService")
    spec = cluster_spec(service)
    assert spec is not None
    spot, on_demand = workers(spec)
    assert (spot["maxReplicas"], on_demand["minReplicas"]) == (1, 1)
    (redis,) = (one for one in built if one["kind"] == "Service")
    host, port = spec["gcsFaultToleranceOptions"]["redisAddress"].split(":")
    assert (host, int(port)) == (redis["metadata"]["name"], redis["spec"]["ports"][0]["port"])
    password = spec["gcsFaultToleranceOptions"]["redisPassword"]["valueFrom"]["secretKeyRef"]
    (store,) = (one for one in built if one["kind"] == "StatefulSet")
    assert store["spec"]["template"]["spec"]["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"] == password
    assert service["spec"]["excludeHeadPodFromServeSvc"]


def test_pods_run_as_nobody_special(deployed: list[Resource]) -> None:
    for name, template in pod_templates(deployed):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["runAsUser"] > 0, name
        for container in spec["containers"]:
            shut = container["securityContext"]
            assert (shut["allowPrivilegeEscalation"], shut["capabilities"]) == (False, {"drop": ["ALL"]}), name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert not [volume for volume in spec.get("volumes", []) if "hostPath" in volume], name


def lets_in(resources: list[Resource], labels: dict[str, str], node: str | None, source: dict[str, str], port: int) -> bool:
    """Whether the policies let a pod with the labels `source`, of the same namespace, reach `port` of another."""
    target = labels | ({"ray.io/node-type": node} if node else {})
    policies = [one["spec"] for one in resources if one["kind"] == "NetworkPolicy"]
    held = [policy for policy in policies if policy["podSelector"]["matchLabels"].items() <= target.items()]
    if not held:
        return True
    rules = [rule for policy in held for rule in policy["ingress"]]
    return any(
        origin["podSelector"]["matchLabels"].items() <= source.items()
        and port in [p["port"] for p in rule.get("ports", [{"port": port}])]
        for rule in rules
        for origin in rule["from"]
    )


def test_dashboard_gcs_and_redis_stay_inside(deployed: list[Resource]) -> None:
    assert not {"Ingress", "HTTPRoute", "Gateway"} & {one["kind"] for one in deployed}
    assert not [value for one in deployed for key, value in every(one) if value in ("LoadBalancer", "NodePort")]
    asking, operator = {"know-thyself/asks": "judge"}, {"app.kubernetes.io/name": "kuberay-operator"}
    for name, template in pod_templates(deployed):
        labels = template["metadata"]["labels"]
        node = "head" if name.endswith("head") else None if "submitter" in name or "redis" in name else "worker"
        inside = 6379 if "redis" in name else 8265
        for stranger in ({}, asking):
            for port in (6379, 8265, 10001, 52365):
                assert not lets_in(deployed, labels, node, stranger, port), name
        assert lets_in(deployed, labels, node, OURS, inside), name
        if node == "head":
            assert lets_in(deployed, labels, node, operator, 8265)
            assert not lets_in(deployed, labels, node, operator, 6379)
        if node == "worker" and "RayService" in name:
            assert lets_in(deployed, labels, node, asking, 8000)
            assert not lets_in(deployed, labels, node, {}, 8000)


def test_budgets_hold_the_pods_they_are_for(deployed: list[Resource]) -> None:
    budgets = [one["spec"] for one in deployed if one["kind"] == "PodDisruptionBudget"]
    kinds = {one["kind"] for one in deployed}
    assert len(budgets) == len(kinds & {"RayCluster", "RayJob", "RayService"})
    for budget in budgets:
        wanted = dict(budget["selector"]["matchLabels"])
        node = wanted.pop("ray.io/node-type")
        names = [name for name, template in pod_templates(deployed) if wanted.items() <= template["metadata"]["labels"].items()]
        assert [name for name in names if name.endswith("head") == (node == "head")]
        assert not {"maxUnavailable"} & set(budget)  # Kubernetes cannot tell how many pods KubeRay wants
        heads = node == "head"
        assert (budget["minAvailable"] > len(names)) == heads


ALLOCATION = "RAY_AUTOSCALER_RECONCILE_ALLOCATE_STATUS_TIMEOUT_S"


def falls_back_after(one: Resource) -> float:
    """The seconds after which the autoscaler takes a pod that waits for a machine for lost."""
    spec = cluster_spec(one)
    assert spec is not None
    (told,) = spec["autoscalerOptions"]["env"]
    assert told["name"] == ALLOCATION
    return float(told["value"])


def test_ray_knows_by_this_name_how_long_a_pod_may_wait(rays: list[Resource]) -> None:
    from ray.autoscaler.v2.instance_manager import config

    assert f'"{ALLOCATION}"' in Path(config.__file__).read_text()
    assert all(0 < falls_back_after(one) < config.InstanceReconcileConfig().allocate_status_timeout_s for one in rays)


def test_jobs_are_commands_that_there_are_and_are_tried_again(rays: list[Resource]) -> None:
    for one in rays:
        if one["kind"] != "RayJob":
            continue
        python, flag, module, *flags = one["spec"]["entrypoint"].split()
        assert (python, flag) == ("python", "-m")
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
        assert (Path(presets[0]) / f"{flags[flags.index('--preset') + 1]}.toml").is_file()
        assert flags[flags.index("--experiments-root") + 1].startswith("/shared/")
        assert one["spec"]["backoffLimit"] > 0
        assert float(flags[flags.index("--node-wait") + 1]) > 2 * falls_back_after(one)  # for a node of either kind


def test_all_that_is_mounted_is_there(deployed: list[Resource]) -> None:
    claims = {one["metadata"]["name"] for one in deployed if one["kind"] == "PersistentVolumeClaim"}
    for name, template in pod_templates(deployed):
        spec = template["spec"]
        volumes = {volume["name"] for volume in spec.get("volumes", [])}
        mounted = {mount["name"] for each in spec["containers"] for mount in each.get("volumeMounts", [])}
        assert mounted == volumes or "StatefulSet" in name, name
        assert {
            v["persistentVolumeClaim"]["claimName"] for v in spec.get("volumes", []) if "persistentVolumeClaim" in v
        } <= claims
