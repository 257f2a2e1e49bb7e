"""The platform lets no two accounts have one e-mail address, though Django's own table would."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("student", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
    ]
    operations = [
        migrations.RunSQL(
            "CREATE UNIQUE INDEX auth_user_email_unique ON auth_user (email)",
            "DROP INDEX auth_user_email_unique",
        )
    ]
