"""Messages to workers: nobody waits long for a broker that does not answer."""

import socket
import threading

import pytest

from usher.engine import notify


@pytest.fixture
def silent_broker(monkeypatch):
    """A server that accepts connections and never answers: (port, accepted connections)."""
    monkeypatch.setattr(notify, "_failed_at", 0.0)
    accepted = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept():
            while True:
                try:
                    accepted.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1], accepted
        server.shutdown(socket.SHUT_RDWR)
    thread.join(90)
    for connection in accepted:
        connection.close()


def sending_ends(user_id=1):
    """Whether a thread that sends a message ends."""
    thread = threading.Thread(target=notify._send, args=(user_id,), daemon=True)
    thread.start()
    thread.join(90)
    return not thread.is_alive()


def test_no_second_message_is_sent_to_a_broker_that_did_not_answer(
    silent_broker, settings, monkeypatch
):
    from celery import current_app

    port, accepted = silent_broker
    url = f"redis://127.0.0.1:{port}/0"
    settings.CELERY_BROKER_URL = url
    monkeypatch.setattr(current_app.conf, "broker_url", url)
    monkeypatch.setattr(current_app.conf, "broker_write_url", url)
    assert sending_ends()
    assert notify._failed_at
    number_of_connections = len(accepted)
    assert number_of_connections
    assert sending_ends()
    assert len(accepted) == number_of_connections


def test_a_message_is_sent_only_once_to_a_broker_that_is_down(settings, monkeypatch):
    from celery import current_app
    from kombu.transport.redis import Transport

    url = "redis://127.0.0.1:9/0"
    settings.CELERY_BROKER_URL = url
    monkeypatch.setattr(current_app.conf, "broker_url", url)
    monkeypatch.setattr(current_app.conf, "broker_write_url", url)
    monkeypatch.setattr(notify, "_failed_at", 0.0)
    attempts, connect = [], Transport.establish_connection

    def count_and_connect(transport):
        attempts.append(1)
        return connect(transport)

    monkeypatch.setattr(Transport, "establish_connection", count_and_connect)
    assert sending_ends()
    assert len(attempts) == 1
