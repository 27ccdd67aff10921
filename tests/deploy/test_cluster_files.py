"""The manifest of the cluster: held against Kubernetes' schemas, and its commands against the programs they start."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import yaml

from orfeas.engines.cluster.__main__ import build_parser, read_plan
from orfeas.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/cluster"
DOCUMENTS = list(yaml.safe_load_all((FOLDER / "raycluster.yaml").read_text(encoding="utf-8")))
CLUSTER = DOCUMENTS[0]["spec"]
GROUPS = {group.get("groupName", "head"): group for group in [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]}


def container(group: str, name: str) -> dict:
    return next(c for c in GROUPS[group]["template"]["spec"]["containers"] if c["name"] == name)


def variables(of: dict) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in of.get("env", ())}


def deployment():
    """The plan that the app's container deploys."""
    (script,) = container("app", "app")["args"]
    words = shlex.split(script.split(";")[0])
    assert words[:5] == ["until", "python", "-m", "orfeas.engines.cluster", "deploy"]
    return read_plan(build_parser().parse_args(words[4:]), variables(container("app", "app")))


@pytest.mark.parametrize("what", [*GROUPS, "Service", "NetworkPolicy"])
def test_kubernetes_takes_it(what):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import kubernetes_validate
    if what in GROUPS:
        metadata = {"name": what, **GROUPS[what]["template"].get("metadata", {})}
        document = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": GROUPS[what]["template"]["spec"]}
    else:
        document = next(document for document in DOCUMENTS if document["kind"] == what)
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_ray_s_autoscaler_reads_the_machines_as_they_are_meant():
    """KubeRay's own schema is in no package for Python; these are the fields that the pinned Ray reads.

    In a process of its own: Ray reads its settings when it is imported, and the tests of the cluster have others.
    """
    program = (
        "import json, sys\n"
        "from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr\n"
        "print(json.dumps(_derive_autoscaling_config_from_ray_cr(json.load(sys.stdin))['available_node_types']))"
    )
    document = {**DOCUMENTS[0], "metadata": {**DOCUMENTS[0]["metadata"], "namespace": "default"}}
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, input=json.dumps(document), capture_output=True, text=True, check=True, timeout=120)
    kinds = json.loads(said.stdout.splitlines()[-1])
    read = {
        name: (kind["min_workers"], kind["max_workers"], kind["resources"]["CPU"], kind["resources"].get("GPU", 0))
        for name, kind in kinds.items()
    }
    assert read == {"headgroup": (0, 0, 0, 0), "gpu": (1, 4, 4, 1), "app": (1, 1, 0, 0)}


def test_all_machines_have_the_ray_that_is_pinned():
    pinned = next(line for line in (ROOT / "requirements-cluster.txt").read_text().splitlines() if "ray[" in line)
    assert pinned.split("#")[0].strip() == f"ray[serve]=={CLUSTER['rayVersion']}"
    assert len({c["image"] for group in GROUPS.values() for c in group["template"]["spec"]["containers"]}) == 1


def test_a_worker_fits_on_its_machine_and_all_of_them_have_one():
    plan, gpu = deployment(), container("gpu", "ray-worker")["resources"]["limits"]
    assert (plan.gpus, plan.cpus) == (float(gpu["nvidia.com/gpu"]), float(gpu["cpu"]))
    assert (plan.min_workers, plan.max_workers) == (GROUPS["gpu"]["minReplicas"], GROUPS["gpu"]["maxReplicas"])
    for group in ("head", "app"):
        assert GROUPS[group]["rayStartParams"]["num-cpus"] == "0", "no worker is to run there"
    assert plan.environment["ORFEAS_HUNYUAN3D_PATH"].startswith(
        container("gpu", "ray-worker")["volumeMounts"][0]["mountPath"]
    )


def test_what_is_stopped_has_time_to_end_its_jobs():
    grace = {name: group["template"]["spec"].get("terminationGracePeriodSeconds", 30) for name, group in GROUPS.items()}
    assert grace["gpu"] > deployment().drain_seconds
    program, seconds = container("app", "ray-worker")["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    assert grace["app"] > float(seconds) > Settings.model_fields["drain_seconds"].default, "Ray outlasts the app's jobs"


def test_the_app_asks_the_workers_with_settings_that_exist():
    given = {name: value for name, value in variables(container("app", "app")).items() if name.startswith("ORFEAS_")}
    assert given["ORFEAS_ENGINE"] == "ray"
    settings = Settings(
        _env_file=None, **{name.removeprefix("ORFEAS_").lower(): value for name, value in given.items()}
    )
    assert {f"ORFEAS_{name.upper()}" for name in settings.model_fields_set} == set(given)


def test_only_the_app_is_open_to_others():
    (policy,) = (document for document in DOCUMENTS if document["kind"] == "NetworkPolicy")
    open_to_all = [rule["ports"] for rule in policy["spec"]["ingress"] if "from" not in rule]
    assert open_to_all == [[{"protocol": "TCP", "port": 7860}]]
    web = next(document for document in DOCUMENTS if document["kind"] == "Service")["spec"]
    assert web["selector"] == GROUPS["app"]["template"]["metadata"]["labels"]


PAGE = (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("line", [line for line in PAGE if "-m orfeas.engines.cluster" in line and "python -m" in line])
def test_every_command_of_the_page_is_understood(line):
    words = shlex.split(line, comments=True)
    build_parser().parse_args(words[words.index("orfeas.engines.cluster") + 1 :])
