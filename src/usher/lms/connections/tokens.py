"""Access tokens of the OAuth toolkit, whose table differs between its releases."""

from __future__ import annotations

import hashlib
from typing import Any

from oauth2_provider.models import get_access_token_model


def find_access_token(token: str) -> Any | None:
    """The row of exactly this ``token`` with its user, or None. Releases of the toolkit from 3.0 on
    index a checksum. With older ones, MySQL and MariaDB ignore case when they compare tokens."""
    model = get_access_token_model()
    rows = model.objects.select_related("user", "application")
    if any(field.name == "token_checksum" for field in model._meta.get_fields()):
        checksum = hashlib.sha256(token.encode()).hexdigest()
        return rows.filter(token_checksum=checksum).first()
    return next((row for row in rows.filter(token=token) if row.token == token), None)
