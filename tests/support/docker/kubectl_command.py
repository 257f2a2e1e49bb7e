"""``kubectl`` for Tutor's k8s mode: kustomize, apply, wait, get namespaces.

A job is run when it is applied, with the files of its ConfigMap mounted as in its pod, and its end
is told to the API server of ``kubernetes.py``.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support.docker.containers import CONFIG, run_in_lms
from tests.support.docker.engine import ContainerEngine, Refused

FAILED = 1
JOBS = "jobs.json"


def main(arguments: list[str]) -> int:
    engine = ContainerEngine.of_environment(os.environ)
    engine.write_down(["kubectl", *arguments])
    try:
        return answer(engine, arguments)
    except Refused as refusal:
        print(f"stand-in kubectl: no answer for: {refusal}", file=sys.stderr)
        return FAILED


def answer(engine: ContainerEngine, arguments: list[str]) -> int:
    match arguments:
        case ["get", "namespaces", _] | ["wait", *_]:
            return 0
        case ["kustomize", folder]:
            # Tutor's root is needed again when one of these jobs is applied from a file.
            (engine.home / "kustomized").write_text(folder)
            print(yaml.safe_dump_all(manifests(Path(folder))))
            return 0
        case ["apply", "--kustomize", folder, *selector]:
            wanted = selector[-1].removeprefix("app.kubernetes.io/name=")
            for job in manifests(Path(folder)):
                if job["kind"] == "Job" and job["metadata"]["name"] == wanted:
                    run_job(engine, job, Path(folder))
            return 0
        case ["apply", "-f", file]:
            folder = Path((engine.home / "kustomized").read_text())
            run_job(engine, yaml.safe_load(Path(file).read_text()), folder)
            return 0
    raise Refused(" ".join(arguments))


def manifests(folder: Path) -> Iterator[dict[str, Any]]:
    """The resources that kustomization.yml names and that are there."""
    kustomization = yaml.safe_load((folder / "kustomization.yml").read_text())
    for resource in kustomization["resources"]:
        for manifest in yaml.safe_load_all((folder / resource).read_text()):
            if manifest:
                yield manifest


def run_job(engine: ContainerEngine, job: dict[str, Any], folder: Path) -> None:
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    argv = [*container.get("command", []), *container["args"]]
    volume = next(v["name"] for v in container["volumeMounts"] if v["mountPath"] == CONFIG)
    source = next(v["configMap"]["name"] for v in pod["volumes"] if v["name"] == volume)
    with tempfile.TemporaryDirectory(dir=engine.home) as config:
        for file in config_map(folder, source):
            target = Path(config) / file.name
            target.write_bytes(file.read_bytes())
        code = run_in_lms(engine, argv, Path(config))
    jobs = {**finished(engine), job["metadata"]["name"]: code}
    (engine.home / JOBS).write_text(json.dumps(jobs))


def config_map(folder: Path, name: str) -> list[Path]:
    """The files that the ConfigMap is generated from."""
    kustomization = yaml.safe_load((folder / "kustomization.yml").read_text())
    for generator in kustomization["configMapGenerator"]:
        if generator["name"] == name:
            return [folder / file for file in generator["files"]]
    raise Refused(f"there is no ConfigMap {name}")


def finished(engine: ContainerEngine) -> dict[str, int]:
    """Exit codes of the jobs that have run, by name."""
    file = engine.home / JOBS
    return dict(json.loads(file.read_text())) if file.exists() else {}
