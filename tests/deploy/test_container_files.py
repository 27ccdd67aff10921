"""Dockerfile and compose file, as far as they can be judged without a container engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from orfeas.settings import Settings
from tests import npm
from tests.deploy.caddy import ROOT

BIN = Path(sys.executable).parent
COMPOSE = ROOT / "docker-compose.production.yml"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PRODUCTION = {
    "ORFEAS_TAG": "v1.2.3",
    "ORFEAS_APP_HOST": "app.example.org",
    "ORFEAS_API_HOST": "api.example.org",
    "ORFEAS_TLS": "ops@example.org",
    "ORFEAS_RUNTIME": "nvidia",
    "GRAFANA_PASSWORD": "of grafana",
    "HF_TOKEN": "of the hub",
}


def resolve(folder: Path, **variables: str) -> subprocess.CompletedProcess:
    """The compose file with its variables filled in from a .env, by podman-compose."""
    shutil.copy(COMPOSE, folder)
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORFEAS_", "COMPOSE_"))}
    (folder / "podman").write_text("#!/bin/sh\necho 'podman version 5.0.0'\n")  # config asks for nothing but that
    (folder / "podman").chmod(0o755)
    profiles = ["--profile", "monitoring", "--profile", "models", "--profile", "data"]
    command = [sys.executable, "-m", "podman_compose", "--podman-path", "./podman", *profiles, "-f", COMPOSE.name]
    command += ["config"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def compose(tmp_path_factory) -> dict:
    done = resolve(tmp_path_factory.mktemp("compose"), **PRODUCTION)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


@pytest.fixture(scope="module")
def schema(tmp_path_factory) -> dict:
    """The Compose specification's, as dclint carries it."""
    folder = npm.install(tmp_path_factory.mktemp("schema"), "dclint@3.1.0")
    return json.loads((folder / "node_modules/dclint/schemas/compose.schema.json").read_text(encoding="utf-8"))


class Strict(yaml.SafeLoader):
    """PyYAML takes a key that is there twice; Docker Compose, Kubernetes and Prometheus refuse the file."""

    def construct_mapping(self, node, deep=False):
        names = [key.value for key, _ in node.value]
        twice = {name for name in names if names.count(name) > 1}
        assert not twice, f"{node.start_mark}: {twice} twice"
        return super().construct_mapping(node, deep)


Strict.add_constructor("tag:yaml.org,2002:map", Strict.construct_mapping)
YAML = [COMPOSE, *sorted((ROOT / "deploy").rglob("*.yml")), *sorted((ROOT / "deploy").rglob("*.yaml"))]


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_no_key_is_there_twice(path):
    text = path.read_text(encoding="utf-8")
    assert list(yaml.load_all(text, Strict))
    with pytest.raises(AssertionError, match="'again'} twice"):
        list(yaml.load_all("again: 1\nagain: 2\n", Strict))


