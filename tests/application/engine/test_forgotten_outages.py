"""A test does not log the end of an outage that an earlier test simulated."""

import logging

import pytest

from usher.application.reconcilers import Lms
from usher.client.errors import Unreachable
from usher.client.shared import LocalState
from usher.engine.outages import outages
from usher.testing.connection import forget_clients


def test_forget_clients_also_forgets_outages(caplog: pytest.LogCaptureFixture) -> None:
    state = LocalState()
    for _ in range(2):
        outages.record_failure(
            "account", Unreachable.not_connected("http://lms", OSError()), state, Lms()
        )
    assert "account fails" in caplog.text
    caplog.clear()
    forget_clients()
    with caplog.at_level(logging.INFO):
        outages.record_success("account", LocalState())
    assert caplog.text == ""
