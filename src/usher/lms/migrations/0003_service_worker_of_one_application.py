"""Each application has a service worker of its own, and its token belongs to its OAuth client."""

from typing import Any

import django.db.models.deletion
from django.db import migrations, models
from oauth2_provider.settings import oauth2_settings


def bind(apps: Any, schema_editor: Any) -> None:
    """Where one application is connected, the service worker can only be its own. Where several
    shared one, nobody knows whose it is: ``usher_provision`` binds it."""
    applications = apps.get_model("usher_lms", "ConnectedApplication").objects.all()
    workers = apps.get_model("usher_lms", "ServiceWorker").objects.all()
    if len(applications) != 1 or len(workers) != 1:
        return
    workers.update(application=applications[0])
    clients = apps.get_model(oauth2_settings.APPLICATION_MODEL).objects
    client = clients.filter(client_id=applications[0].oauth_client_id).first()
    if client is not None:
        tokens = apps.get_model(oauth2_settings.ACCESS_TOKEN_MODEL).objects
        tokens.filter(user_id=workers[0].user_id, application=None).update(application_id=client.pk)


class Migration(migrations.Migration):
    dependencies = [
        ("usher_lms", "0002_provider_versions"),
        migrations.swappable_dependency(oauth2_settings.APPLICATION_MODEL),
        migrations.swappable_dependency(oauth2_settings.ACCESS_TOKEN_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="serviceworker",
            name="application",
            field=models.OneToOneField(
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="service_worker",
                to="usher_lms.connectedapplication",
            ),
        ),
        migrations.RunPython(bind, migrations.RunPython.noop),
    ]
