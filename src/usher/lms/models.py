"""All models of the app, imported from its packages so that Django finds them."""

from usher.lms.api.models import BatchOutcome
from usher.lms.connections.models import (
    ConnectedApplication,
    ProviderVersion,
    ServiceClient,
    ServiceWorker,
)
from usher.lms.events.models import Message
from usher.lms.signout.models import LearnerSession, UsedToken

__all__ = [
    "BatchOutcome",
    "ConnectedApplication",
    "LearnerSession",
    "Message",
    "ProviderVersion",
    "ServiceClient",
    "ServiceWorker",
    "UsedToken",
]
