"""Headers with a user agent, for the requests with which Usher checks a connection. They show in an
access log which requests came from Usher."""

DOCTOR = {"User-Agent": "usher doctor"}
CONFORMANCE = {"User-Agent": "usher conformance"}
CONNECT = {"User-Agent": "usher connect"}
#: The test learner of ``usher connect``, ``usher doctor --journey``, ``usher dev`` and the demo.
LEARNER = {"User-Agent": "usher test learner"}
