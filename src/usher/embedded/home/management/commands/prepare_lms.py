from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from usher.embedded.home import seeds


class Command(BaseCommand):
    help = "Migrate, and create the records that the LMS requires (site, login service)."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            call_command("migrate", verbosity=0)
        seeds.create_required_records()
        self.stdout.write("the LMS is prepared")
