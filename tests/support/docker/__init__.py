"""Stand-ins for ``docker`` and ``kubectl`` on PATH: real jobs in a real LMS folder, no containers.

They answer exactly the calls that Tutor and ``usher connect`` make, run what a container would run
as a process of this machine, and refuse everything else loudly. Each call is written down, so that
tests can see what the engine, and so every process list, was shown.
"""

from tests.support.docker.engine import ContainerEngine

__all__ = ["ContainerEngine"]
