"""deploy/README.md is what an operator goes by: its alerts, commands and links have to be there."""

from __future__ import annotations

import os
import re
import shlex

import yaml

from orfeas.engines.hunyuan3d.download import RELEASE
from tests.deploy.caddy import ROOT

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
        assert f"# {name}=" in example, name


def test_links_and_scripts_are_here():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", PAGE):
        assert (ROOT / "deploy" / target).exists(), target
    for script in set(re.findall(r"deploy/(release|rollback|backup|restore)\b", PAGE)):
        assert os.access(ROOT / "deploy" / script, os.X_OK), script


def test_a_space_fetches_the_weights_that_the_app_looks_for():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"\n  - {RELEASE.repo} {RELEASE.filename} {RELEASE.revision}\n" in readme
