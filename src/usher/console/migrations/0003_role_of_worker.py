"""Renames the field ``what`` of workers to ``role``. The column keeps its name, so that processes of
the version before run on during an upgrade."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("usher_console", "0002_permissions_in_plain_words")]

    operations = [
        migrations.AlterField(
            "worker", "what", models.CharField(max_length=40, db_column="what")
        ),
        migrations.RenameField("worker", "what", "role"),
    ]
