"""Prometheus accepts the alert rules and the dashboard, and the metrics in them exist."""

import itertools
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
#: Width of Grafana's grid of panels.
GRID_WIDTH = 24
#: Name of a series → its metric. A histogram has several series.
METRIC_OF_SERIES = {name: metric for metric in metrics.ALL for name in metric.series}


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


EXPRESSIONS = [*rules().values(), *chain.from_iterable(panels().values())]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_alerts_and_panels_use_exported_metrics_and_labels(expression: str) -> None:
    names = set(re.findall(r"\busher_\w+", expression))
    assert names, "no metric of Usher in the expression"
    assert names <= set(METRIC_OF_SERIES), f"not exported: {names - set(METRIC_OF_SERIES)}"
    # Prometheus itself adds these two labels: ``le`` to histograms, ``job`` to all series.
    labels = {"le", "job"}
    for name in names:
        labels.update(METRIC_OF_SERIES[name].labels)
    for grouping_labels in re.findall(r"\bby \(([^)]*)\)", expression):
        for label in grouping_labels.split(","):
            assert label.strip() in labels
    for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression):
        assert label in labels


def test_every_alert_has_a_severity_and_sentences_for_people() -> None:
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("critical", "warning")
            # Whole sentences, not only words.
            assert len(rule["annotations"]["summary"]) > 10
            assert len(rule["annotations"]["description"]) > 20


def test_all_but_two_metrics_are_used_by_an_alert_or_panel() -> None:
    """The two unused metrics are for further analysis only."""
    used = set(re.findall(r"\busher_\w+", "\n".join(EXPRESSIONS)))
    unused = {metric.name for metric in metrics.ALL if not used & set(metric.series)}
    assert unused == {"usher_passes_total", "usher_changes_asked_timestamp_seconds"}


def test_panels_do_not_overlap() -> None:
    board = json.loads((FOLDER / "dashboard.json").read_text())
    occupied: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        position = panel["gridPos"]
        columns = range(position["x"], position["x"] + position["w"])
        rows = range(position["y"], position["y"] + position["h"])
        cells = set(itertools.product(columns, rows))
        assert columns.stop <= GRID_WIDTH
        assert not cells & occupied, panel["title"]
        occupied |= cells
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)


if shutil.which("promtool"):  # of Debian's package prometheus

    def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=300)

    def test_promtool_accepts_the_alert_rules_and_their_tests_pass() -> None:
        for command, file in (("check", "alerts.yml"), ("test", "alerts_test.yml")):
            result = promtool(command, "rules", str(FOLDER / file))
            assert result.returncode == 0, result.stdout + result.stderr

    def test_promtool_accepts_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
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

    def test_promtool_accepts_the_names_and_help_texts_of_the_metrics() -> None:
        text = "".join(
            f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {metric.type}\n"
            + "".join(f"{name}{_example_labels(metric, name)} 0\n" for name in metric.series)
            for metric in metrics.ALL
        )
        result = subprocess.run(
            ["promtool", "check", "metrics"],
            input=text,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert result.returncode == 0, result.stdout + result.stderr

    def _example_labels(metric: metrics.Metric, series: str) -> str:
        labels = dict.fromkeys(metric.labels, "x")
        if series.endswith("_bucket"):
            labels["le"] = "+Inf"
        return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
