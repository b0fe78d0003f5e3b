"""Every file under infra/ is what its reader takes, checked offline, and says what the code says.

Kinds of Kubernetes itself by its published schemas (kubernetes-validate), custom ones by the fields that we use of their definitions
(cited below), the cloud cluster by Ray's own schema, units by systemd where it is installed.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from renderfarm.audit.findings import MEANINGS
from renderfarm.cli.options import EXIT_CODES
from renderfarm.cli.parser import build_parser
from renderfarm.errors import SUCCESS
from renderfarm.job import load_job
from renderfarm.output import IMAGES, INBOX, LEASE
from renderfarm.run.loop import Load, Tally
from renderfarm.run.metrics import Metrics
from renderfarm.run.units import Backlog
from renderfarm.schedule.units import KEY_FILES, METRICS_PORT, OVERDUE_S, STOP_S, systemd
from renderfarm.version import __version__
from tests.unit.test_schedule_units import SYSTEMD, VERSION, entry_of, needs_systemd, options

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
CORE = ("v1", "batch/v1", "rbac.authorization.k8s.io/v1")

STRING, INTEGER, BOOLEAN, OBJECT = ({"type": name} for name in ("string", "integer", "boolean", "object"))


def fields(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    """A closed object: a field that is not named here is a mistake."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


# ray.io_rayjobs.yaml and ray.io_raycronjobs.yaml of ray-project/kuberay v1.7, helm-chart/kuberay-operator/crds: the fields that we use.
GROUP = {"rayStartParams": {"type": "object", "additionalProperties": STRING}, "template": OBJECT}
RAY_CLUSTER = fields(
    ("headGroupSpec",),
    rayVersion=STRING,
    headGroupSpec=fields(("template",), **GROUP),
    workerGroupSpecs={
        "type": "array",
        "items": fields(
            ("groupName", "minReplicas", "maxReplicas", "template"),
            groupName=STRING,
            replicas=INTEGER,
            minReplicas=INTEGER,
            maxReplicas=INTEGER,
            **GROUP,
        ),
    },
)
RAY_JOB = fields(
    ("entrypoint", "rayClusterSpec"),
    entrypoint=STRING,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    backoffLimit=INTEGER,
    activeDeadlineSeconds=INTEGER,
    shutdownAfterJobFinishes=BOOLEAN,
    ttlSecondsAfterFinished=INTEGER,
    rayClusterSpec=RAY_CLUSTER,
)
LABELS = {"type": "object", "additionalProperties": STRING}
# prometheus-operator/prometheus-operator, example/prometheus-operator-crd: monitoring.coreos.com_podmonitors.yaml, …_prometheusrules.yaml.
CUSTOM = {
    "RayJob": ("ray.io/v1", RAY_JOB),
    "RayCronJob": (
        "ray.io/v1",
        fields(("jobTemplate", "schedule"), jobTemplate=RAY_JOB, schedule=STRING, timeZone=STRING, suspend=BOOLEAN),
    ),
    "PodMonitor": (
        "monitoring.coreos.com/v1",
        fields(
            ("podMetricsEndpoints", "selector"),
            selector=fields((), matchLabels=LABELS),
            podMetricsEndpoints={"type": "array", "items": fields((), port=STRING, path=STRING, interval=STRING, scrapeTimeout=STRING)},
        ),
    ),
    "PrometheusRule": (
        "monitoring.coreos.com/v1",
        fields(
            (),
            groups={
                "type": "array",
                "items": fields(
                    ("name",),
                    name=STRING,
                    rules={
                        "type": "array",
                        "items": fields(("expr",), alert=STRING, expr=STRING, labels=LABELS, annotations=LABELS, **{"for": STRING}),
                    },
                ),
            },
        ),
    ),
}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((INFRA / name).read_text()))


def kind(name: str, wanted: str) -> dict[str, Any]:
    (found,) = [document for document in documents(name) if document["kind"] == wanted]
    return found


