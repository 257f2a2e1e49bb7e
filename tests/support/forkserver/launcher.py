"""``python`` as tests find it: the server forks what is asked for, and this process stands for it.

What the server can't do, or no server at all, is Python's own work. Python imports by itself what
is imported here, or has it built in: this is run hundreds of times.
"""

import _signal as signals
import _socket as sockets
import marshal
import os
import sys

PYTHON = sys.executable
SOCKET = os.path.join(os.path.dirname(os.path.dirname(__file__)), "socket")
SIGNALS = (signals.SIGHUP, signals.SIGINT, signals.SIGQUIT, signals.SIGTERM)
INTEGER = 4


def main(words):
    if not can_be_forked(words):
        be_python(words)
    connection = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    try:
        connection.connect(SOCKET)
    except OSError:
        be_python(words)
    asked = marshal.dumps((words, os.getcwd(), dict(os.environ), umask()))
    streams = b"".join(number.to_bytes(INTEGER, sys.byteorder) for number in range(3))
    ancillary = [(sockets.SOL_SOCKET, sockets.SCM_RIGHTS, streams)]
    connection.sendmsg([len(asked).to_bytes(INTEGER, "big")], ancillary)
    connection.sendall(asked)
    stand_for(connection)


def can_be_forked(words):
    kind = next((word for word in words if word != "-B"), "")
    if not kind or (kind.startswith("-") and kind not in ("-", "-c", "-m")):
        return False
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return not any(os.path.exists(os.path.join(folder, "sitecustomize.py")) for folder in path)


def be_python(words):
    os.execv(PYTHON, [PYTHON, *words])


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def stand_for(connection):
    """Signals go to the process, its end is ours; our end, whatever the way, is its own."""
    process = integer(connection)

    def pass_on(received, _):
        try:
            os.kill(process, received)
        except ProcessLookupError:
            pass  # its end is on the way

    for number in SIGNALS:
        signals.signal(number, pass_on)
    # Whoever reads the end of our output waits for the process alone.
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    status = integer(connection)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number in SIGNALS:
            signals.signal(number, signals.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


def integer(connection):
    received = b""
    while len(received) < INTEGER:
        part = connection.recv(INTEGER - len(received))
        if not part:
            os._exit(255)  # the server is gone
        received += part
    return int.from_bytes(received, "big")


main(sys.argv[1:])
