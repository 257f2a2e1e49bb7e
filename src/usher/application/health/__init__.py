"""Health endpoints, the staff page, and the application's report to doctor."""