def test_hadolint_finds_nothing_in_the_dockerfile(tmp_path):
    done = subprocess.run([BIN / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.replace("# hadolint ignore=DL3008\n", ""))
    assert (
        "DL3008" in subprocess.run([BIN / "hadolint", tmp_path / "Dockerfile"], capture_output=True, text=True).stdout
    )


def test_the_sketch_image_installs_all_but_the_lines_of_torch():
    pattern = re.search(r"grep -vE '([^']+)' requirements.txt", DOCKERFILE).group(1)
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    left_out = {line.split(">")[0].split("=")[0] for line in lines if re.search(pattern, line)}
    assert left_out == {"torch", "safetensors"}


@pytest.mark.parametrize("target", ["sketch", "full"])
def test_what_the_image_holds_can_be_read_whatever_the_umask_was(target, tmp_path):
    """What follows the copy in each target, done to files of a umask of 027; then the app's user runs again."""
    stage = re.search(rf"^FROM runtime AS {target}\n(.*?)(?=^FROM|\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL).group(1)
    as_root, rest = stage.split("COPY . /app\n")[1].split("RUN ")
    (command, *last) = rest.splitlines()
    folder = tmp_path / "app"
    (folder / "orfeas").mkdir(parents=True)
    (folder / "orfeas" / "web.py").touch()
    (folder / "orfeas" / "web.py").chmod(0o640)
    (folder / "orfeas").chmod(0o750)
    subprocess.run(command.replace("/app", str(folder)).split(), check=True)
    assert (folder / "orfeas" / "web.py").stat().st_mode & 0o777 == 0o644
    assert (folder / "orfeas").stat().st_mode & 0o777 == 0o755
    assert "USER 0:0\n" in as_root
    assert [line for line in last if line.startswith("USER")] == ["USER 1000:1000"]


def test_what_the_image_holds_is_what_the_app_needs(tmp_path):
    """What .dockerignore lets through, alone: the app imports and finds its assets; no secret is there."""
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = [rule[1:] for rule in rules if rule.startswith("!")]
    assert "*" in rules
    for name in allowed:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    assert not list(tmp_path.glob(".env*"))
    check = (
        "import app, orfeas.web.ui as ui, orfeas.cutout.net as net, orfeas.web.theme, sys;"
        "assert len(list(ui.EXAMPLES.glob('*.jpg'))) > 3; ui.page_head();"
        "assert ui.__file__.startswith(sys.argv[1]); assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", check, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_compose_file_is_one_by_the_specification(compose, schema):
    specification = jsonschema.Draft7Validator(schema)
    specification.validate(compose)
    raw = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    specification.validate(raw)
    raw["services"]["app"]["read_onyl"] = True
    with pytest.raises(jsonschema.ValidationError, match="read_onyl"):
        specification.validate(raw)


@pytest.mark.parametrize("missing", ["ORFEAS_TAG", "ORFEAS_APP_HOST", "ORFEAS_TLS"])
def test_a_variable_that_has_no_default_is_asked_for(tmp_path, missing):
    done = resolve(tmp_path, **{name: value for name, value in PRODUCTION.items() if name != missing})
    assert done.returncode != 0
    assert f"set {missing} in .env" in done.stdout + done.stderr


def test_the_app_is_closed_in(compose):
    app = compose["services"]["app"]
    assert app["image"] == "orfeas:v1.2.3"
    assert app["runtime"] == "nvidia"
    assert app["networks"] == ["inside"] or list(app["networks"]) == ["inside"]
    assert compose["networks"]["inside"]["internal"] is True
    assert "ports" not in app, "only Caddy is published"
    environment = app["environment"]
    assert environment["ORFEAS_PUBLIC_URL"] == "https://app.example.org"
    assert environment["ORFEAS_TRUSTED_PROXIES"] == compose["networks"]["inside"]["ipam"]["config"][0]["subnet"]
    assert environment["HF_HUB_OFFLINE"] == "1"
    for secret in ("GRAFANA_PASSWORD", "HF_TOKEN"):
        assert environment[secret] == "", "what .env has for others is blanked"
    stop, drain = app["stop_grace_period"], Settings.model_fields["drain_seconds"].default
    assert int(stop.removesuffix("s")) >= drain + 10


def test_a_stop_waits_as_long_as_env_says(tmp_path):
    done = resolve(tmp_path, **{**PRODUCTION, "ORFEAS_STOP_GRACE": "620s"})
    assert yaml.safe_load(done.stdout)["services"]["app"]["stop_grace_period"] == "620s"


def test_the_weights_are_fetched_to_where_the_app_looks_for_them(tmp_path):
    done = resolve(tmp_path, **PRODUCTION, ORFEAS_HUNYUAN3D_PATH="/models/hunyuan3d")
    models, app = (yaml.safe_load(done.stdout)["services"][name] for name in ("models", "app"))
    assert models["environment"]["ORFEAS_HUNYUAN3D_PATH"] == "/models/hunyuan3d"  # the app has it by its env_file
    assert models["runtime"] == app["runtime"] == "nvidia"


def test_an_archive_of_the_data_goes_into_no_log_and_needs_no_gpu(compose):
    data, app = (compose["services"][name] for name in ("data", "app"))
    assert data["logging"] == {"driver": "none"}
    assert data["network_mode"] == "none"
    assert "runtime" not in data
    assert data["image"] == app["image"]
    assert set(data["volumes"]) == {volume for volume in app["volumes"] if "data" in str(volume)}
    assert data["environment"]["ORFEAS_DATA_DIR"] == app["environment"]["ORFEAS_DATA_DIR"]
    for secret in ("GRAFANA_PASSWORD", "HF_TOKEN"):
        assert data["environment"][secret] == "", "what .env has for others is blanked"


def test_every_service_is_hardened(compose):
    published = {}
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        published |= {str(port): name for port in service.get("ports", [])}
    assert set(published.values()) == {"caddy", "grafana"}
    assert all(port.startswith("127.0.0.1:") for port, name in published.items() if name == "grafana")
    assert compose["services"]["caddy"]["environment"]["ORFEAS_HOSTS"] == "app.example.org, api.example.org"


def test_one_host_name_is_enough(tmp_path):
    done = resolve(tmp_path, **{**PRODUCTION, "ORFEAS_API_HOST": ""})
    assert yaml.safe_load(done.stdout)["services"]["caddy"]["environment"]["ORFEAS_HOSTS"] == "app.example.org"


def test_the_files_that_are_mounted_are_here(compose):
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            source = str(volume).split(":")[0]
            if source.startswith("./") and source != "./deploy/certificates":
                assert (ROOT / source).exists(), f"{name}: {source}"
