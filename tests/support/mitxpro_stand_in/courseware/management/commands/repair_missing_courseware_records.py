from courseware.api import repair_faulty_edx_user
from django.core.management.base import BaseCommand
from users.models import User


class Command(BaseCommand):
    """Like the original command: crashes before the first user, because iterator() after
    prefetch_related() needs a chunk size."""

    def handle(self, *args, **options):
        users = User.faulty_courseware_users
        self.stdout.write(f"Repairing {users.count()} users")
        for user in users.iterator():
            repair_faulty_edx_user(user)
