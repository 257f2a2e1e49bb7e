from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

from shop.courses.models import OpenEdxApiAuth, OpenEdxUser
from shop.courses.openedx import OpenEdxError, create_auth_token, create_user


class Command(BaseCommand):
    help = "Creates missing LMS accounts and tokens"

    def add_arguments(self, parser):
        parser.add_argument("--user")

    def handle(self, *args, **options):
        users = get_user_model().objects.filter(is_active=True).order_by("pk")
        if options["user"]:
            users = users.filter(username=options["user"])
        failed = 0
        for user in users:
            try:
                if not OpenEdxUser.objects.filter(user=user).exists():
                    create_user(user)
                    self.stdout.write(f"Created edX user for {user.username}")
                if not OpenEdxApiAuth.objects.filter(user=user).exists():
                    create_auth_token(user)
                    self.stdout.write(f"Created edX auth token for {user.username}")
            except OpenEdxError as error:
                failed += 1
                self.stderr.write(str(error))
        if failed:
            raise CommandError(f"{failed} users failed")
        self.stdout.write("Done")
