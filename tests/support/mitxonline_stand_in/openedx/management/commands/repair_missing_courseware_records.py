from django.core.management.base import BaseCommand
from openedx.api import repair_faulty_edx_user
from users.models import User


class Command(BaseCommand):
    """Like the original command: always exits with 0, so that only the output shows failures."""

    def add_arguments(self, parser):
        parser.add_argument("--user", type=str)

    def handle(self, *args, **options):
        users = User.faulty_openedx_users.all()
        if options["user"]:
            users = User.objects.filter(username=options["user"])
        self.stdout.write(f"Repairing {users.count()} users")
        repaired = failed = 0
        for user in users:
            try:
                repair_faulty_edx_user(user)
                repaired += 1
            except Exception as error:
                failed += 1
                self.stderr.write(f"{user.username} ({user.email}): Failed to repair ({error})")
        self.stdout.write(f"Repair complete: {repaired} repaired, {failed} failures")
