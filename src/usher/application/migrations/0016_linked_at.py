"""Distinguishes accounts that an operator linked from accounts that were created for a learner."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("usher", "0015_work_in_one_table")]

    operations = [
        migrations.AddField(
            model_name="lmsaccount",
            name="linked_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
    ]
