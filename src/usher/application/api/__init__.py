"""The API that an integrator's own pages call, under ``/api/v1/``."""
