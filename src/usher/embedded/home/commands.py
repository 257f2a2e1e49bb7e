"""``manage.py`` of an LMS folder."""

import os


def main(argv: list[str]) -> None:
    """Run ``manage.py <command>``. The word ``lms`` or ``cms`` before the command has no effect."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "usher.embedded.settings")
    from django.core.management import execute_from_command_line

    arguments = argv[1:]
    if arguments[:1] in (["lms"], ["cms"]):
        arguments = arguments[1:]
    execute_from_command_line([argv[0], *arguments])
