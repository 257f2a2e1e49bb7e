"""Scripts that run inside an application, through the standard input of ``manage.py shell``."""
