from django.core.management.base import BaseCommand
from openedx.api import retry_failed_edx_enrollments


class Command(BaseCommand):
    def handle(self, *args, **options):
        retry_failed_edx_enrollments()
