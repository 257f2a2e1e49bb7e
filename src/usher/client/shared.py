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

    def increment(self, key: str, seconds: float) -> int:
        """Adds 1 to the count of ``key``, such as a count of failures, and returns the count. The
        count becomes 0 again ``seconds`` after the last call."""

    def count(self, key: str) -> int:
        """The current count of ``key``; 0 if it was not incremented lately."""

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
        #: When each pause and each claim ends.
        self._until: dict[str, float] = {}
        #: Each count, and when it becomes 0 again.
        self._counts: dict[str, tuple[int, float]] = {}
        #: When each budget allows the next request.
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

    def increment(self, key: str, seconds: float) -> int:
        with self._lock:
            count = self.count(key) + 1
            self._counts[key] = (count, time.monotonic() + seconds)
            return count

    def count(self, key: str) -> int:
        count, until = self._counts.get(key, (0, 0.0))
        return count if until > time.monotonic() else 0

    def clear(self, key: str) -> None:
        with self._lock:
            self._until.pop(key, None)
            self._until.pop(f"claim:{key}", None)
            self._counts.pop(key, None)

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
    """The rate limit and the pauses of all processes that use one Redis. If Redis fails or hangs,
    each process uses a state of its own for some seconds.

    url: Redis's address. prefix: distinguishes this LMS from others in the same Redis.
    """

    #: Lua for ``take`` and, with a second argument, ``take_soon``: a result that begins with ``-``
    #: means that no time to send at was reserved.
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
        #: Monotonic seconds until which Redis is not asked, because it failed.
        self._redis_paused_until = 0.0
        self._prefix = f"usher:{prefix}:"
        #: Used while Redis fails.
        self._local = LocalState()
        #: Key → when Redis was asked, and its answer: when the pause ends, or the count.
        self._cache: dict[str, tuple[float, float]] = {}
        self._run_take = self._redis.register_script(self._TAKE)
        self._run_pause = self._redis.register_script(self._PAUSE)

    def pause(self, key: str, seconds: float) -> None:
        self._local.pause(key, seconds)  # counts while Redis does not answer
        self._cache.pop(key, None)
        self._ask_redis(
            lambda: self._run_pause([self._prefix + key], [max(1, int(seconds * 1000))])
        )

    def remaining(self, key: str) -> float:
        now = time.monotonic()
        asked_at, until = self._cache.get(key, (0.0, 0.0))
        if now - asked_at > _CACHE_SECONDS:
            # Redis answers a negative number if it has no such key.
            milliseconds = self._ask_redis(lambda: self._redis.pttl(self._prefix + key))
            if milliseconds is None:
                seconds = self._local.remaining(key)
            else:
                seconds = max(0, milliseconds) / 1000
            until = now + seconds
            self._cache[key] = (now, until)
        return max(0.0, until - now)

    def claim(self, key: str, seconds: float) -> bool:
        name = f"{self._prefix}claim:{key}"
        result = self._ask_redis(
            lambda: bool(self._redis.set(name, "1", nx=True, px=int(seconds * 1000)))
        )
        return self._local.claim(key, seconds) if result is None else bool(result)

    def increment(self, key: str, seconds: float) -> int:
        name = f"{self._prefix}count:{key}"

        def increment_in_redis() -> int:
            pipe = self._redis.pipeline()
            pipe.incr(name)
            pipe.pexpire(name, int(seconds * 1000))
            new_count, _ = pipe.execute()
            return int(new_count)

        self._cache.pop(f"count:{key}", None)
        # A count in Redis is at least 1, so only a failure of Redis leads to the local count.
        return self._ask_redis(increment_in_redis) or self._local.increment(key, seconds)

    def count(self, key: str) -> int:
        now = time.monotonic()
        asked_at, count = self._cache.get(f"count:{key}", (0.0, 0.0))
        if now - asked_at > _CACHE_SECONDS:
            # In a list, because None means both that Redis has no such key and that Redis failed.
            reply = self._ask_redis(lambda: [self._redis.get(f"{self._prefix}count:{key}")])
            count = float(reply[0] or 0) if reply else self._local.count(key)
            self._cache[f"count:{key}"] = (now, count)
        return int(count)

    def clear(self, key: str) -> None:
        self._local.clear(key)
        self._cache.pop(key, None)
        self._cache.pop(f"count:{key}", None)
        names = [f"{self._prefix}{kind}{key}" for kind in ("", "claim:", "count:")]
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
