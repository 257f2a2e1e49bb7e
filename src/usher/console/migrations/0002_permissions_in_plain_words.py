"""Changes the labels of two permissions, also in the database: Django itself adds missing
permissions but renames none."""

from django.db import migrations

_LABELS = {
    "compare_with_lms": (
        "Can ask the LMS what it has of a learner or a course run",
        "Can compare a learner or a course run with the LMS",
    ),
    "link_accounts": (
        "Can link a learner to an LMS account that is there already",
        "Can link a learner to an existing LMS account",
    ),
}


def rename(apps, schema_editor):
    _rename(apps, schema_editor, 1)


def rename_back(apps, schema_editor):
    _rename(apps, schema_editor, 0)


def _rename(apps, schema_editor, which):
    found = apps.get_model("auth", "Permission").objects.using(schema_editor.connection.alias)
    for codename, labels in _LABELS.items():
        of_console = found.filter(content_type__app_label="usher_console", codename=codename)
        of_console.update(name=labels[which])


class Migration(migrations.Migration):
    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("usher_console", "0001_initial"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="ignored",
            options={
                "default_permissions": (),
                "permissions": [
                    ("view_console", "Can see the console"),
                    ("ignore_refusals", "Can ignore refused records"),
                    ("export_refusals", "Can export refused records"),
                    ("compare_with_lms", "Can compare a learner or a course run with the LMS"),
                    ("link_accounts", "Can link a learner to an existing LMS account"),
                    ("run_doctor", "Can run doctor's checks"),
                ],
            },
        ),
        migrations.RunPython(rename, rename_back),
    ]