MANIFESTS = sorted(f"kubernetes/{path.name}" for path in (INFRA / "kubernetes").glob("*.yaml"))
RAY_SPEC = kind("kubernetes/rayjob.yaml", "RayJob")["spec"]


def pods(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Pod templates of a Ray cluster: head first."""
    cluster = spec["rayClusterSpec"]
    return [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]


@pytest.mark.parametrize("name", MANIFESTS)
def test_kubernetes_takes_every_manifest(name: str) -> None:
    for document in documents(name):
        assert document["metadata"].get("name") or document["metadata"]["generateName"].endswith("-")
        if document["kind"] in CUSTOM:
            version, schema = CUSTOM[document["kind"]]
            assert document["apiVersion"] == version
            jsonschema.validate(document["spec"], schema)
        else:
            assert document["apiVersion"] in CORE
            kubernetes_validate.validate(document, VERSION, strict=True)


def test_the_schemas_here_refuse_what_is_misspelt() -> None:
    for change in ({"entrypont": "x"}, {"backoffLimit": "3"}, {"submissionMode": "Batch"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**RAY_SPEC, **change}, RAY_JOB)


@pytest.mark.parametrize("number", range(3))
def test_the_pods_of_a_ray_cluster_are_pods(number: int) -> None:
    template = pods(RAY_SPEC)[number]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", **template["metadata"]}, "spec": template["spec"]}
    kubernetes_validate.validate(pod, VERSION, strict=True)
    assert template["spec"]["securityContext"]["runAsNonRoot"] is True
    mounted = {volume["name"] for volume in template["spec"]["volumes"]}
    for container in template["spec"]["containers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= mounted
        assert container["image"] == f"renderfarm:{__version__}"


def test_the_rayjob_runs_our_command_for_the_whole_window(tmp_path: Path) -> None:
    words = shlex.split(RAY_SPEC["entrypoint"])
    args = build_parser().parse_args(words[1:])
    assert (words[0], args.handler, args.once, args.ignore_grace, args.address) == ("renderfarm", "schedule:schedule", True, True, "auto")
    assert {0, *args.success} == set(SUCCESS)
    assert RAY_SPEC["activeDeadlineSeconds"] >= 9 * 3600 + STOP_S, "the night when clocks go back has nine hours"
    head = pods(RAY_SPEC)[0]["spec"]
    (mount,) = [mount for mount in head["containers"][0]["volumeMounts"] if mount["name"] == "job"]
    assert str(args.jobs[0]) == f"{mount['mountPath']}/job.yaml"
    (keys,) = [volume["secret"] for volume in head["volumes"] if volume["name"] == "keys"]
    assert keys["items"] == KEY_FILES
    secret = next(document for document in documents("kubernetes/secrets.yaml") if document["metadata"]["name"] == keys["secretName"])
    assert set(secret["stringData"]) == {item["key"] for item in KEY_FILES}
    assert {v for document in documents("kubernetes/secrets.yaml") for v in document["stringData"].values()} == {"FILL-IN"}


def test_the_ray_version_is_the_pinned_one() -> None:
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert pinned and RAY_SPEC["rayClusterSpec"]["rayVersion"] == pinned[1]


def example_job(tmp_path: Path) -> Any:
    path = tmp_path / "job.yaml"
    path.write_text(kind("kubernetes/job.yaml", "ConfigMap")["data"]["job.yaml"])
    return load_job(path)


def test_the_example_job_fits_its_cluster_and_its_schedules(tmp_path: Path) -> None:
    job = example_job(tmp_path)
    renderers, finishers = RAY_SPEC["rayClusterSpec"]["workerGroupSpecs"]
    assert renderers["replicas"] == renderers["minReplicas"] == job.farm.renderers
    assert renderers["rayStartParams"]["num-gpus"] == "1"
    assert "num-gpus" not in finishers["rayStartParams"]
    cron, ray_cron = kind("kubernetes/cronjob.yaml", "CronJob")["spec"], kind("kubernetes/raycronjob.yaml", "RayCronJob")["spec"]
    for spec in (cron, ray_cron):
        assert (spec["schedule"], spec["timeZone"]) == (job.schedule.opening, job.schedule.timezone)
    assert ray_cron["jobTemplate"] == RAY_SPEC
    assert cron["concurrencyPolicy"] == "Forbid"
    assert cron["startingDeadlineSeconds"] == job.schedule.late_max.total_seconds()
    assert cron["jobTemplate"]["spec"]["activeDeadlineSeconds"] > RAY_SPEC["activeDeadlineSeconds"], "it waits for the RayJob"
    environment = documents("kubernetes/secrets.yaml")[1]["stringData"]
    assert {job.notify.webhook_env, job.notify.token_env} <= set(environment)


def test_the_cronjob_may_do_what_it_does() -> None:
    role, binding = kind("kubernetes/cronjob.yaml", "Role"), kind("kubernetes/cronjob.yaml", "RoleBinding")
    pod = kind("kubernetes/cronjob.yaml", "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert (
        binding["subjects"][0]["name"] == pod["serviceAccountName"] == kind("kubernetes/cronjob.yaml", "ServiceAccount")["metadata"]["name"]
    )
    assert {"create", "get"} <= set(role["rules"][0]["verbs"])
    script = pod["containers"][0]["args"][0]
    assert subprocess.run(["sh", "-n"], input=script, text=True, capture_output=True).returncode == 0


def test_prometheus_finds_the_driver_where_the_job_listens(tmp_path: Path) -> None:
    monitor, job = kind("kubernetes/podmonitor.yaml", "PodMonitor")["spec"], example_job(tmp_path)
    head = pods(RAY_SPEC)[0]
    ports = {port["name"]: port["containerPort"] for port in head["spec"]["containers"][0]["ports"]}
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["port"] == METRICS_PORT
    assert ports[endpoint["port"]] == job.farm.metrics.port and job.farm.metrics.host == "0.0.0.0"
    assert monitor["selector"]["matchLabels"].items() <= head["metadata"]["labels"].items()


def metrics_and_labels() -> dict[str, set[str]]:
    """Every sample that a run exposes, with its labels, from a tally that has all of them."""
    metrics = Metrics("x")
    tally = Tally(3, renderers=1, load=Load(1, 1, 1, 1, Backlog(1, 1, 1)))
    tally.reasons["text"] = 1
    tally.cpu_s["render"] = 1.0
    metrics(tally)
    return {sample.name: set(sample.labels) for family in metrics.collect() for sample in family.samples}


def alerts() -> list[dict[str, Any]]:
    return [rule for group in kind("kubernetes/rules.yaml", "PrometheusRule")["spec"]["groups"] for rule in group["rules"]]


def test_alerts_ask_for_metrics_that_exist_and_lead_to_the_runbook() -> None:
    exposed, runbook = metrics_and_labels(), (INFRA / "runbook.md").read_text()
    headings = {heading.lower() for heading in re.findall(r"^### (\w+)$", runbook, re.M)}
    assert headings == {rule["alert"].lower() for rule in alerts()}
    for rule in alerts():
        named = re.findall(r"\b(renderfarm_\w+)(?:\{(\w+)=)?", rule["expr"])
        assert named
        for name, label in named:
            assert name in exposed, f"{rule['alert']} asks for {name}"
            assert not label or label in exposed[name]
        assert rule["expr"].count("(") == rule["expr"].count(")")
        assert rule["annotations"]["runbook_url"].endswith(f"#{rule['alert'].lower()}")
    assert set(re.findall(r"\b(renderfarm_\w+)", runbook)) <= set(exposed)


def test_the_runbook_knows_every_exit_code_and_every_finding() -> None:
    runbook = (INFRA / "runbook.md").read_text()
    codes = {int(code) for code in re.findall(r"^  (\d+) ", EXIT_CODES, re.M)}
    assert codes <= {int(code) for code in re.findall(r"^\| (\d+) \|", runbook, re.M)}
    table = runbook.partition("## Audit findings")[2]
    listed = {name.strip() for row in re.findall(r"^\| ([a-z, -]+) \|", table, re.M) for name in row.split(",")} - {"finding", "---"}
    assert listed == set(MEANINGS), "infra/runbook.md says what to do for each finding, and for no other"


def test_the_runbooks_commands_exist() -> None:
    runbook = (INFRA / "runbook.md").read_text()
    written = [*re.findall(r"`(renderfarm [^`]+)`", runbook), *re.findall(r"^(renderfarm [^#\n]+)", runbook, re.M)]
    whole = [line for line in written if len(line.split()) > 3 or "OUTPUT" in line]
    assert len(whole) >= 7
    for line in whole:
        build_parser().parse_args(shlex.split(line.replace("…", "checks.text.min_score=1"))[1:])


# --- one machine ---


def test_the_template_units_say_what_the_generator_says(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("name: mockups\nmanifest: m\noutput: o\nschedule: {window: 22:00-06:00, timezone: Europe/Berlin}\n")
    service, timer = (options(file.text) for file in systemd(entry_of(path)[0]))
    ours = [options((INFRA / "systemd" / name).read_text()) for name in ("renderfarm@.service", "renderfarm@.timer")]
    for name in ("Type", "SuccessExitStatus", "KillMode", "TimeoutStopSec", "NoNewPrivileges", "StateDirectory"):
        assert ours[0][name] == service[name]
    for name in ("OnCalendar", "Persistent", "AccuracySec", "WantedBy"):
        assert ours[1][name] == timer[name]
    words = ours[0]["ExecStart"][0].split()
    args = build_parser().parse_args(words[1:])
    assert (args.handler, args.once) == ("schedule:schedule", True)
    assert int(service["TimeoutStopSec"][0]) > OVERDUE_S[0]


@needs_systemd
def test_systemd_takes_the_template_units(tmp_path: Path) -> None:
    assert SYSTEMD is not None
    for suffix in ("service", "timer"):
        text = (INFRA / "systemd" / f"renderfarm@.{suffix}").read_text()
        (tmp_path / f"renderfarm@.{suffix}").write_text(text.replace("/opt/renderfarm/bin/renderfarm", shutil.which("true") or "/bin/true"))
    units = [str(tmp_path / f"renderfarm@mockups.{suffix}") for suffix in ("service", "timer")]
    shown = subprocess.run([SYSTEMD, "verify", "--man=no", *units], capture_output=True, text=True)
    ours = [line for line in shown.stderr.splitlines() if "renderfarm" in line]
    assert (shown.returncode, ours) == (0, []), shown.stderr


# --- the image, the cloud, the bucket ---


def dockerfile() -> list[tuple[str, str]]:
    """(instruction, arguments), continuation lines joined, comments left out."""
    text = re.sub(r"^#.*\n", "", (INFRA / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in text.splitlines() if line.strip()]


def test_the_image_is_pinned_and_runs_as_nobody_special() -> None:
    lines = dockerfile()
    assert {name for name, _ in lines} <= {"ARG", "FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "ENTRYPOINT", "CMD"}
    defaults = dict(text.split("=", 1) for name, text in lines if name == "ARG")
    for name, text in lines:
        if name == "FROM":
            image = re.sub(r"\$\{(\w+)\}", lambda match: defaults[match[1]], text.split()[0])
            assert re.fullmatch(r"[\w./-]+:\d[\w.-]+", image), f"{image} is not pinned"
    final = lines[max(at for at, (name, _) in enumerate(lines) if name == "FROM") :]
    assert [text for name, text in final if name == "USER"] == ["10001:10001"]
    assert json.loads(dict(final)["ENTRYPOINT"])[0].endswith("tini")
    words = json.loads(dict(final)["CMD"])
    assert words[0] == "renderfarm"
    runs = " ".join(text for name, text in lines if name == "RUN")
    assert "--constraint constraints.txt" in runs and "tini" in runs
    assert "'.[cluster]'" in runs, "without Ray's dashboard there is no job submission, and KubeRay waits for ever"
    assert not re.search(r"curl|git clone|huggingface|https?://", runs), "nothing is fetched but packages"


def test_what_a_cluster_needs_beside_is_pinned_to_the_same_ray() -> None:
    project, pins = (ROOT / "pyproject.toml").read_text(), (INFRA / "constraints-cluster.txt").read_text()
    assert 'cluster = ["ray[default]>=2.60,<2.61"]' in project and '"ray>=2.60,<2.61"' in project
    lines = [line for line in pins.splitlines() if not line.startswith("#")]
    assert {"aiohttp", "aiohttp-cors", "opencensus"} <= {line.partition("==")[0] for line in lines}
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)


def test_the_image_takes_from_the_repository_what_is_there_and_no_more() -> None:
    sources = [source for name, text in dockerfile() if name == "COPY" and "--from" not in text for source in text.split()[:-1]]
    allowed = {line[1:] for line in (INFRA / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {source.removeprefix("./") for source in sources} == allowed
    assert all((ROOT / source).exists() for source in sources)
    assert "*" in (INFRA / "Dockerfile.dockerignore").read_text().splitlines()


def test_ray_takes_the_cloud_cluster() -> None:
    found = importlib.util.find_spec("ray")
    assert found is not None and found.origin is not None
    schema = json.loads((Path(found.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    cluster = documents("cloud/cluster.yaml")[0]
    jsonschema.validate(cluster, schema)
    types = cluster["available_node_types"]
    assert cluster["head_node_type"] in types and types[cluster["head_node_type"]]["resources"] == {"CPU": 0}
    spot = [name for name, node in types.items() if node["node_config"].get("InstanceMarketOptions") == {"MarketType": "spot"}]
    assert [types[name]["resources"].get("GPU") for name in spot] == [1]
    assert any("GPU" not in node["resources"] and node["resources"]["CPU"] for node in types.values())
    assert cluster["docker"]["image"] == f"renderfarm:{__version__}"
    assert "--gpus all" not in json.dumps(cluster["docker"]), "docker refuses it on a host without a GPU"
    for node in types.values():
        assert ("GPU" in node["resources"]) == ("--gpus all" in node.get("docker", {}).get("worker_run_options", []))


def test_the_bucket_policy_allows_what_the_storage_calls_and_keeps_the_log() -> None:
    policy = json.loads((INFRA / "storage" / "bucket-policy.json").read_text())
    statements = {statement["Sid"]: statement for statement in policy["Statement"]}
    assert len(statements) == len(policy["Statement"])
    for statement in statements.values():
        assert set(statement) <= {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
        assert statement["Effect"] in ("Allow", "Deny")

    def actions(effect: str, role: str) -> set[str]:
        found = [s for s in statements.values() if s["Effect"] == effect and role in json.dumps(s["Principal"])]
        return {action for s in found for action in ([s["Action"]] if isinstance(s["Action"], str) else s["Action"])}

    called = set(re.findall(r"client\.(\w+)\(", (ROOT / "pipeline" / "renderfarm" / "storage" / "s3.py").read_text()))
    needs = {
        "put_object": "s3:PutObject",
        "get_object": "s3:GetObject",
        "head_object": "s3:GetObject",
        "list_objects_v2": "s3:ListBucket",
        "delete_object": "s3:DeleteObject",
    }
    assert called <= set(needs), "the storage calls something new: the policy must know it"
    assert {needs[call] for call in called} <= actions("Allow", "renderfarm-driver")
    assert actions("Allow", "renderfarm-auditor") == {"s3:GetObject", "s3:ListBucket"}
    (removes,) = (s for s in statements.values() if s["Action"] == "s3:DeleteObject" and "renderfarm-driver" in s["Principal"]["AWS"])
    assert [name.partition("/outputs/*/")[2] for name in removes["Resource"]] == ["provenance/probe-*", LEASE, f"{INBOX}*", f"{IMAGES}*"]
    kept = statements["TheLogIsNeverDeleted"]
    assert kept["Principal"] == "*" and "s3:DeleteObject" in kept["Action"] and kept["Resource"].endswith("/provenance/parts/*")
