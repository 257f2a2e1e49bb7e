"""Packages of an LMS whose versions don't fit together."""

from __future__ import annotations

from importlib.metadata import distributions
from pathlib import Path

import pytest

from usher.lms.reporting import packages


@pytest.fixture
def find_conflicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that installs packages, given as name=(version, requirements), and returns the
    conflicts that usher_report names."""

    def install_and_find_conflicts(**described: tuple[str, list[str]]) -> list[str]:
        for name, (version, requirements) in described.items():
            folder = tmp_path / f"{name}-{version}.dist-info"
            folder.mkdir()
            lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
            lines += [f"Requires-Dist: {requirement}" for requirement in requirements]
            (folder / "METADATA").write_text("\n".join(lines) + "\n")
        by_name = {
            packages._canonical(distribution.metadata["Name"]): distribution
            for distribution in distributions(path=[str(tmp_path)])
        }
        monkeypatch.setattr(packages, "_installed_distributions", lambda: by_name)
        return packages.conflicts()

    return install_and_find_conflicts


def test_a_newer_version_than_a_backend_requires_is_not_reported(find_conflicts) -> None:
    """The backend requires an older attrs, but is installed without its dependencies."""
    assert (
        find_conflicts(
            social_auth_mitxpro=("0.7.1", ["attrs<25.0.0,>=24.0.0"]),
            attrs=("25.3.0", []),
        )
        == []
    )


def test_an_older_version_that_the_platform_does_not_support_is_reported(find_conflicts) -> None:
    assert find_conflicts(
        social_auth_mitxpro=("0.7.1", ["attrs<25.0.0,>=24.0.0"]),
        referencing=("0.36.2", ["attrs>=25.1"]),
        attrs=("24.2.0", []),
    ) == ["referencing requires attrs>=25.1, but it is 24.2.0."]


def test_a_missing_requirement_of_a_backend_is_named(find_conflicts) -> None:
    assert find_conflicts(social_auth_mitxpro=("0.7.1", ["social-auth-core<5"])) == [
        "social_auth_mitxpro requires social-auth-core, which is not installed."
    ]
