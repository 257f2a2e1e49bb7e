"""The Django app of the ``manage.py`` commands.

Django names a group of commands by the last part of its app's module, so ``manage.py help`` lists
these under ``[usher]``.
"""

from django.apps import AppConfig


class CommandsConfig(AppConfig):
    name = "usher"
    label = "usher_commands"
    verbose_name = "Usher's commands"
