"""deploy/README.md is what an operator goes by: its alerts, commands and links have to be there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess

import pytest
import yaml

from orfeas.engines.hunyuan3d.locate import RELEASE
from orfeas.settings import Settings
from tests.deploy.caddy import ROOT

CADDYFILE = (ROOT / "deploy" / "Caddyfile").read_text(encoding="utf-8")
PAGE = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")


def test_every_alert_has_its_remedy():
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    assert set(re.findall(r"^\| (Orfeas\w+) \|", PAGE, flags=re.MULTILINE)) == alerts


def test_an_empty_server_takes_ten_commands():
    block = re.search(r"^## From an empty server.*?^```sh\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL).group(1)
    assert len(block.strip().splitlines()) == 10
    services = yaml.safe_load((ROOT / "docker-compose.production.yml").read_text(encoding="utf-8"))["services"]
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        if "compose" in words:
            named = words[words.index("docker-compose.production.yml") + 2 :]
            assert all(word in services for word in named if not word.startswith("-")), line
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    for name in re.findall(r"(ORFEAS_[A-Z_]+)=", PAGE):
        assert f"# {name}=" in example or f"{{${name}:" in CADDYFILE, name


@pytest.mark.parametrize("brought", [True, False])
def test_the_first_version_is_built_whether_the_clone_brought_its_tag_or_not(tmp_path, brought):
    line = next(line for line in PAGE.splitlines() if "build app" in line)
    root, built = tmp_path / "checkout", tmp_path / "built"
    root.mkdir()
    (tmp_path / "docker").write_text(f"#!/bin/sh\ngit describe --tags > {built}\n")
    (tmp_path / "docker").chmod(0o755)
    commit = "git -c user.name=A -c user.email=a@example.org commit --quiet --allow-empty --message"
    tag = "git tag v1.0.0" if brought else "true"
    script = f"git init --quiet && {commit} first && {tag} && {commit} second && {line}"
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-ec", script], cwd=root, env=environment, check=True, capture_output=True)
    assert built.read_text() == "v1.0.0\n"


def test_what_the_compose_file_sets_itself_is_said_where_it_has_no_effect():
    services = yaml.safe_load((ROOT / "docker-compose.production.yml").read_text(encoding="utf-8"))["services"]
    own = {name for name, value in services["app"]["environment"].items() if f"{name}:-" not in value}
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    sentence = re.search(r"production\.yml sets (.*?) itself", example, re.DOTALL).group(1)
    assert set(re.findall(r"ORFEAS_\w+", sentence)) == {name for name in own if name.startswith("ORFEAS_")} - {
        "ORFEAS_TAG"
    }


def test_links_and_scripts_are_here():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", PAGE):
        assert (ROOT / "deploy" / target).exists(), target
    for script in set(re.findall(r"deploy/(release|rollback|backup|restore)\b", PAGE)):
        assert os.access(ROOT / "deploy" / script, os.X_OK), script


def test_without_docker_caddy_is_told_where_the_app_is(tmp_path):
    """The page's commands, below another folder, write what Caddy reads of the folder that the page names."""
    block = next(block for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) if "tee" in block)
    named = re.search(r"`ORFEAS_UPSTREAMS=([^`]+)`", PAGE).group(1)
    script = block.replace("sudo ", "").replace(named, str(tmp_path / "upstreams"))
    subprocess.run(["sh", "-ec", script], check=True, capture_output=True)
    read = re.findall(r"\{\$ORFEAS_UPSTREAMS:[^}]+\}/(\w+)", CADDYFILE)
    assert set(read) == {"newest", "oldest"}
    assert "{$ORFEAS_CADDY_STORAGE:" in CADDYFILE
    port = Settings.model_fields["port"].default
    for name in read:
        assert (tmp_path / "upstreams" / name).read_text() == f"127.0.0.1:{port}\n"


def test_a_space_fetches_the_weights_that_the_app_looks_for():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"\n  - {RELEASE.repo} {RELEASE.filename} {RELEASE.revision}\n" in readme
