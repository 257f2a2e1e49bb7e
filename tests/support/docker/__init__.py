"""Replacements of ``docker`` and ``kubectl`` on PATH, which run real jobs in a real LMS folder
without containers.

They accept exactly the calls that Tutor and ``usher connect`` make, run a container's command as a
process of this machine, and refuse all other calls. Each call is recorded, so that tests can check
which arguments every user of the machine could see.
"""

from tests.support.docker.engine import ContainerEngine

__all__ = ["ContainerEngine"]
