"""State of one LMS that all workers share: pauses, probes and the budget of requests.

The state is kept in Redis (``RedisState``) or, if there is only one process, in its memory
(``LocalState``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

#: Seconds for which a value read from Redis is used.
_CACHE_SECONDS = 0.25
#: Seconds to wait for an answer of Redis.
_REDIS_TIMEOUT_SECONDS = 0.1
#: Seconds until Redis is asked again after it did not answer.
_REDIS_PAUSE_SECONDS = 5.0


class SharedState(Protocol):
    """Limits that workers share. Keys are short names, such as ``group:courses`` or
    ``circuit:host``; all durations are in seconds."""

    def pause(self, key: str, seconds: float) -> None:
        """Pauses ``key`` for all workers. An earlier pause that lasts longer stays."""

    def remaining(self, key: str) -> float:
        """Seconds until the pause of ``key`` ends; 0 if there is none."""

    def claim(self, key: str, seconds: float) -> bool:
        """True for the first caller within ``seconds``, False for all others: only one worker does
        what ``key`` names."""

    def raise_level(self, key: str, seconds: float) -> int:
        """Counts a failure of ``key`` and returns the count. The count becomes 0 again ``seconds``
        after the last failure."""

    def level(self, key: str) -> int:
        """The count of failures; 0 for none."""

    def clear(self, key: str) -> None:
        """Removes the pause, the claim and the count of ``key``."""

    def take(self, key: str, per_second: float) -> float:
        """Reserves the time of one request in the budget ``key``, which allows ``per_second``
        requests a second. Returns the seconds to wait before sending the request."""

    def take_soon(self, key: str, per_second: float, within: float) -> tuple[bool, float]:
        """As ``take``, if the wait is at most ``within`` seconds: returns True and the seconds to
        wait. Otherwise reserves nothing, so that callers of ``take`` come first: returns False and
        the seconds after which to try again."""


class LocalState:
    """Shared state for the threads of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}
        self._levels: dict[str, tuple[int, float]] = {}
        self._next: dict[str, float] = {}

    def pause(self, key: str, seconds: float) -> None:
        with self._lock:
            until = time.monotonic() + seconds
            self._until[key] = max(until, self._until.get(key, 0.0))

    def remaining(self, key: str) -> float:
        until = self._until.get(key)
        return 0.0 if until is None else max(0.0, until - time.monotonic())

    def claim(self, key: str, seconds: float) -> bool:
        with self._lock:
            name, now = f"claim:{key}", time.monotonic()
            if self._until.get(name, 0.0) > now:
                return False
            self._until[name] = now + seconds
            return True

    def raise_level(self, key: str, seconds: float) -> int:
        with self._lock:
            level = self.level(key) + 1
            self._levels[key] = (level, time.monotonic() + seconds)
            return level

    def level(self, key: str) -> int:
        level, until = self._levels.get(key, (0, 0.0))
        return level if until > time.monotonic() else 0

    def clear(self, key: str) -> None:
        with self._lock:
            self._until.pop(key, None)
            self._until.pop(f"claim:{key}", None)
            self._levels.pop(key, None)

    def take(self, key: str, per_second: float) -> float:
        with self._lock:
            now = time.monotonic()
            slot_at = max(now, self._next.get(key, 0.0))
            self._next[key] = slot_at + 1.0 / per_second
            return slot_at - now

    def take_soon(self, key: str, per_second: float, within: float) -> tuple[bool, float]:
        with self._lock:
            now = time.monotonic()
            slot_at = max(now, self._next.get(key, 0.0))
            if slot_at - now > within:
                return False, slot_at - now - within
            self._next[key] = slot_at + 1.0 / per_second
            return True, slot_at - now


