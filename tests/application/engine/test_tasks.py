"""The configuration of Celery's processes at their start."""

import pytest
from celery.signals import beat_embedded_init, beat_init

from usher.application import tasks


@pytest.mark.parametrize("signal", [beat_init, beat_embedded_init])
def test_beat_sweeps_when_it_starts_and_not_only_a_minute_later(signal, monkeypatch):
    sent = []
    monkeypatch.setattr(tasks.sweep, "apply_async", lambda **options: sent.append(options))
    signal.send(sender=None)
    assert sent == [{"retry": False}]
