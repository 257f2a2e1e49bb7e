"""Messages to workers: nobody waits long for a broker that does not answer."""

import socket
import threading

import pytest

from usher.engine import notify


@pytest.fixture
def silent_broker(monkeypatch):
    """A server that accepts connections and never answers: (port, accepted connections)."""
    monkeypatch.setattr(notify, "_failed_at", 0.0)  # forgets failures in earlier tests
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


def send_message():
    """Sends a message about user 1 in a thread, and checks that the sending ends."""
    thread = threading.Thread(target=notify._send, args=(1,), daemon=True)
    thread.start()
    thread.join(90)
    assert not thread.is_alive()


def test_no_second_message_is_sent_to_a_broker_that_did_not_answer(
    silent_broker, settings, monkeypatch
):
    from celery import current_app

    port, accepted = silent_broker
    url = f"redis://127.0.0.1:{port}/0"
    settings.CELERY_BROKER_URL = url
    monkeypatch.setattr(current_app.conf, "broker_url", url)
    monkeypatch.setattr(current_app.conf, "broker_write_url", url)
    send_message()
    assert notify._failed_at  # the time of the failure is remembered
    number_of_connections = len(accepted)
    assert number_of_connections
    send_message()
    assert len(accepted) == number_of_connections


def test_a_message_is_sent_only_once_to_a_broker_that_is_down(settings, monkeypatch):
    from celery import current_app
    from kombu.transport.redis import Transport

    url = "redis://127.0.0.1:9/0"  # no server listens there
    settings.CELERY_BROKER_URL = url
    monkeypatch.setattr(current_app.conf, "broker_url", url)
    monkeypatch.setattr(current_app.conf, "broker_write_url", url)
    monkeypatch.setattr(notify, "_failed_at", 0.0)  # forgets failures in earlier tests
    attempts, connect = [], Transport.establish_connection

    def count_and_connect(transport):
        attempts.append(1)
        return connect(transport)

    monkeypatch.setattr(Transport, "establish_connection", count_and_connect)
    send_message()
    assert len(attempts) == 1
