"""Prometheus accepts the alert rules and the dashboard, and the metrics in them exist."""

import json
import re
import shutil
import subprocess
from itertools import chain
from pathlib import Path

import pytest
import yaml

from usher.contract import metrics

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
EXPORTED = {name: metric for metric in metrics.ALL for name in metric.series}


def rules() -> dict[str, str]:
    """Alert → expression."""
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def panels() -> dict[str, list[str]]:
    """Title of a panel → its expressions."""
    board = json.loads((FOLDER / "dashboard.json").read_text())
    return {
        panel["title"]: [target["expr"] for target in panel["targets"]]
        for panel in board["panels"]
        if panel["type"] != "row"
    }


EXPRESSIONS = [*rules().values(), *(each for found in panels().values() for each in found)]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_rules_use_exported_metrics(expression: str) -> None:
    names = set(re.findall(r"\busher_\w+", expression))
    assert names
    assert names <= set(EXPORTED), f"not exported: {names - set(EXPORTED)}"
    labels = {"le", "job"}.union(*(EXPORTED[name].labels for name in names))
    grouped = re.findall(r"\bby \(([^)]*)\)", expression)
    selected = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression)
    assert {name.strip() for names_text in grouped for name in names_text.split(",")} <= labels
    assert set(selected) <= labels


def test_every_alert_says_what_to_do() -> None:
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("critical", "warning")
            assert len(rule["annotations"]["summary"]) > 10
            assert len(rule["annotations"]["description"]) > 20


def test_metrics_that_no_alert_or_panel_uses_are_known() -> None:
    """Metrics without alert or panel are only for further analysis."""
    used = set(re.findall(r"\busher_\w+", "\n".join(EXPRESSIONS)))
    unused = {m.name for m in metrics.ALL if not used & set(m.series)}
    assert unused == {"usher_passes_total", "usher_changes_asked_timestamp_seconds"}


def test_panels_do_not_overlap() -> None:
    board = json.loads((FOLDER / "dashboard.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)


if shutil.which("promtool"):  # of Debian's package prometheus

    def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=300)

    def test_prometheus_takes_the_rules_and_they_fire_when_they_should() -> None:
        for command, file in (("check", "alerts.yml"), ("test", "alerts_test.yml")):
            result = promtool(command, "rules", str(FOLDER / file))
            assert result.returncode == 0, result.stdout + result.stderr

    def test_prometheus_takes_the_dashboards_expressions(tmp_path: Path) -> None:
        rules_to_check = [
            {"record": f"usher:{number}", "expr": expression.replace("$__rate_interval", "5m")}
            for number, expression in enumerate(chain.from_iterable(panels().values()))
        ]
        file = tmp_path / "rules.yml"
        file.write_text(
            yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules_to_check}]})
        )
        result = promtool("check", "rules", str(file))
        assert result.returncode == 0, result.stdout + result.stderr

    def test_prometheus_can_read_what_is_exported() -> None:
        """``promtool check metrics`` accepts the names and help texts."""
        text = "".join(
            f"# HELP {m.name} {m.help}\n# TYPE {m.name} {m.type}\n"
            + "".join(f"{name}{_one(m, name)} 0\n" for name in m.series)
            for m in metrics.ALL
        )
        result = subprocess.run(
            ["promtool", "check", "metrics"],
            input=text,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert result.returncode == 0, result.stdout + result.stderr

    def _one(metric: metrics.Metric, series: str) -> str:
        labels = dict.fromkeys(metric.labels, "x")
        if series.endswith("_bucket"):
            labels["le"] = "+Inf"
        return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
