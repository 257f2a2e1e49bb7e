"""Renames the field ``what`` of watermarks to ``name``. The column keeps its name, so that processes
of the version before run on during an upgrade, and migration 0014 of ``usher`` can be reversed."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("usher_engine", "0003_refused_at")]

    operations = [
        migrations.AlterField(
            "watermark",
            "what",
            models.CharField(max_length=32, unique=True, db_column="what"),
        ),
        migrations.RenameField("watermark", "what", "name"),
    ]