class RedisState:
    """Shared state for all processes that use one Redis. If Redis fails or hangs, each process uses
    a state of its own for some seconds.

    url: Redis's address. prefix: distinguishes this LMS from others in the same Redis.
    """

    #: Lua for ``take`` and, with a second argument, ``take_soon``: a result that begins with ``-``
    #: means that nothing was reserved.
    _TAKE = """
    local t = redis.call('TIME')
    local now = tonumber(t[1]) + tonumber(t[2]) / 1e6
    local at = math.max(now, tonumber(redis.call('GET', KEYS[1]) or '0'))
    if ARGV[2] and at - now > tonumber(ARGV[2]) then
      return '-' .. string.format('%.6f', at - now - tonumber(ARGV[2]))
    end
    redis.call('SET', KEYS[1], string.format('%.6f', at + 1 / tonumber(ARGV[1])), 'EX', 3600)
    return string.format('%.6f', at - now)
    """
    _PAUSE = """
    if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then
      redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
    end
    """

    def __init__(self, url: str, prefix: str) -> None:
        import redis

        self._errors = (redis.RedisError, OSError)
        self._redis: Any = redis.Redis.from_url(
            url,
            socket_timeout=_REDIS_TIMEOUT_SECONDS,
            socket_connect_timeout=_REDIS_TIMEOUT_SECONDS,
        )
        self._redis_paused_until = 0.0
        self._prefix = f"usher:{prefix}:"
        self._local = LocalState()
        self._cache: dict[str, tuple[float, float]] = {}
        self._run_take = self._redis.register_script(self._TAKE)
        self._run_pause = self._redis.register_script(self._PAUSE)

    def pause(self, key: str, seconds: float) -> None:
        self._local.pause(key, seconds)
        self._cache.pop(key, None)
        self._ask_redis(
            lambda: self._run_pause([self._prefix + key], [max(1, int(seconds * 1000))])
        )

    def remaining(self, key: str) -> float:
        now = time.monotonic()
        asked_at, until = self._cache.get(key, (0.0, 0.0))
        if now - asked_at > _CACHE_SECONDS:
            milliseconds = self._ask_redis(lambda: self._redis.pttl(self._prefix + key))
            until = now + (
                self._local.remaining(key) if milliseconds is None else max(0, milliseconds) / 1000
            )
            self._cache[key] = (now, until)
        return max(0.0, until - now)

    def claim(self, key: str, seconds: float) -> bool:
        name = f"{self._prefix}claim:{key}"
        result = self._ask_redis(
            lambda: bool(self._redis.set(name, "1", nx=True, px=int(seconds * 1000)))
        )
        return self._local.claim(key, seconds) if result is None else bool(result)

    def raise_level(self, key: str, seconds: float) -> int:
        def count() -> int:
            pipe = self._redis.pipeline()
            pipe.incr(f"{self._prefix}level:{key}")
            pipe.pexpire(f"{self._prefix}level:{key}", int(seconds * 1000))
            return int(pipe.execute()[0])

        self._cache.pop(f"level:{key}", None)
        return self._ask_redis(count) or self._local.raise_level(key, seconds)

    def level(self, key: str) -> int:
        now = time.monotonic()
        asked_at, value = self._cache.get(f"level:{key}", (0.0, 0.0))
        if now - asked_at > _CACHE_SECONDS:
            reply = self._ask_redis(lambda: [self._redis.get(f"{self._prefix}level:{key}")])
            value = float(reply[0] or 0) if reply else self._local.level(key)
            self._cache[f"level:{key}"] = (now, value)
        return int(value)

    def clear(self, key: str) -> None:
        self._local.clear(key)
        self._cache.pop(key, None)
        self._cache.pop(f"level:{key}", None)
        names = [f"{self._prefix}{kind}{key}" for kind in ("", "claim:", "level:")]
        self._ask_redis(lambda: self._redis.delete(*names))

    def take(self, key: str, per_second: float) -> float:
        reply = self._ask_redis(lambda: self._run_take([f"{self._prefix}next:{key}"], [per_second]))
        return self._local.take(key, per_second) if reply is None else float(reply)

    def take_soon(self, key: str, per_second: float, within: float) -> tuple[bool, float]:
        name = f"{self._prefix}next:{key}"
        reply = self._ask_redis(lambda: self._run_take([name], [per_second, within]))
        if reply is None:
            return self._local.take_soon(key, per_second, within)
        text = reply.decode() if isinstance(reply, bytes) else str(reply)
        return not text.startswith("-"), abs(float(text))

    def _ask_redis(self, call: Callable[[], Any]) -> Any:
        """The result of ``call()``; None if Redis fails, or failed a moment ago."""
        if time.monotonic() < self._redis_paused_until:
            return None
        try:
            return call()
        except self._errors:
            self._redis_paused_until = time.monotonic() + _REDIS_PAUSE_SECONDS
            return None
