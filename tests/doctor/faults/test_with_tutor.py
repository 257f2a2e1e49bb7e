"""No check is skipped if the application and the LMS run and doctor has the LMS's real Tutor
root."""

import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.doctor.faults.system import System
from tests.support.docker import ContainerEngine
from tests.support.tutor import TutorRoot
from tests.support.tutor.environments import tutor_executable

pytestmark = pytest.mark.slow

#: The release of Tutor.
RELEASE = 22


def test_in_a_healthy_system_with_tutor_every_check_succeeds(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    host = urlsplit(system.pair.lms_url).netloc
    TutorRoot.make(RELEASE, root, plugins=("usher",), config={"LMS_HOST": host})
    engine = ContainerEngine.make(tmp_path / "engine", system.pair.lms_home)
    path = f"{engine.bin}{os.pathsep}{os.environ['PATH']}"
    for name, value in {**engine.environment, "PATH": path}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TUTOR_ROOT", str(root))
    monkeypatch.setenv("TUTOR_PLUGINS_ROOT", str(tmp_path / "plugins"))
    executable = str(tutor_executable(RELEASE))
    report = system.examine(tutor_root=root, tutor_executable=executable, lms_manage=None)
    assert [line.id for line in report.root_causes] == []
    findings = [(line.id, line.finding) for line in report.lines if line.finding.applies]
    not_ok = [(name, finding.seen) for name, finding in findings if finding.status != "ok"]
    assert not_ok == []
