"""The message about a broker's error contains the broker's address, but not its password."""

import pytest

from usher.engine.notify import connection_error


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        (
            "redis://127.0.0.1:9/0",
            "Error 111 connecting to 127.0.0.1:9. Connection refused.",
            "redis://127.0.0.1:9/0: Error 111 connecting to 127.0.0.1:9. Connection refused.",
        ),
        ("amqp://shop:s3%40x@mq:5672//", "for s3@x or s3%40x", "amqp://mq:5672//: for … or …."),
        ("redis://:s3cret@a/0;redis://:other@b/0", "", "redis://a/0: OSError."),
        ("redis://a/0?password=s3cret", "", "redis://a/0: OSError."),
    ],
)
def test_connection_error_names_the_broker_s_address_without_the_password(
    url: str, error: str, message: str
) -> None:
    assert connection_error(url, OSError(error)) == message
