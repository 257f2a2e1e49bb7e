import fcntl

from django.conf import settings


def get_redis_lock(name, expire=None):
    """A lock for all processes of the machine: a file in place of Redis. The lock ends with the
    process that holds it, not after ``expire`` seconds."""
    return FileLock(settings.BASE_DIR / f"lock-{name}")


class FileLock:
    """A lock with the methods of a lock of Redis. While another process holds the lock, ``acquire``
    waits, even longer than ``timeout``; without ``blocking`` it returns False immediately."""

    def __init__(self, path):
        self.path, self.file = path, None

    def acquire(self, blocking=True, timeout=None):
        self.file = self.path.open("w")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def release(self):
        self.file.close()
