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
from typing import Any, NamedTuple

import yaml

from tests.support.docker.containers import CONFIG, run_in_lms
from tests.support.docker.engine import ContainerEngine, Refused

FAILED = 1
#: File in the engine's folder: name → exit code, of the jobs that have run.
JOBS = "jobs.json"
#: Part of the selector with which ``tutor k8s start`` applies the whole configuration.
APPLIES_ALL_BUT_JOBS = "notin (job"
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
    """Carries out ``kubectl ARGUMENTS``. Returns the exit code. Raises Refused for an unknown
    call."""
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
            if APPLIES_ALL_BUT_JOBS in selector:
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
    names = {generated.name: generated.versioned_name for generated in config_maps(folder)}
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


class GeneratedConfigMap(NamedTuple):
    """A ConfigMap of kustomization.yml. versioned_name: the name with a hash of the content, so
    that other content has another name."""

    name: str
    versioned_name: str
    files: list[Path]


def config_maps(folder: Path) -> Iterator[GeneratedConfigMap]:
    """The ConfigMaps that the folder's kustomization.yml generates."""
    for generator in kustomization(folder)["configMapGenerator"]:
        name, files = generator["name"], [folder / file for file in generator["files"]]
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        yield GeneratedConfigMap(name, f"{name}-{digest[:10]}", files)


def apply_config_maps(engine: ContainerEngine, folder: Path) -> None:
    """Copies the files of each ConfigMap to the cluster, and links its name without hash to the
    copy."""
    for config_map in config_maps(folder):
        target = path_of_config_map(engine, config_map.versioned_name)
        target.mkdir(parents=True, exist_ok=True)
        for file in config_map.files:
            shutil.copyfile(file, target / file.name)
        link = path_of_config_map(engine, config_map.name)
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def path_of_config_map(engine: ContainerEngine, name: str) -> Path:
    """The folder of an applied ConfigMap. name: with the hash, or without it for the version
    applied last."""
    return engine.home / "cluster" / name


def run_job(engine: ContainerEngine, job: dict[str, Any]) -> None:
    """Runs the job in the LMS folder, with the applied ConfigMap that its pod mounts. Writes its
    output to ``log_path`` and its exit code to ``JOBS``."""
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    argv = [*container.get("command", []), *container["args"]]
    volume_name = next(
        mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == CONFIG
    )
    config_map = next(
        volume["configMap"]["name"] for volume in pod["volumes"] if volume["name"] == volume_name
    )
    if not path_of_config_map(engine, config_map).exists():
        raise Refused(f"{config_map} was not applied: the pod would wait for ever")
    name = job["metadata"]["name"]
    with log_path(engine, name).open("w") as log:
        code = run_in_lms(engine, argv, path_of_config_map(engine, config_map), log)
    (engine.home / JOBS).write_text(json.dumps({**exit_codes(engine), name: code}))


def log_path(engine: ContainerEngine, job: str) -> Path:
    """The file for the output of this job, in an existing folder."""
    folder = engine.home / "logs"
    folder.mkdir(exist_ok=True)
    return folder / job


def exit_codes(engine: ContainerEngine) -> dict[str, int]:
    """Name → exit code, of the jobs that have run."""
    file = engine.home / JOBS
    return dict(json.loads(file.read_text())) if file.exists() else {}
