"""Reads compose files as docker compose does, with the features that the tests' projects use."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values

from tests.support.docker.engine import Refused

#: ``${NAME}`` or ``${NAME:-default}``.
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")


class _Loader(yaml.SafeLoader):
    """Refuses duplicate keys, as docker compose does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if duplicates := {key for key in keys if keys.count(key) > 1}:
            raise Refused(f"mapping key {duplicates.pop()!r} is defined twice{node.start_mark}")
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class Project:
    """The services of a project's compose files. services: name → merged definition. folder: the
    base of relative paths."""

    folder: Path
    services: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, files: Sequence[Path]) -> "Project":
        """The project of these compose files; a later file adds to the definitions of an earlier
        one."""
        folder = files[0].parent
        values = _dotenv(folder / ".env")
        services: dict[str, dict[str, Any]] = {}
        for file in files:
            document = yaml.load(_with_values(file.read_text(), values), _Loader)
            for name, service in (document.get("services") or {}).items():
                services[name] = _merge(services.get(name, {}), service or {})
        return cls(folder, services)

    def service(self, name: str) -> dict[str, Any]:
        """The definition of a service. Raises Refused if it is missing or can't be started."""
        if name not in self.services:
            raise Refused(f"no such service: {name}")
        if not {"image", "build"} & set(self.services[name]):
            raise Refused(f"service {name!r} has neither an image nor a build context specified")
        return self.services[name]

    def folder_mounted_at(self, service: str, target: str) -> Path:
        """The folder that is mounted at ``target`` in the service, by the last definition. Raises
        Refused if there is none."""
        folder = None
        for volume in self.service(service).get("volumes", []):
            source, mount_point, *_ = volume.split(":")
            if mount_point == target:
                folder = (self.folder / source).resolve()
        if folder is None:
            raise Refused(f"{service} has nothing mounted at {target}")
        return folder

    def environment(self, service: str) -> dict[str, str]:
        """The environment variables of a service: those of its ``env_file``, overridden by its
        ``environment``."""
        definition = self.service(service)
        files = definition.get("env_file", [])
        if isinstance(files, str):
            files = [files]
        values: dict[str, str] = {}
        for file in files:
            values.update(_dotenv(self.folder / file))
        in_definition = definition.get("environment", {})
        values.update({name: str(value) for name, value in in_definition.items()})
        return values


def _with_values(text: str, values: Mapping[str, str]) -> str:
    """The text with a value in place of each variable. A variable without a value has its default,
    or is empty."""
    return _VARIABLE.sub(
        lambda variable: values.get(variable["name"]) or variable["default"] or "", text
    )


def _dotenv(path: Path) -> dict[str, str]:
    return {name: value or "" for name, value in dotenv_values(path, interpolate=False).items()}


def _merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Merges two definitions: the second one adds to mappings and lists, and replaces other
    values."""
    merged = dict(first)
    for key, value in second.items():
        existing = merged.get(key)
        if isinstance(existing, dict) and isinstance(value, dict):
            merged[key] = _merge(existing, value)
        elif isinstance(existing, list) and isinstance(value, list):
            merged[key] = existing + value
        else:
            merged[key] = value
    return merged
