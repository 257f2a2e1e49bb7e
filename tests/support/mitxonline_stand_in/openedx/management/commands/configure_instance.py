from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from oauth2_provider.models import Application


class Command(BaseCommand):
    """Like the original command: prints the hash of the client secret as the secret, then fails."""

    def add_arguments(self, parser):
        parser.add_argument("platform", nargs="?")
        parser.add_argument("--edx-oauth-client", nargs="?")

    def handle(self, *args, **options):
        uri = f"{settings.OPENEDX_API_BASE_URL}/auth/complete/ol-oauth2/"
        client, _ = Application.objects.get_or_create(
            name=settings.OPENEDX_OAUTH_APP_NAME,
            defaults={
                "redirect_uris": uri,
                "client_type": "confidential",
                "authorization_grant_type": "authorization-code",
                "skip_authorization": True,
            },
        )
        self.stdout.write(f"Your Client ID: {client.client_id}")
        self.stdout.write(f"Your Client Secret: {client.client_secret}")
        raise CommandError("the course to clone from does not exist")
