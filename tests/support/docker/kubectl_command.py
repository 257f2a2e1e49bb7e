"""``kubectl`` as Tutor and ``usher connect`` call it: apply, kustomize, logs, exec, wait, rollout.

The cluster is a folder: what it was given last, a job's output and how it ended. As in a real one,
a pod sees the configuration that was applied, not what lies in Tutor's root; and nobody sees what
a job prints but by its logs. How jobs ended is told to the API server of ``kubernetes.py``.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support.docker.containers import CONFIG, run_in_lms
from tests.support.docker.engine import ContainerEngine, Refused

FAILED = 1
JOBS = "jobs.json"
#: Of the LMS's pods.
LMS_CONFIG_MAP = "openedx-config"


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
        case ["--namespace", _, "rollout", "status", "deployment/lms" | "deployment/lms-worker", _]:
            return 0
        case ["kustomize", folder]:
            # Tutor's root is needed again when one of these jobs is applied from a file.
            (engine.home / "kustomized").write_text(folder)
            print(yaml.safe_dump_all(manifests(Path(folder))))
            return 0
        case ["apply", "--kustomize", folder, "--selector", selector]:
            if "notin (job" in selector:
                give_everything(engine, Path(folder))
                return 0
            wanted = selector.removeprefix("app.kubernetes.io/name=")
            for job in manifests(Path(folder)):
                if job["kind"] == "Job" and job["metadata"]["name"] == wanted:
                    run_job(engine, job, Path(folder))
            return 0
        case ["apply", "-f", file]:
            folder = Path((engine.home / "kustomized").read_text())
            run_job(engine, yaml.safe_load(Path(file).read_text()), folder)
            return 0
        case ["--namespace", _, "logs", name] if name.startswith("job/"):
            print(log_of(engine, name.removeprefix("job/")).read_text())
            return 0
        case ["--namespace", _, "exec", "-i", "deploy/lms", "--", *argv]:
            return run_in_lms(engine, argv, given(engine, LMS_CONFIG_MAP))
    raise Refused(" ".join(arguments))


def manifests(folder: Path) -> Iterator[dict[str, Any]]:
    """The resources that kustomization.yml names and that are there."""
    for resource in kustomization(folder)["resources"]:
        for manifest in yaml.safe_load_all((folder / resource).read_text()):
            if manifest:
                yield manifest


def kustomization(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / "kustomization.yml").read_text()))


def give_everything(engine: ContainerEngine, folder: Path) -> None:
    for generator in kustomization(folder)["configMapGenerator"]:
        target = given(engine, generator["name"])
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for file in generator["files"]:
            shutil.copyfile(folder / file, target / Path(file).name)


def given(engine: ContainerEngine, config_map: str) -> Path:
    """The files of a ConfigMap that the cluster has."""
    return engine.home / "cluster" / config_map


def run_job(engine: ContainerEngine, job: dict[str, Any], folder: Path) -> None:
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    argv = [*container.get("command", []), *container["args"]]
    volume = next(v["name"] for v in container["volumeMounts"] if v["mountPath"] == CONFIG)
    source = next(v["configMap"]["name"] for v in pod["volumes"] if v["name"] == volume)
    refuse_unapplied(engine, source, folder)
    name = job["metadata"]["name"]
    with log_of(engine, name).open("w") as log:
        code = run_in_lms(engine, argv, given(engine, source), log)
    (engine.home / JOBS).write_text(json.dumps({**finished(engine), name: code}))


def refuse_unapplied(engine: ContainerEngine, config_map: str, folder: Path) -> None:
    """A ConfigMap's real name has a hash of its content: a pod waits for the very one."""
    generators = {each["name"]: each for each in kustomization(folder)["configMapGenerator"]}
    for file in generators[config_map]["files"]:
        there = given(engine, config_map) / Path(file).name
        if not there.exists() or there.read_bytes() != (folder / file).read_bytes():
            raise Refused(f"{config_map} was not applied with this {file}: pods wait for ever")


def log_of(engine: ContainerEngine, job: str) -> Path:
    folder = engine.home / "logs"
    folder.mkdir(exist_ok=True)
    return folder / job


def finished(engine: ContainerEngine) -> dict[str, int]:
    """Exit codes of the jobs that have run, by name."""
    file = engine.home / JOBS
    return dict(json.loads(file.read_text())) if file.exists() else {}
