"""Every check in the catalogue has a test that injects its fault."""

import re
import subprocess
import sys
from pathlib import Path

from tests.doctor.test_runner import CATALOGUE
from usher.doctor.check import all_checks

TESTS = Path(__file__).parent


def test_every_check_has_a_test_that_injects_its_fault() -> None:
    # test_runner.py names checks without injecting their faults.
    sources = [path for path in TESTS.rglob("test_*.py") if path.name != "test_runner.py"]
    sources.append(TESTS.parent / "lms/test_service_clients.py")  # OAU-3
    source_text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    ids_in_tests = set(re.findall(r'"([A-Z]{3}-\d+)"', source_text))
    ids = {
        f"{family}-{number}"
        for family, count in CATALOGUE.items()
        for number in range(1, count + 1)
    }
    assert sorted(ids - ids_in_tests) == []
    assert ids <= set(all_checks())


def test_another_distribution_adds_a_check(tmp_path: Path) -> None:
    """An entry point in the group ``usher.doctor.checks`` is enough; no setting is needed."""
    (tmp_path / "disk_checks.py").write_text(
        "from usher.doctor.check import Check, check, ok\n\n"
        "@check\nclass DiskHasRoom(Check):\n"
        '    """The disk has room.\n\n    Symptom: x. Cause: y. Fix: z.\n    """\n\n'
        '    id = "DSK-1"\n\n'
        "    def probe(self, context):\n"
        '        return ok("plenty")\n'
    )
    information = tmp_path / "disk_checks-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: disk-checks\nVersion: 1.0\n"
    )
    (information / "entry_points.txt").write_text("[usher.doctor.checks]\ndisk = disk_checks\n")
    result = subprocess.run(
        [sys.executable, "-m", "usher.cli.main", "doctor", "--list"],
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert "DSK-1  The disk has room" in result.stdout, result.stderr
