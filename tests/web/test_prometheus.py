"""Alert rules and dashboard, tried by Prometheus itself: on series made for it, and on scrapes of the real program."""

from __future__ import annotations

import contextlib
import json
import math
import re
import subprocess
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry, MetricsHandler

from orfeas.telemetry.gpu import GpuReadings
from tests.fake_nvml import Cards
from tests.prometheus import need
from tests.web.conftest import call, file_data, free_port, upload, wait_until, write_photo

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((DEPLOY / "grafana" / "orfeas.json").read_text())
QUERIES = [
    (panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel.get("targets", ())
]  # fmt: skip
_SELECTOR = re.compile(r"\b(up|orfeas_\w+|process_\w+)(\{[^}]*\})?")


def test_the_rules_are_set_off_by_what_they_are_for_and_by_nothing_else(tmp_path):
    tests = ROOT / "tests" / "deploy" / "alerts_test.yml"
    promtool = need("promtool")
    done = subprocess.run([promtool, "test", "rules", str(tests)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr + done.stdout
    tried = set(re.findall(r"exp_samples.*?(?=\n  - name|\Z)", tests.read_text(), flags=re.DOTALL))
    named = set(re.findall(r'alertname="(\w+)"', "".join(tried)))
    assert named == {rule["alert"] for rule in RULES}, "each rule is set off in some test"


def test_the_configuration_is_valid():
    config = DEPLOY / "prometheus" / "prometheus.yml"
    done = subprocess.run(
        [need("promtool"), "check", "config", str(config)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr + done.stdout


def test_every_alert_says_what_to_do():
    for rule in RULES:
        assert set(rule["annotations"]) == {"summary", "remedy"}, rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_the_dashboard_asks_of_the_source_that_is_provisioned():
    source = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text())
    assert source["datasources"][0]["type"] == "prometheus"
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == panel["datasource"]["uid"] == "${datasource}"
    assert len(QUERIES) > 30


@pytest.fixture(scope="module")
def prometheus(observed, tmp_path_factory):
    """Prometheus with the configuration of deploy/, scraping the real program and two cards that are not here."""
    program, folder = need("prometheus"), tmp_path_factory.mktemp("prometheus")
    registry = CollectorRegistry()
    registry.register(GpuReadings(Cards()))
    cards = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Quiet,), {"registry": registry}))
    serving = threading.Thread(target=cards.serve_forever)
    serving.start()
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "2s", "evaluation_interval": "2s"}
    config["rule_files"] = [str(DEPLOY / "prometheus" / "alerts.yml")]
    (job,) = config["scrape_configs"]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{observed.port}", f"127.0.0.1:{cards.server_port}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={address}", "--log.level=error",
    ]  # fmt: skip
    with contextlib.ExitStack() as end, (folder / "log.txt").open("wb") as log:
        end.callback(serving.join)
        end.callback(cards.server_close)
        end.callback(cards.shutdown)
        process = subprocess.Popen(command, stderr=log, stdout=log)
        end.callback(process.wait)
        end.callback(process.kill)
        http = end.enter_context(httpx.Client(base_url=f"http://{address}", timeout=30))

        def scrapes() -> float:
            assert process.poll() is None, (folder / "log.txt").read_text()
            with contextlib.suppress(httpx.TransportError):
                if http.get("/-/ready").status_code != 200:
                    return 0
                found = ask(http, "min(count_over_time(orfeas_gpu_up[1h]))")
                return found[0] if found else 0
            return 0

        wait_until(lambda: scrapes() >= 1, "the first scrape", 60)
        work(observed, folder)
        before = scrapes()
        wait_until(lambda: scrapes() >= before + 2, "two scrapes after the work")

        def moment() -> float:
            """One at which the last scrape of each had come off: a busy machine is late with some."""
            now = time.time()
            return now if min(ask(http, "up", now)) == 1 else 0

        yield http, wait_until(moment, "both answer")


class Quiet(MetricsHandler):
    def log_message(self, *_):
        pass


def work(observed, folder: Path) -> None:
    """One job of each outcome that a rate may be asked of, and a refusal, between two scrapes."""
    http = observed.http
    photo, blank = (
        file_data(upload(http, write_photo(folder / f"{name}.jpg", colour)))
        for name, colour in (("egg", (60, 70, 200)), ("blank", (228, 226, 224)))
    )
    assert call(http, "generate", {"picture": photo, "quality": "draft"})[0] == "complete"
    assert call(http, "generate", {"picture": blank, "quality": "draft"})[0] == "error"
    assert call(http, "generate", {"picture": photo, "quality": "excellent"})[0] == "error"
    assert call(http, "cutout", {"picture": photo})[0] == "complete"


def ask(http: httpx.Client, query: str, moment: float | None = None) -> list[float]:
    """The values of the series that answer the query, at that time or now."""
    answer = http.get("/api/v1/query", params={"query": query, "time": moment or time.time()}).json()
    assert answer["status"] == "success", (query, answer.get("error"))
    return [float(series["value"][1]) for series in answer["data"]["result"]]


def filled_in(query: str) -> str:
    """A query of the dashboard, as Grafana sends it."""
    filled = query.replace("$__rate_interval", "5m").replace("$instance", ".*")
    assert "$" not in filled, filled
    return filled


@pytest.mark.parametrize(
    ("title", "query"), QUERIES, ids=[f"{number}-{title}" for number, (title, _) in enumerate(QUERIES)]
)
def test_every_query_of_the_dashboard_has_an_answer(prometheus, title, query):
    http, moment = prometheus
    values = ask(http, filled_in(query), moment)
    assert any(math.isfinite(value) for value in values), f"{title}: {query} gives {values}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_series_that_a_rule_asks_for_is_there(prometheus, rule):
    http, moment = prometheus
    selectors = [match[0] for match in _SELECTOR.finditer(rule["expr"])]
    assert selectors
    for selector in selectors:
        assert ask(http, f"count({selector})", moment), selector


def test_no_rule_is_set_off_by_a_server_that_is_well(prometheus):
    http, _ = prometheus
    rules = http.get("/api/v1/rules").json()["data"]["groups"][0]["rules"]
    assert {rule["name"]: rule["health"] for rule in rules} == {rule["alert"]: "ok" for rule in RULES}

    def set_off() -> set[str]:  # also those that wait for their time
        return {alert["labels"]["alertname"] for alert in http.get("/api/v1/alerts").json()["data"]["alerts"]}

    # the disk of the test has, by its settings, little more than the least that must be free; and where a busy machine
    # was late with a scrape, the next one shows a server that is well
    wait_until(lambda: set_off() <= {"OrfeasDiskNearlyFull"}, "no rule is set off")
