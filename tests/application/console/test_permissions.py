"""A migration renames the labels of permissions that a database already has."""

from importlib import import_module

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission
from django.db import connection

from usher.console.models import Ignored

migration = import_module("usher.console.migrations.0002_permissions_in_plain_words")


class Editor:
    """Stands in for the schema editor that a migration gets."""

    connection = connection


@pytest.mark.django_db
def test_labels_of_existing_permissions_are_renamed() -> None:
    labels = dict(Ignored._meta.permissions)
    permissions = Permission.objects.filter(content_type__app_label="usher_console")
    migration.rename_back(apps, Editor)
    assert dict(permissions.values_list("codename", "name")) != labels
    migration.rename(apps, Editor)
    assert dict(permissions.values_list("codename", "name")) == labels
