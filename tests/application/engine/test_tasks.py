"""The configuration of Celery's processes at their start."""

import pytest
from celery.signals import beat_embedded_init, beat_init

from usher.application import tasks


@pytest.mark.parametrize("signal", [beat_init, beat_embedded_init])
def test_celery_beat_sends_a_sweep_when_it_starts(signal, monkeypatch):
    sent = []
    monkeypatch.setattr(tasks.sweep, "apply_async", lambda **options: sent.append(options))
    signal.send(sender=None)
    assert sent == [{"retry": False}]
