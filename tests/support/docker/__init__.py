"""Stand-ins for ``docker`` and ``kubectl`` on PATH. They run real jobs in a real LMS folder, but no
containers.

They accept exactly the calls that Tutor and ``usher connect`` make, run a container's command as a
process of this machine, and refuse all other calls. They record each call, so that tests can check
its arguments, which every user of a machine can see.
"""

from tests.support.docker.engine import ContainerEngine

__all__ = ["ContainerEngine"]
