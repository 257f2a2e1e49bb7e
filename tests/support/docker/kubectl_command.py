"""The stand-in for ``kubectl``, with the calls of Tutor and ``usher connect``.

The cluster is a folder with the applied configuration, and each job's output and exit code. As in a
real cluster, a pod uses the applied configuration and not the files in Tutor's root, and a job's
output is only in its logs. The API server in ``kubernetes.py`` reports how jobs ended.
"""

import hashlib
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
#: The name of the LMS's ConfigMap. Its folder is a link to the folder of the version applied last.
LMS_CONFIG_MAP = "openedx-config"


def main(arguments: list[str]) -> int:
    engine = ContainerEngine.from_environment(os.environ)
    engine.record_call(["kubectl", *arguments])
    try:
        return run_call(engine, arguments)
    except Refused as refusal:
        print(f"stand-in kubectl: no answer for: {refusal}", file=sys.stderr)
        return FAILED


def run_call(engine: ContainerEngine, arguments: list[str]) -> int:
    match arguments:
        case ["get", "namespaces", _] | ["wait", *_]:
            return 0
        case ["--namespace", _, "rollout", "status", "deployment/lms" | "deployment/lms-worker", _]:
            return 0
        case ["--namespace", _, "get", "configmaps", *names]:
            return 0 if all(path_of_config_map(engine, name).exists() for name in names) else FAILED
        case ["kustomize", folder] | ["--namespace", _, "kustomize", folder]:
            print(yaml.safe_dump_all(manifests(Path(folder))))
            return 0
        case ["apply", "--kustomize", folder, "--selector", selector]:
            if "notin (job" in selector:
                apply_config_maps(engine, Path(folder))
                return 0
            job_name = selector.removeprefix("app.kubernetes.io/name=")
            for job in manifests(Path(folder)):
                if job["kind"] == "Job" and job["metadata"]["name"] == job_name:
                    run_job(engine, job)
            return 0
        case ["apply", "-f", file]:
            run_job(engine, yaml.safe_load(Path(file).read_text()))
            return 0
        case ["--namespace", _, "logs", name] if name.startswith("job/"):
            print(log_path(engine, name.removeprefix("job/")).read_text())
            return 0
        case ["--namespace", _, "exec", "-i", "deploy/lms", "--", *argv]:
            return run_in_lms(engine, argv, path_of_config_map(engine, LMS_CONFIG_MAP))
    raise Refused(" ".join(arguments))


def manifests(folder: Path) -> Iterator[dict[str, Any]]:
    """The ConfigMaps that kustomization.yml generates, and the resources that it names."""
    names = {plain_name: name for plain_name, name, _ in config_maps(folder)}
    for name in names.values():
        yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    for resource in kustomization(folder)["resources"]:
        for manifest in yaml.safe_load_all((folder / resource).read_text()):
            if manifest:
                use_generated_names(manifest, names)
                yield manifest


def use_generated_names(manifest: dict[str, Any], names: dict[str, str]) -> None:
    """Replaces the names of ConfigMaps in a pod's volumes. names: name → name with a hash."""
    pod = manifest.get("spec", {}).get("template", {}).get("spec", {})
    for volume in pod.get("volumes", []):
        if source := volume.get("configMap"):
            source["name"] = names.get(source["name"], source["name"])


def kustomization(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / "kustomization.yml").read_text()))


def config_maps(folder: Path) -> Iterator[tuple[str, str, list[Path]]]:
    """Each generated ConfigMap: name, name with a hash of its content, and files."""
    for generator in kustomization(folder)["configMapGenerator"]:
        files = [folder / file for file in generator["files"]]
        content = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        yield generator["name"], f"{generator['name']}-{content[:10]}", files


def apply_config_maps(engine: ContainerEngine, folder: Path) -> None:
    """Copies the files of each ConfigMap to the cluster, and links its name without hash to the
    copy."""
    for plain_name, name, files in config_maps(folder):
        target = path_of_config_map(engine, name)
        target.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copyfile(file, target / file.name)
        path_of_config_map(engine, plain_name).unlink(missing_ok=True)
        path_of_config_map(engine, plain_name).symlink_to(target)


def path_of_config_map(engine: ContainerEngine, config_map: str) -> Path:
    """The folder of an applied ConfigMap."""
    return engine.home / "cluster" / config_map


def run_job(engine: ContainerEngine, job: dict[str, Any]) -> None:
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    argv = [*container.get("command", []), *container["args"]]
    volume = next(v["name"] for v in container["volumeMounts"] if v["mountPath"] == CONFIG)
    source = next(v["configMap"]["name"] for v in pod["volumes"] if v["name"] == volume)
    if not path_of_config_map(engine, source).exists():
        raise Refused(f"{source} was not applied: the pod would wait for ever")
    name = job["metadata"]["name"]
    with log_path(engine, name).open("w") as log:
        code = run_in_lms(engine, argv, path_of_config_map(engine, source), log)
    (engine.home / JOBS).write_text(json.dumps({**exit_codes(engine), name: code}))


def log_path(engine: ContainerEngine, job: str) -> Path:
    folder = engine.home / "logs"
    folder.mkdir(exist_ok=True)
    return folder / job


def exit_codes(engine: ContainerEngine) -> dict[str, int]:
    """Name → exit code, of the jobs that have run."""
    file = engine.home / JOBS
    return dict(json.loads(file.read_text())) if file.exists() else {}
