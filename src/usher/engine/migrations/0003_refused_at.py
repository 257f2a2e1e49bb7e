from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("usher_engine", "0002_work")]

    operations = [
        migrations.RemoveIndex("work", "work_refused"),
        migrations.RenameField("work", "parked_at", "refused_at"),
        migrations.AddIndex(
            "work",
            models.Index(
                fields=["kind", "error_code", "refused_at", "object_id"],
                name="work_refused",
                condition=Q(refused_at__isnull=False),
            ),
        ),
    ]
