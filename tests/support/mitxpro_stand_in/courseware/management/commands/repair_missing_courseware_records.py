from courseware.api import repair_faulty_edx_user
from django.core.management.base import BaseCommand
from users.models import User


class Command(BaseCommand):
    """Crashes before the first user, as the original does: iterator() after prefetch_related()."""

    def handle(self, *args, **options):
        users = User.faulty_courseware_users
        self.stdout.write(f"Repairing {users.count()} users")
        for user in users.iterator():
            repair_faulty_edx_user(user)
