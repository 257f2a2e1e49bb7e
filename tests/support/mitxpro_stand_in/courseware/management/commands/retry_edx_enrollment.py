from courseware.api import retry_failed_edx_enrollments
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    def handle(self, *args, **options):
        retry_failed_edx_enrollments()
