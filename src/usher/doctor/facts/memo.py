"""Facts that are collected once, in the thread that first needs them; other threads wait."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class NotKnownError(Exception):
    """A fact can't be found out. The message says why; it is printed with the skipped check."""


class NotApplicableError(NotKnownError):
    """The fact does not apply to this deployment."""


class fact(Generic[T]):
    """Decorates a method that is then read like a property. The first read calls the method; its
    result, or the error that it raises, is kept for the object. Other threads wait for it."""

    def __init__(self, gather: Callable[[Any], T]) -> None:
        self.gather = gather
        self.__doc__ = gather.__doc__
        self._lock = Lock()

    def __set_name__(self, owner: type, name: str) -> None:
        #: The attribute of the object that has the ``Future`` of the result.
        self._attribute = f"_fact_{name}"

    @overload
    def __get__(self, instance: None, owner: type) -> "fact[T]": ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> "fact[T] | T":
        if instance is None:
            return self
        with self._lock:
            future: Future[T] | None = vars(instance).get(self._attribute)
            is_first_caller = future is None
            if future is None:
                future = vars(instance)[self._attribute] = Future()
        if is_first_caller:
            try:
                future.set_result(self.gather(instance))
            except BaseException as error:  # noqa: BLE001 - raised again for each caller
                future.set_exception(error)
        return future.result()
